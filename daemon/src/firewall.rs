//! The nft table of the overlay: compared with what the kernel holds, and replaced when it differs.

use anyhow::Result;
use ipnetwork::IpNetwork;
use minionet_core::addr::Cidr;
use minionet_core::config::Config;
use minionet_core::nft::{KUBE_PROXY_MARK, Masquerade, masquerade};
use minionet_core::nft::{Ruleset, TABLE};
use minionet_core::plan::AddressPlan;
use minionet_netlink::nft::Nft;
use tracing::info;

/// Keeps the table as it should be.
pub struct Firewall {
    nft: Nft,
}

impl Firewall {
    /// Opens the kernel's door to nftables.
    ///
    /// # Errors
    /// When the kernel has no nftables, or the right to use it is missing.
    pub fn open() -> Result<Self> {
        Ok(Firewall { nft: Nft::open()? })
    }

    /// Replaces the table when it is not as it should be, and says what was wrong with it.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or refuses the table.
    pub fn reconcile(&mut self, wanted: &Ruleset) -> Result<()> {
        let drift = self.nft.drift(wanted)?;
        if let Some(first) = drift.first() {
            info!("nft table inet {TABLE}: {first}{}", more(drift.len()));
            self.nft.apply(wanted)?;
        }
        Ok(())
    }
}

fn more(differences: usize) -> String {
    match differences {
        0 | 1 => String::new(),
        n => format!(", and {} more", n - 1),
    }
}

/// What the table should hold.
pub fn ruleset(config: &Config, plan: &AddressPlan) -> Ruleset {
    let networks = |cidrs: &mut dyn Iterator<Item = Cidr>| cidrs.map(IpNetwork::from).collect();
    let nothing = Ruleset::new(TABLE);
    if !config.masquerade {
        return nothing;
    }
    nothing.with(masquerade(&Masquerade {
        pods: networks(&mut plan.spec().pod_networks.iter().map(|p| p.network)),
        exempt: networks(&mut config.masquerade_exempt.iter().copied()),
        foreign_mark: KUBE_PROXY_MARK,
    }))
}
