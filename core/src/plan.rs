//! The address plan: what every node has, computed from its address alone.
//!
//! Every node's position in the concatenation of the node networks is its *index*. Block
//! `index` of the pod network is the node's pod CIDR, the first host address of that block is
//! its VTEP and gateway address, and a fixed prefix with the index is its VTEP's MAC. The
//! function is injective, so nothing has to be allocated, stored or agreed upon.
//!
//! Architecture invariant: two different node addresses never get overlapping pod CIDRs nor
//! equal MACs, and a node network that is appended renumbers nobody.

mod error;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use self::error::{NotInPlan, PlanError};
use crate::addr::{Cidr, Family, MacAddr};

/// Most node addresses that a plan can tell apart: a VTEP's MAC carries an index of 32 bits.
pub const MAX_NODES: u128 = 1 << 32;

/// A pod network and the size of the block that each node gets out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// The network that all pods of the cluster live in.
    pub network: Cidr,
    /// Prefix length of one node's block, in bits.
    pub node_prefix: u8,
}

impl PodNetwork {
    /// How many blocks there are, `u128::MAX` standing for more than can be counted.
    pub fn blocks(&self) -> u128 {
        let bits = u32::from(self.node_prefix.saturating_sub(self.network.prefix_len()));
        1u128.checked_shl(bits).unwrap_or(u128::MAX)
    }

    fn block(&self, index: u32) -> Option<Block> {
        let shift = u32::from(self.network.family().bits() - self.node_prefix);
        let base = self.network.nth(u128::from(index).checked_shl(shift)?)?;
        let cidr = Cidr::containing(base, self.node_prefix).ok()?;
        Some(Block { cidr, gateway: cidr.nth(1)? })
    }
}

/// What a plan is made of: the same on every node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSpec {
    /// The networks in which nodes live, in order. All of one family.
    pub node_networks: Vec<Cidr>,
    /// The pod networks, at most one per family.
    pub pod_networks: Vec<PodNetwork>,
}

/// One node's share of a pod network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The node's pod CIDR.
    pub cidr: Cidr,
    /// The VTEP's and gateway's address: the first host address of the block.
    pub gateway: IpAddr,
}

/// What one node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// The node's address on the underlay.
    pub node: IpAddr,
    /// Its position among all possible nodes.
    pub index: u32,
    /// The MAC of its VTEP.
    pub mac: MacAddr,
    /// Its blocks, IPv4 first; one per pod network.
    pub blocks: Vec<Block>,
}

impl NodePlan {
    /// The block of one family.
    pub fn block(&self, family: Family) -> Option<&Block> {
        self.blocks.iter().find(|b| b.cidr.family() == family)
    }
}

/// A checked plan, which can hold every node that its node networks can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPlan {
    spec: PlanSpec,
    capacity: u128,
}

impl AddressPlan {
    /// Checks a plan.
    ///
    /// # Errors
    /// [`PlanError`] with the numbers and the ways out, when the plan cannot hold.
    pub fn new(mut spec: PlanSpec) -> Result<Self, PlanError> {
        // IPv4 first, so that every list of blocks has the order that results are given in.
        spec.pod_networks.sort_by_key(|p| p.network.family());
        error::check(&spec)?;
        let capacity = error::node_addresses(&spec.node_networks);
        Ok(AddressPlan { spec, capacity })
    }

    /// What the node with this address has.
    ///
    /// # Errors
    /// [`NotInPlan`] for an address outside of the node networks; it is never guessed.
    pub fn node(&self, addr: IpAddr) -> Result<NodePlan, NotInPlan> {
        let outside = || NotInPlan { addr, networks: self.spec.node_networks.clone() };
        let index = self.index(addr).ok_or_else(outside)?;
        let blocks = self.spec.pod_networks.iter().map(|p| p.block(index)).collect::<Option<_>>();
        // A checked plan has a block for every index.
        let blocks = blocks.ok_or_else(outside)?;
        Ok(NodePlan { node: addr, index, mac: MacAddr::vtep(index), blocks })
    }

    /// The node that owns the block in which a pod's address lies, or nothing when the address
    /// is no pod's or the block is beyond the last possible node.
    pub fn owner(&self, pod: IpAddr) -> Option<IpAddr> {
        let net = self.spec.pod_networks.iter().find(|p| p.network.contains(pod))?;
        let shift = u32::from(net.network.family().bits() - net.node_prefix);
        let mut index = net.network.offset_of(pod)?.checked_shr(shift).unwrap_or(0);
        for network in &self.spec.node_networks {
            if index < network.size() {
                return network.nth(index);
            }
            index -= network.size();
        }
        None
    }

    /// Every node address that the plan has room for, in the order of the index.
    pub fn all(&self) -> impl Iterator<Item = NodePlan> + '_ {
        let addrs = self.spec.node_networks.iter().flat_map(|n| (0..n.size()).map_while(|i| n.nth(i)));
        addrs.filter_map(|addr| self.node(addr).ok())
    }

    /// The networks that the pod CIDRs of all possible nodes make up together, and nothing else:
    /// as few as possible, IPv4 first.
    ///
    /// They are the beginning of each pod network, as indices count from zero. The rest of a pod
    /// network is nobody's until a node network is appended.
    pub fn assigned(&self) -> Vec<Cidr> {
        let bits = (0..=MAX_NODES.ilog2() as u8).rev();
        let powers: Vec<u8> = bits.filter(|bit| self.capacity >> bit & 1 == 1).collect();
        let mut assigned = Vec::new();
        for pod in &self.spec.pod_networks {
            let mut index = 0u128;
            for bit in &powers {
                // Highest power first, so that each part begins at a multiple of its own size.
                let shift = u32::from(pod.network.family().bits() - pod.node_prefix);
                let base = index.checked_shl(shift).and_then(|offset| pod.network.nth(offset));
                let part = base.and_then(|base| Cidr::containing(base, pod.node_prefix - bit).ok());
                assigned.extend(part);
                index += 1u128 << bit;
            }
        }
        assigned
    }

    /// How many node addresses the node networks hold.
    pub fn capacity(&self) -> u128 {
        self.capacity
    }

    /// What the plan was made of.
    pub fn spec(&self) -> &PlanSpec {
        &self.spec
    }

    /// The family of the underlay: that of the node networks.
    pub fn underlay(&self) -> Family {
        // A checked plan has at least one node network.
        self.spec.node_networks.first().map_or(Family::V4, Cidr::family)
    }

    /// A number that differs when anything in the plan does, the same on every machine
    /// (FNV-1a with 64 bits, as in draft-eastlake-fnv, over the plan's text).
    pub fn digest(&self) -> u64 {
        let nodes = self.spec.node_networks.iter().map(|n| format!("node {n};"));
        let pods = self.spec.pod_networks.iter().map(|p| format!("pod {} {};", p.network, p.node_prefix));
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        nodes.chain(pods).flat_map(String::into_bytes).fold(0xcbf2_9ce4_8422_2325, fnv)
    }

    fn index(&self, addr: IpAddr) -> Option<u32> {
        let mut before = 0u128;
        for network in &self.spec.node_networks {
            if let Some(offset) = network.offset_of(addr) {
                return u32::try_from(before + offset).ok();
            }
            before += network.size();
        }
        None
    }
}
