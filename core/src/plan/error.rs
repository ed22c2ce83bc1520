//! Why a plan cannot hold, with the numbers and the ways out.

use std::net::IpAddr;

use thiserror::Error;

use super::{MAX_NODES, PlanSpec, PodNetwork};
use crate::addr::{Cidr, Family};

/// A plan that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Nothing says where nodes live.
    #[error("no node network is known: set node_networks to the subnets in which the nodes live")]
    NoNodeNetwork,
    /// Nothing says where pods live.
    #[error("no pod network is set: set pod_network, for example to 10.32.0.0/12")]
    NoPodNetwork,
    /// More than one pod network of a family.
    #[error("pod_network names two {family} networks, {first} and {second}: give at most one per family")]
    TwoPodNetworks {
        /// Their family.
        family: Family,
        /// One of them.
        first: Cidr,
        /// The other.
        second: Cidr,
    },
    /// Node networks of both families.
    #[error(
        "node_networks mixes IPv4 ({v4}) and IPv6 ({v6}): a node is known by one address, so list the \
         networks of the family that the overlay shall travel over"
    )]
    MixedUnderlay {
        /// One of the IPv4 networks.
        v4: Cidr,
        /// One of the IPv6 networks.
        v6: Cidr,
    },
    /// Two networks share addresses.
    #[error("{first} and {second} overlap: {why}")]
    Overlap {
        /// One of them.
        first: Cidr,
        /// The other.
        second: Cidr,
        /// What would go wrong.
        why: &'static str,
    },
    /// Networks in which no host can live.
    #[error("{network} is {what}: no node or pod can live there")]
    Unusable {
        /// The network.
        network: Cidr,
        /// What it is reserved for.
        what: &'static str,
    },
    /// A block's prefix is not within its network, or leaves no room for a pod.
    #[error(
        "a block of /{node_prefix} does not fit {network}: the prefix length of a node's block must be from {least} to {most}"
    )]
    NodePrefix {
        /// The pod network.
        network: Cidr,
        /// What was asked for.
        node_prefix: u8,
        /// The shortest prefix length possible.
        least: u8,
        /// The longest prefix length possible.
        most: u8,
    },
    /// More node addresses than blocks.
    #[error("{nodes} has {addresses} addresses; {pods} holds {blocks} blocks of /{node_prefix}: {ways_out}")]
    TooFewBlocks {
        /// The node networks.
        nodes: String,
        /// How many addresses they hold.
        addresses: u128,
        /// The pod network.
        pods: Cidr,
        /// How many blocks it holds.
        blocks: u128,
        /// The size of a block.
        node_prefix: u8,
        /// What can be done, in words.
        ways_out: String,
    },
    /// More node addresses than MAC addresses.
    #[error(
        "{nodes} has {addresses} addresses, a plan can tell {MAX_NODES} apart: list the node subnets in use"
    )]
    TooManyNodes {
        /// The node networks.
        nodes: String,
        /// How many addresses they hold.
        addresses: u128,
    },
}

/// An address that the plan does not cover.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{addr} is outside of node_networks ({}): append its network to node_networks on every node",
    list(networks)
)]
pub struct NotInPlan {
    /// The address.
    pub addr: IpAddr,
    /// The networks that the plan covers.
    pub networks: Vec<Cidr>,
}

/// How many addresses the networks hold together.
pub(super) fn node_addresses(networks: &[Cidr]) -> u128 {
    networks.iter().fold(0u128, |sum, n| sum.saturating_add(n.size()))
}

/// Checks everything that makes a plan injective.
pub(super) fn check(spec: &PlanSpec) -> Result<(), PlanError> {
    let nodes = &spec.node_networks;
    let pods = &spec.pod_networks;
    if nodes.is_empty() {
        return Err(PlanError::NoNodeNetwork);
    }
    if pods.is_empty() {
        return Err(PlanError::NoPodNetwork);
    }
    for pair in pods.windows(2) {
        if pair[0].network.family() == pair[1].network.family() {
            return Err(PlanError::TwoPodNetworks {
                family: pair[0].network.family(),
                first: pair[0].network,
                second: pair[1].network,
            });
        }
    }
    for network in nodes.iter().chain(pods.iter().map(|p| &p.network)) {
        check_usable(*network)?;
    }
    check_families(nodes)?;
    check_overlaps(nodes, pods)?;
    for pod in pods {
        check_prefix(pod)?;
        check_capacity(nodes, pod)?;
    }
    Ok(())
}

fn check_families(nodes: &[Cidr]) -> Result<(), PlanError> {
    let of = |family| nodes.iter().find(|n| n.family() == family);
    match (of(Family::V4), of(Family::V6)) {
        (Some(v4), Some(v6)) => Err(PlanError::MixedUnderlay { v4: *v4, v6: *v6 }),
        _ => Ok(()),
    }
}

