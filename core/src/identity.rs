//! Which address is this node's own: the local address that DNS lists.
//!
//! Nothing else can tell the right one of several interfaces, and it is what the other nodes
//! use. The choice is stable: an address that was chosen stays chosen while it is local and
//! listed, and while it is local and DNS lists no other local address.
//!
//! Architecture invariant: the outcome depends on the set of addresses, not on their order.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::addr::{Cidr, CidrError, Family};

/// An address of an interface, as the kernel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of its subnet's prefix in bits.
    pub prefix_len: u8,
    /// The interface's name.
    pub interface: String,
    /// Not proved unique yet, or proved not to be (`IFA_F_TENTATIVE` and `IFA_F_DADFAILED` in
    /// `include/uapi/linux/if_addr.h`): cannot be used.
    pub tentative: bool,
    /// Not to be used for anything new (`IFA_F_DEPRECATED`): used if there is no other.
    pub deprecated: bool,
    /// Not the first of its subnet, or a temporary one (`IFA_F_SECONDARY`, the same bit as
    /// `IFA_F_TEMPORARY`): used if there is no other.
    pub secondary: bool,
}

/// What the operator decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The own address.
    pub node_ip: Option<IpAddr>,
    /// The interface that has the own address.
    pub interface: Option<String>,
}

/// Everything that the choice depends on.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// All addresses of this node.
    pub local: &'a [LocalAddress],
    /// All addresses that DNS lists.
    pub answered: &'a BTreeSet<IpAddr>,
    /// The node networks, if configured; empty otherwise. They decide between several.
    pub node_networks: &'a [Cidr],
    /// What the operator decided.
    pub overrides: &'a Overrides,
    /// The address that was chosen last, before a restart or now.
    pub current: Option<IpAddr>,
}

/// This node's own address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The address.
    pub address: IpAddr,
    /// Length of its subnet's prefix in bits.
    pub prefix_len: u8,
    /// The interface that has it.
    pub interface: String,
    /// Why it was chosen.
    pub basis: Basis,
    /// Whether DNS lists it; if not, other nodes do not know this one.
    pub listed: bool,
    /// Other local addresses that DNS lists: one node, several records.
    pub also_listed: Vec<IpAddr>,
}

/// Why an address was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The operator said so by `node_ip`.
    NodeIp,
    /// DNS lists it.
    Listed,
    /// It was chosen before and is still local; DNS lists no local address at the moment.
    LastKnown,
    /// It is the best of the interface that the operator named.
    Interface,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Basis::NodeIp => "set by node_ip",
            Basis::Listed => "the local address that DNS lists",
            Basis::LastKnown => "the last known one; DNS lists no local address",
            Basis::Interface => "on the interface that was set; DNS lists no local address",
        })
    }
}

/// Why no address could be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// No interface has an address that other nodes could reach.
    #[error("no interface{} has a usable address; give it one, then minionetd goes on by itself", on(.interface))]
    NothingLocal {
        /// The interface that was asked for, if any.
        interface: Option<String>,
    },
    /// `node_ip` names an address that is not there.
    #[error("node_ip {node_ip} is not an address of this node{}: it has {local}", on(.interface))]
    NotLocal {
        /// What was configured.
        node_ip: IpAddr,
        /// The interface that was asked for, if any.
        interface: Option<String>,
        /// The addresses that there are.
        local: String,
    },
    /// DNS has not answered yet, and there is no last known address.
    #[error(
        "DNS has not answered yet, and this node has no address from before; set node_ip to go on without"
    )]
    NoAnswer,
    /// DNS lists other addresses only.
    #[error(
        "none of this node's addresses ({local}) is among the {listed} that DNS lists: add its record, or set \
         node_ip"
    )]
    NotListed {
        /// The addresses of this node.
        local: String,
        /// How many DNS lists.
        listed: usize,
    },
    /// The own address has no subnet to take the node network from.
    #[error(
        "{address} has the prefix length {prefix_len}, so its subnet holds no other node: set node_networks to \
         the networks in which the nodes live"
    )]
    NoSubnet {
        /// The own address.
        address: IpAddr,
        /// Its prefix length in bits.
        prefix_len: u8,
    },
    /// The kernel told a prefix length that no address has.
    #[error("the subnet of {address} cannot be told: {source}; set node_networks")]
    Prefix {
        /// The own address.
        address: IpAddr,
        /// Why.
        source: CidrError,
    },
}

