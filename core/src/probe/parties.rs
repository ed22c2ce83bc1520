//! Who speaks to whom.

use std::net::IpAddr;

use super::message::{About, HEADER};
use crate::addr::Family;

/// Octets of IPv4 (RFC 791) and UDP (RFC 768) before a message.
const OVERHEAD_V4: u16 = 20 + 8;

/// Octets of IPv6 (RFC 8200) and UDP before a message.
const OVERHEAD_V6: u16 = 40 + 8;

/// This node, as it speaks to its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// The address of its VTEP, from which requests are sent.
    pub vtep: IpAddr,
    /// What it says about itself. The MTU is the size that should pass to every peer.
    pub about: About,
}

impl Local {
    /// Octets before a message in an IP packet.
    pub(super) fn overhead(&self) -> u16 {
        match Family::of(self.vtep) {
            Family::V4 => OVERHEAD_V4,
            Family::V6 => OVERHEAD_V6,
        }
    }

    /// The size of a small request as an IP packet.
    pub(super) fn least(&self) -> u16 {
        // 96 fits.
        self.overhead() + HEADER as u16
    }
}

/// A peer to be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address on the underlay.
    pub node: IpAddr,
    /// The address of its VTEP, of the family of [`Local::vtep`].
    pub vtep: IpAddr,
    /// Whether DNS does not list it any more: it is asked more often then.
    pub missing: bool,
}

/// A message to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// To the address of a VTEP, through the tunnel, not to be fragmented.
    Datagram {
        /// The VTEP.
        to: IpAddr,
        /// The UDP payload.
        payload: Vec<u8>,
    },
    /// To a peer that does not answer: a hello, to be put into a frame by [`hello::frame`].
    Hello {
        /// The peer's address on the underlay.
        to: IpAddr,
        /// The UDP payload.
        payload: Vec<u8>,
    },
}