fn check_usable(network: Cidr) -> Result<(), PlanError> {
    // Addresses that the kernel refuses on an interface or as a route's destination.
    const RESERVED: [(&str, &str); 5] = [
        ("0.0.0.0/8", "reserved for \"this network\" (RFC 1122 section 3.2.1.3)"),
        ("127.0.0.0/8", "reserved for loopback (RFC 1122 section 3.2.1.3)"),
        ("224.0.0.0/3", "reserved for multicast and future use (RFC 5771, RFC 1112 section 4)"),
        ("ff00::/8", "reserved for multicast (RFC 4291 section 2.7)"),
        ("fe80::/10", "link-local (RFC 4291 section 2.5.6)"),
    ];
    if network.is_default() {
        return Err(PlanError::Unusable { network, what: "everything" });
    }
    for (reserved, what) in RESERVED {
        if reserved.parse::<Cidr>().is_ok_and(|r| r.overlaps(&network)) {
            return Err(PlanError::Unusable { network, what });
        }
    }
    Ok(())
}

fn check_overlaps(nodes: &[Cidr], pods: &[PodNetwork]) -> Result<(), PlanError> {
    for (i, first) in nodes.iter().enumerate() {
        if let Some(second) = nodes[i + 1..].iter().find(|n| n.overlaps(first)) {
            let why = "a node would have two positions; list each subnet once in node_networks";
            return Err(PlanError::Overlap { first: *first, second: *second, why });
        }
        if let Some(pod) = pods.iter().find(|p| p.network.overlaps(first)) {
            let why =
                "the route to a pod would lead to a node; choose a pod_network apart from node_networks";
            return Err(PlanError::Overlap { first: *first, second: pod.network, why });
        }
    }
    Ok(())
}

fn check_prefix(pod: &PodNetwork) -> Result<(), PlanError> {
    // The shortest block still holds its own network address, the gateway and a pod, and for
    // IPv4 the broadcast address.
    let (least, most) = (pod.network.prefix_len(), pod.network.family().bits() - 2);
    if (least..=most).contains(&pod.node_prefix) {
        return Ok(());
    }
    let (network, node_prefix) = (pod.network, pod.node_prefix);
    Err(PlanError::NodePrefix { network, node_prefix, least: least.min(most), most })
}

fn check_capacity(nodes: &[Cidr], pod: &PodNetwork) -> Result<(), PlanError> {
    let addresses = node_addresses(nodes);
    if addresses > MAX_NODES {
        return Err(PlanError::TooManyNodes { nodes: list(nodes), addresses });
    }
    if addresses <= pod.blocks() {
        return Ok(());
    }
    Err(PlanError::TooFewBlocks {
        nodes: list(nodes),
        addresses,
        pods: pod.network,
        blocks: pod.blocks(),
        node_prefix: pod.node_prefix,
        ways_out: ways_out(nodes, addresses, pod),
    })
}

/// What would make room, only naming what would really be accepted.
fn ways_out(nodes: &[Cidr], addresses: u128, pod: &PodNetwork) -> String {
    let mut ways = vec!["list only the node subnets in use in node_networks".to_owned()];
    // ceil(log2(addresses)): how many bits the index takes.
    let bits = (128 - (addresses - 1).leading_zeros()) as u8;
    let shorter = pod.node_prefix.checked_sub(bits).and_then(|len| {
        let wider = Cidr::containing(pod.network.network(), len).ok()?;
        let free = len >= 8 && check_usable(wider).is_ok() && !nodes.iter().any(|n| n.overlaps(&wider));
        free.then_some(wider)
    });
    if let Some(wider) = shorter {
        ways.push(format!("use pod_network {wider}"));
    }
    let longer = pod.network.prefix_len() + bits;
    if longer <= pod.network.family().bits() - 2 {
        let key = if pod.network.family() == Family::V4 { "node_prefix" } else { "node_prefix6" };
        let size = 1u128.checked_shl(u32::from(pod.network.family().bits() - longer)).unwrap_or(u128::MAX);
        // Of an IPv4 block, network, gateway and broadcast address are no pod's; of IPv6 two.
        let taken = if pod.network.family() == Family::V4 { 3 } else { 2 };
        ways.push(format!("use {key} {longer} ({} pods on a node)", size - taken));
    }
    match ways.pop() {
        Some(last) if !ways.is_empty() => format!("{}, or {last}", ways.join(", ")),
        Some(only) => only,
        None => String::new(),
    }
}

fn list(networks: &[Cidr]) -> String {
    let names: Vec<String> = networks.iter().map(Cidr::to_string).collect();
    names.join(" + ")
}