/// Chooses this node's own address.
///
/// In this order: `node_ip`; the current one, if DNS lists it; the best that DNS lists; the
/// current one, if it is still local; with `interface`, the best of that interface. The best of
/// several is one inside of the node networks, neither deprecated nor secondary, of the first
/// node network, IPv4 before IPv6, the lowest.
///
/// # Errors
/// [`IdentityError`] says what is missing and what to do.
pub fn choose(evidence: &Evidence<'_>) -> Result<Identity, IdentityError> {
    let Overrides { node_ip, interface } = evidence.overrides;
    let on_interface = |l: &&LocalAddress| interface.as_ref().is_none_or(|i| *i == l.interface);
    let usable: Vec<_> = evidence.local.iter().filter(|l| is_usable(l)).filter(on_interface).collect();
    let listed = || usable.iter().copied().filter(|l| evidence.answered.contains(&l.address));
    let identity = |local: &LocalAddress, basis| Identity {
        address: local.address,
        prefix_len: local.prefix_len,
        interface: local.interface.clone(),
        basis,
        listed: evidence.answered.contains(&local.address),
        also_listed: also_listed(evidence, local.address),
    };
    let best = |candidates: &mut dyn Iterator<Item = &LocalAddress>| {
        candidates.min_by_key(|l| rank(l, evidence.node_networks)).cloned()
    };
    let find = |address| best(&mut usable.iter().copied().filter(|l| Some(l.address) == address));

    if let Some(node_ip) = *node_ip {
        let found = find(Some(node_ip)).map(|l| identity(&l, Basis::NodeIp));
        let (interface, local) = (interface.clone(), names(&usable));
        return found.ok_or(IdentityError::NotLocal { node_ip, interface, local });
    }
    if usable.is_empty() {
        return Err(IdentityError::NothingLocal { interface: interface.clone() });
    }
    let current = find(evidence.current);
    if let Some(current) = current.as_ref().filter(|l| evidence.answered.contains(&l.address)) {
        return Ok(identity(current, Basis::Listed));
    }
    if let Some(listed) = best(&mut listed()) {
        return Ok(identity(&listed, Basis::Listed));
    }
    if let Some(current) = current {
        return Ok(identity(&current, Basis::LastKnown));
    }
    if let Some(best) = interface.as_ref().and_then(|_| best(&mut usable.iter().copied())) {
        return Ok(identity(&best, Basis::Interface));
    }
    match evidence.answered.len() {
        0 => Err(IdentityError::NoAnswer),
        listed => Err(IdentityError::NotListed { local: names(&usable), listed }),
    }
}

/// The only interface that has an address which other nodes could reach, if there is only one.
pub fn sole_interface(local: &[LocalAddress]) -> Option<String> {
    let mut interfaces = local.iter().filter(|l| is_usable(l)).map(|l| &l.interface);
    let first = interfaces.next()?;
    interfaces.all(|other| other == first).then(|| first.clone())
}

impl Identity {
    /// Whether both are the same address of the same interface, whatever speaks for it.
    pub fn is_same_place(&self, other: &Identity) -> bool {
        let place = |i: &Identity| (i.address, i.prefix_len, i.interface.clone());
        place(self) == place(other)
    }

    /// The node network where none is configured: the subnet of the own address.
    ///
    /// # Errors
    /// [`IdentityError::NoSubnet`] for an address without other addresses in its subnet, as
    /// some clouds give: a /32, or a /128.
    pub fn default_node_network(&self) -> Result<Cidr, IdentityError> {
        let (address, prefix_len) = (self.address, self.prefix_len);
        if prefix_len == Family::of(address).bits() {
            return Err(IdentityError::NoSubnet { address, prefix_len });
        }
        Cidr::containing(address, prefix_len).map_err(|source| IdentityError::Prefix { address, source })
    }
}

/// Whether other nodes could reach a node at this address.
fn is_usable(local: &LocalAddress) -> bool {
    let addr = local.address;
    let scoped = matches!(addr, IpAddr::V6(a) if a.is_unicast_link_local());
    !(local.tentative || scoped || addr.is_loopback() || addr.is_unspecified() || addr.is_multicast())
}

/// The lower, the better.
fn rank<'a>(local: &'a LocalAddress, networks: &[Cidr]) -> impl Ord + use<'a> {
    let network = networks.iter().position(|n| n.contains(local.address));
    let outside = !networks.is_empty() && network.is_none();
    let family = Family::of(local.address);
    (outside, local.deprecated, local.secondary, network, family, local.address, &local.interface)
}

fn also_listed(evidence: &Evidence<'_>, chosen: IpAddr) -> Vec<IpAddr> {
    let local: BTreeSet<IpAddr> = evidence.local.iter().map(|l| l.address).collect();
    local.intersection(evidence.answered).copied().filter(|a| *a != chosen).collect()
}

fn names(local: &[&LocalAddress]) -> String {
    let mut names: Vec<_> = local.iter().map(|l| format!("{} on {}", l.address, l.interface)).collect();
    names.sort();
    if names.is_empty() { "no usable one".to_owned() } else { names.join(", ") }
}

fn on(interface: &Option<String>) -> String {
    interface.as_ref().map(|i| format!(" {i}")).unwrap_or_default()
}
