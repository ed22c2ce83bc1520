//! Which addresses a pod gets: the arithmetic of the node's blocks, and a queue of free ones.
//!
//! A pod's addresses have the same *offset* in the block of each family, so `10.32.1.5` and
//! `fd00:32:0:1::5` belong together. Whether an address is taken is decided by its lease alone
//! (a file, see the plugin); the queue here only says where to look first, so a lost or wrong
//! queue costs time and never an address.

mod queue;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::queue::{HEADER_LEN, Queue, SLOT_LEN};
use super::error::{Code, Coded};
use crate::addr::{Cidr, Family};
use crate::plan::Block;

/// Most offsets from which addresses are picked without being asked for: more pods than any
/// node runs, and a queue of 256 KiB.
pub const POOL_MAX: u32 = 1 << 16;

/// An address of a pod, with the gateway of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The pod's address.
    pub address: IpAddr,
    /// The node's address in the same block.
    pub gateway: IpAddr,
}

impl Assigned {
    /// The prefix length with which a pod has its address: that of one host.
    pub fn prefix_len(&self) -> u8 {
        Family::of(self.address).bits()
    }
}

/// Where the addresses of an attachment came from, and return to: a DEL must not need to know
/// the blocks that its node has by then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// [`Space::digest`] of the blocks at ADD.
    pub space: u64,
    /// The offsets in the pool of that space; none for requested addresses beyond it.
    pub offsets: Vec<u32>,
}

/// Why a requested address cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestedError {
    /// Not in any block of the node.
    #[error("requested address {address} is not in the pod CIDR of this node ({blocks})")]
    Outside {
        /// The address.
        address: IpAddr,
        /// The node's blocks.
        blocks: String,
    },
    /// The first, the second or, in IPv4, the last address of a block.
    #[error("requested address {address} is the {role} of {block}: request another")]
    Reserved {
        /// The address.
        address: IpAddr,
        /// What it is.
        role: &'static str,
        /// Its block.
        block: Cidr,
    },
    /// Two of one family.
    #[error("two addresses of {family} are requested, {first} and {second}: a pod has one")]
    Twice {
        /// The family.
        family: Family,
        /// One.
        first: IpAddr,
        /// The other.
        second: IpAddr,
    },
}

impl Coded for RequestedError {
    fn code(&self) -> Code {
        Code::InvalidConfig
    }
}

/// The blocks of a node, seen as offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    blocks: Vec<Block>,
}

impl Space {
    /// The space of a node's blocks, at most one per family.
    pub fn new(blocks: &[Block]) -> Self {
        Space { blocks: blocks.to_vec() }
    }

    /// The offsets from which addresses are picked: behind the gateway, before the broadcast
    /// address, and not beyond the end of the smallest block.
    pub fn pool(&self) -> Range<u32> {
        let end = self.blocks.iter().map(|b| usable_end(&b.cidr)).min().unwrap_or(0);
        let first = 2;
        let end = u32::try_from(end).unwrap_or(u32::MAX).min(first + POOL_MAX);
        first..end.max(first)
    }

    /// The addresses at an offset, one per block.
    pub fn at(&self, offset: u32) -> Vec<Assigned> {
        let assigned = |block: &Block| {
            let address = block.cidr.nth(u128::from(offset)).filter(|a| *a != block.gateway)?;
            Some(Assigned { address, gateway: block.gateway })
        };
        self.blocks.iter().filter_map(assigned).collect()
    }

    /// The offset of an address, where it is one that is picked.
    pub fn offset_of(&self, address: IpAddr) -> Option<u32> {
        let offset = self.blocks.iter().find_map(|b| b.cidr.offset_of(address))?;
        u32::try_from(offset).ok().filter(|offset| self.pool().contains(offset))
    }

    /// Where these addresses return to.
    pub fn origin(&self, addresses: &[Assigned]) -> Origin {
        let mut offsets: Vec<_> = addresses.iter().filter_map(|a| self.offset_of(a.address)).collect();
        offsets.dedup();
        Origin { space: self.digest(), offsets }
    }

    /// The CIDRs of the blocks, for messages.
    pub fn describe(&self) -> String {
        let blocks: Vec<_> = self.blocks.iter().map(|b| b.cidr.to_string()).collect();
        blocks.join(", ")
    }

    /// A number that tells whether a queue was made for these blocks (FNV-1a, 64 bits).
    pub fn digest(&self) -> u64 {
        let text = self.blocks.iter().flat_map(|b| format!("{} {};", b.cidr, b.gateway).into_bytes());
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        text.fold(0xcbf2_9ce4_8422_2325, fnv)
    }

    /// Checks requested addresses.
    ///
    /// # Errors
    /// [`RequestedError`] for the first that no pod of this node can have.
    pub fn requested(&self, addresses: &[IpAddr]) -> Result<Vec<Assigned>, RequestedError> {
        let mut found: Vec<Assigned> = Vec::new();
        for &address in addresses {
            let family = Family::of(address);
            if let Some(first) = found.iter().find(|a| Family::of(a.address) == family) {
                return Err(RequestedError::Twice { family, first: first.address, second: address });
            }
            let Some(block) = self.blocks.iter().find(|b| b.cidr.contains(address)) else {
                return Err(RequestedError::Outside { address, blocks: self.describe() });
            };
            let offset = block.cidr.offset_of(address).unwrap_or(0);
            let role = if address == block.gateway {
                Some("gateway")
            } else if offset == 0 {
                Some("network address")
            } else if offset >= usable_end(&block.cidr) {
                Some("broadcast address")
            } else {
                None
            };
            if let Some(role) = role {
                return Err(RequestedError::Reserved { address, role, block: block.cidr });
            }
            found.push(Assigned { address, gateway: block.gateway });
        }
        Ok(found)
    }

    /// The addresses at an offset of the families that were not requested.
    pub fn completing(&self, requested: &[Assigned], offset: u32) -> Vec<Assigned> {
        let missing = |a: &Assigned| requested.iter().all(|r| Family::of(r.address) != Family::of(a.address));
        self.at(offset).into_iter().filter(missing).collect()
    }

    /// Whether a request names an address of every family.
    pub fn is_complete(&self, requested: &[Assigned]) -> bool {
        requested.len() == self.blocks.len()
    }
}

/// One past the last offset that a pod can have: IPv4 keeps the last for broadcasts, except in
/// blocks too small to have one (RFC 3021).
fn usable_end(cidr: &Cidr) -> u128 {
    let broadcast = cidr.family() == Family::V4 && cidr.prefix_len() < 31;
    cidr.size() - u128::from(broadcast)
}
