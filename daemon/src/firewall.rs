//! The nft table of the overlay: compared with what the kernel holds, and mended where it differs.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use anyhow::Result;
use ipnetwork::IpNetwork;
use minionet_core::addr::Cidr;
use minionet_core::cni::attachment::HOST_IFNAME_PREFIX;
use minionet_core::config::Config;
use minionet_core::nft::{
    self, Drift, Element, Guard, KUBE_PROXY_MARK, Masquerade, Moved, Ruleset, SetSpec, TABLE, Tally, guard,
    host_ports, masquerade, member_sets, moved,
};
use minionet_core::plan::{AddressPlan, NodePlan};
use minionet_netlink::nft::Nft;
use tracing::{debug, info};

use crate::hostports;

/// Keeps the table as it should be.
pub struct Firewall {
    nft: Nft,
    right: Option<Right>,
    rules: Option<usize>,
}

/// When the table was read last, if it was as it should be then.
#[derive(PartialEq)]
struct Right {
    /// How many transactions had been committed in this namespace.
    generation: u32,
    /// What the table was to be, as a number.
    wanted: u64,
}

/// All that the table depends on.
pub struct Basis<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The plan.
    pub plan: &'a AddressPlan,
    /// This node's place in it.
    pub me: &'a NodePlan,
    /// The members' addresses on the underlay.
    pub members: Vec<IpAddr>,
}

impl Hash for Basis<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Config { port, vni, masquerade, masquerade_exempt, .. } = self.config;
        // A place in a plan follows from the address.
        let place = (self.plan.digest(), self.me.node);
        (port, vni, masquerade, masquerade_exempt, place, &self.members).hash(state);
    }
}

impl Firewall {
    /// Opens the kernel's door to nftables.
    ///
    /// # Errors
    /// When the kernel has no nftables, or the right to use it is missing.
    pub fn open() -> Result<Self> {
        Ok(Firewall { nft: Nft::open()?, right: None, rules: None })
    }

    /// Mends the table where it is not as it should be: a member that comes or goes is an element
    /// of a set, for anything else the table is replaced as a whole. Unless `trusted`, nobody is
    /// taken out of the members: what an earlier run knew may still be right. Says what was mended.
    ///
    /// The kernel counts the transactions of a namespace. While there was none since the table was
    /// found to be right it still is, and is not read.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or refuses.
    pub fn reconcile(&mut self, basis: Basis<'_>, trusted: bool) -> Result<Vec<String>> {
        let now = Right { generation: self.nft.generation()?, wanted: number(&basis) };
        let mut mended = Vec::new();
        if self.right.as_ref() != Some(&now) {
            self.right = None;
            let wanted = ruleset(basis);
            self.rules = Some(wanted.chains.iter().map(|chain| chain.rules.len()).sum());
            let drift = self.nft.drift(&wanted)?;
            if drift.is_empty() {
                self.right = Some(now);
            } else {
                mended = self.mend(&wanted, &drift, trusted)?;
            }
        }
        hostports::reconcile(&mut self.nft)?;
        Ok(mended)
    }

    /// Lets newcomers in, before the table is looked at.
    ///
    /// # Errors
    /// When the kernel refuses: where there is no such table yet, for one.
    pub fn welcome(&mut self, members: &[IpAddr]) -> Result<()> {
        for (spec, v6) in member_sets().into_iter().zip([false, true]) {
            let of = members.iter().filter(|ip| ip.is_ipv6() == v6);
            let elements: Vec<Element> = of.map(|ip| Element::key([(*ip).into()])).collect();
            self.nft.add_elements(TABLE, &spec, &elements)?;
        }
        Ok(())
    }

    /// How many rules the table should have, once that is known.
    pub fn rules(&self) -> Option<usize> {
        self.rules
    }

    fn mend(&mut self, wanted: &Ruleset, drift: &[Drift], trusted: bool) -> Result<Vec<String>> {
        let members = Members::of(drift);
        if members.differences() < drift.len() {
            let others = drift.iter().find(|d| !Members::has(d));
            let told = others.map(|first| format!("nft table inet {TABLE}: {first}{}", more(drift.len())));
            if let Some(told) = &told {
                info!("{told}");
            }
            self.nft.apply(wanted)?;
            return Ok(told.into_iter().collect());
        }
        let mut mended = Vec::new();
        for (spec, come, gone) in members.sets {
            if !come.is_empty() {
                self.nft.put_elements(TABLE, &spec, &come)?;
                mended.push(format!("nft set {}: {} members put in", spec.name, come.len()));
            }
            if trusted && !gone.is_empty() {
                self.nft.delete_elements(TABLE, &spec, &gone)?;
                mended.push(format!("nft set {}: {} members taken out", spec.name, gone.len()));
            }
        }
        Ok(mended)
    }
}

/// What the rules have counted; nothing where they cannot be read.
pub fn tally() -> Option<Tally> {
    let rules = Nft::open().and_then(|mut nft| nft.rules(TABLE));
    match rules {
        Ok(rules) => Some(nft::tally(&rules)),
        Err(error) => {
            debug!("what the rules counted cannot be read: {error}");
            None
        }
    }
}

/// The differences that concern members only: who has to come in and who to go out, by set.
struct Members {
    sets: Vec<(SetSpec, Vec<Element>, Vec<Element>)>,
}

impl Members {
    fn of(drift: &[Drift]) -> Self {
        let pick = |spec: SetSpec| {
            let mut come = Vec::new();
            let mut gone = Vec::new();
            for difference in drift {
                match difference {
                    Drift::ElementMissing { set, element } if *set == spec.name => come.push(element.clone()),
                    Drift::ElementUnexpected { set, element } if *set == spec.name => {
                        gone.push(element.clone())
                    }
                    _ => {}
                }
            }
            (spec, come, gone)
        };
        Members { sets: member_sets().into_iter().map(pick).collect() }
    }

    fn has(difference: &Drift) -> bool {
        match difference {
            Drift::ElementMissing { set, .. } | Drift::ElementUnexpected { set, .. } => {
                member_sets().iter().any(|spec| spec.name == *set)
            }
            _ => false,
        }
    }

    fn differences(&self) -> usize {
        self.sets.iter().map(|(_, come, gone)| come.len() + gone.len()).sum()
    }
}

fn more(differences: usize) -> String {
    match differences {
        0 | 1 => String::new(),
        n => format!(", and {} more", n - 1),
    }
}

fn number(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// What the table should hold.
pub fn ruleset(basis: Basis<'_>) -> Ruleset {
    let Basis { config, plan, me, members } = basis;
    let networks = |cidrs: &mut dyn Iterator<Item = Cidr>| cidrs.map(IpNetwork::from).collect();
    let pod_networks = &plan.spec().pod_networks;
    let always = guard(&Guard {
        port: config.port,
        vni: config.vni,
        pod_links: HOST_IFNAME_PREFIX.to_owned(),
        members,
    })
    .with(host_ports(HOST_IFNAME_PREFIX))
    .with(moved(&Moved {
        // Both are in the order of the families.
        blocks: pod_networks.iter().zip(&me.blocks).map(|(p, b)| (p.network.into(), b.cidr.into())).collect(),
        pod_links: HOST_IFNAME_PREFIX.to_owned(),
        foreign_mark: KUBE_PROXY_MARK,
    }));
    if !config.masquerade {
        return always;
    }
    always.with(masquerade(&Masquerade {
        pods: networks(&mut pod_networks.iter().map(|p| p.network)),
        exempt: networks(&mut config.masquerade_exempt.iter().copied()),
        foreign_mark: KUBE_PROXY_MARK,
    }))
}
