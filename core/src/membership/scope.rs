//! Which addresses can be peers at all, and why the others are refused.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::addr::Family;
use crate::plan::AddressPlan;

/// What this node knows of itself and of the plan.
///
/// It changes when the node's address changes. Addresses that *other* nodes take or give away
/// need nothing here: everything a peer has follows from its address, so an address that moves
/// to another node means the same pod CIDR behind another machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The plan; nothing until the node's own address is known, when the plan depends on it.
    /// A plan once known should be kept while the own address is lost for a while.
    pub plan: Option<AddressPlan>,
    /// The node's own address.
    pub own: Option<IpAddr>,
    /// All addresses of this node.
    pub local: BTreeSet<IpAddr>,
}

impl Scope {
    /// The family of the underlay, when the plan is known.
    pub fn family(&self) -> Option<Family> {
        self.plan.as_ref().map(AddressPlan::underlay)
    }

    /// Why an address cannot be a peer, or nothing when it can.
    pub fn refusal(&self, addr: IpAddr) -> Option<Refusal> {
        if let Some(what) = special(addr) {
            return Some(Refusal::Special { what });
        }
        if self.own == Some(addr) {
            return Some(Refusal::Own);
        }
        if self.local.contains(&addr) {
            return Some(Refusal::Local);
        }
        let Some(plan) = &self.plan else { return Some(Refusal::NoPlan) };
        if Family::of(addr) != plan.underlay() {
            return Some(Refusal::OtherFamily { underlay: plan.underlay() });
        }
        plan.node(addr).err().map(|_| Refusal::OutsidePlan)
    }
}

/// Addresses that no node can be reached at.
fn special(addr: IpAddr) -> Option<&'static str> {
    let what = match addr {
        _ if addr.is_unspecified() => "the unspecified address",
        _ if addr.is_loopback() => "a loopback address",
        _ if addr.is_multicast() => "a multicast address",
        IpAddr::V4(a) if a.is_broadcast() => "the broadcast address",
        // RFC 1122 section 3.2.1.3: network 0 is "this network".
        IpAddr::V4(a) if a.octets()[0] == 0 => "an address of network 0",
        // Needs an interface besides the address, which DNS cannot tell.
        IpAddr::V6(a) if a.is_unicast_link_local() => "a link-local address",
        // RFC 4291 section 2.5.5.2: stands for an IPv4 address inside a program.
        IpAddr::V6(a) if a.to_ipv4_mapped().is_some() => "an IPv4-mapped address",
        _ => return None,
    };
    Some(what)
}

/// Why an address in an answer is no peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// No node can have it.
    Special {
        /// What it is.
        what: &'static str,
    },
    /// It is this node's own address; the normal case for one record.
    Own,
    /// It is another address of this node.
    Local,
    /// The plan is not known yet.
    NoPlan,
    /// Not of the underlay's family; normal where nodes have AAAA records besides A records.
    OtherFamily {
        /// The underlay's family.
        underlay: Family,
    },
    /// Outside of the node networks.
    OutsidePlan,
    /// There are [`max_peers`](super::Thresholds::max_peers) peers already.
    TooMany,
}

impl Refusal {
    /// Whether an operator has to do something about it.
    pub fn is_problem(self) -> bool {
        !matches!(self, Refusal::Own | Refusal::NoPlan | Refusal::OtherFamily { .. })
    }

    /// Whether the record may be forgotten when there are too many refused ones.
    pub(super) fn is_dispensable(self) -> bool {
        !matches!(self, Refusal::Own | Refusal::Local | Refusal::NoPlan)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Special { what } => write!(f, "{what}: no node can have it, correct the record"),
            Refusal::Own => f.write_str("this node's own address"),
            Refusal::Local => f.write_str(
                "another address of this node: DNS lists this node twice, one record should be removed",
            ),
            Refusal::NoPlan => f.write_str("waiting until this node's own address is known"),
            Refusal::OtherFamily { underlay } => write!(f, "the overlay travels over {underlay}"),
            Refusal::OutsidePlan => {
                f.write_str("outside of node_networks: append its network there, on every node")
            }
            Refusal::TooMany => f.write_str("more peers than max_peers"),
        }
    }
}
