//! Other programs' rules about forwarded packets: looked at, told, never changed.

use minionet_core::addr::{Cidr, Family};
use minionet_core::forward::{Backend, ForwardPolicy, Table, judge};
use minionet_core::plan::AddressPlan;
use minionet_netlink::nft::Nft;
use minionet_netlink::xtables;
use tracing::{info, warn};

/// What was found when the rules were looked at last.
#[derive(Default)]
pub struct Forwarding {
    /// The tables of nftables, and the generation of its rulesets when they were read.
    nft: Option<(u32, Vec<Table>)>,
    policies: Vec<ForwardPolicy>,
    /// Why the rules cannot be looked at, as it was last logged.
    failure: Option<String>,
}

impl Forwarding {
    /// Looks at the rules, and says what is new in them. Returns the tables and chains of nftables
    /// whose rules matter: where they change, another look is due.
    ///
    /// Whether packets really are dropped cannot be told for sure, so this is a warning, and never
    /// a reason for pods not to be attached.
    pub fn look(&mut self, plan: &AddressPlan) -> Vec<(String, String)> {
        let pods: Vec<Cidr> = plan.spec().pod_networks.iter().map(|p| p.network).collect();
        self.compare(&pods);
        self.watched()
    }

    fn compare(&mut self, pods: &[Cidr]) {
        let found = match self.read(pods) {
            Ok(tables) => judge(&tables, pods),
            Err(failure) => {
                if self.failure.as_ref() != Some(&failure) {
                    warn!("whether other programs' rules drop pods' packets is not known: {failure}");
                }
                self.failure = Some(failure);
                return;
            }
        };
        self.failure = None;
        for warning in found.iter().filter(|p| !self.policies.contains(p)).filter_map(ForwardPolicy::warning)
        {
            warn!("{warning}");
        }
        for old in self.policies.iter().filter(|old| !old.open) {
            let same = |p: &&ForwardPolicy| p.place() == old.place();
            if found.iter().find(same).is_none_or(|now| now.open) {
                info!("{} lets pods' packets pass now", old.place());
            }
        }
        self.policies = found;
    }

    /// The chains of other programs that drop what is forwarded, those among them that let pods'
    /// packets pass included.
    pub fn policies(&self) -> &[ForwardPolicy] {
        &self.policies
    }

    fn watched(&self) -> Vec<(String, String)> {
        let tables = self.nft.iter().flat_map(|(_, tables)| tables);
        let watched = tables.filter(|table| {
            self.policies
                .iter()
                .any(|p| p.backend == Backend::Nft && (p.family, &p.table) == (table.family, &table.name))
        });
        watched.flat_map(|t| t.chains.keys().map(|chain| (t.name.clone(), chain.clone()))).collect()
    }

    /// The tables of other programs, as far as forwarded packets go through them.
    ///
    /// # Errors
    /// Why they cannot be read, in words.
    pub fn read(&mut self, pods: &[Cidr]) -> Result<Vec<Table>, String> {
        let mut nft = Nft::open().map_err(|e| e.to_string())?;
        let generation = nft.generation().map_err(|e| e.to_string())?;
        if self.nft.as_ref().is_none_or(|(read, _)| *read != generation) {
            self.nft = Some((generation, nft.forward_tables().map_err(|e| e.to_string())?));
        }
        let mut tables = self.nft.iter().flat_map(|(_, tables)| tables).cloned().collect::<Vec<_>>();
        for family in [Family::V4, Family::V6] {
            if pods.iter().any(|p| p.family() == family) {
                tables.extend(xtables::filter(family).map_err(|e| e.to_string())?);
            }
        }
        Ok(tables)
    }
}
