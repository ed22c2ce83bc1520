//! What the probe has to tell.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// Something about a peer has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It answers, for the first time or again.
    Alive {
        /// The peer.
        peer: IpAddr,
        /// For how long it had been dead, if it was.
        dead: Option<Duration>,
    },
    /// It does not answer any more, or never did.
    Dead {
        /// The peer.
        peer: IpAddr,
        /// How many requests in a row were lost.
        losses: u32,
        /// Whether it ever answered.
        answered: bool,
    },
    /// The largest packet that passes to it is not what it was, or is less than it should be.
    PathMtu {
        /// The peer.
        peer: IpAddr,
        /// The largest packet, in octets of IP inside of the tunnel.
        size: u16,
        /// What should pass.
        full: u16,
    },
    /// Its plan is not this node's, or is so again.
    Plan {
        /// The peer.
        peer: IpAddr,
        /// The digest of its plan.
        theirs: u64,
        /// The digest of this node's plan.
        ours: u64,
    },
    /// It was started anew.
    Rebooted {
        /// The peer.
        peer: IpAddr,
    },
}

impl Event {
    /// Whether an operator should look at it.
    pub fn is_problem(&self) -> bool {
        match self {
            Event::Alive { .. } | Event::Rebooted { .. } => false,
            Event::Dead { .. } => true,
            Event::PathMtu { size, full, .. } => size < full,
            Event::Plan { theirs, ours, .. } => theirs != ours,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Alive { peer, dead: None } => write!(f, "{peer} answers through the tunnel"),
            Event::Alive { peer, dead: Some(time) } => {
                write!(f, "{peer} answers through the tunnel again, after {} s", time.as_secs())
            }
            Event::Dead { peer, losses, answered: true } => write!(
                f,
                "{peer} does not answer through the tunnel any more ({losses} requests lost); nothing is \
                 removed for that"
            ),
            Event::Dead { peer, losses, answered: false } => write!(
                f,
                "{peer} has not answered through the tunnel yet ({losses} requests lost): it is down, its \
                 minionetd does not run or has another probe_port, or something drops the overlay's packets"
            ),
            Event::PathMtu { peer, size, full } if size < full => write!(
                f,
                "packets to {peer} pass only up to {size} of {full} octets: larger ones vanish on the way; \
                 set underlay_mtu to what the network between the nodes carries"
            ),
            Event::PathMtu { peer, size, .. } => {
                write!(f, "packets to {peer} pass up to {size} octets again")
            }
            Event::Plan { peer, theirs, ours } if theirs != ours => write!(
                f,
                "{peer} has another plan ({theirs:016x}) than this node ({ours:016x}): compare node_networks, \
                 pod_network and node_prefix on both"
            ),
            Event::Plan { peer, .. } => write!(f, "{peer} has the same plan as this node now"),
            Event::Rebooted { peer } => write!(f, "{peer} was rebooted"),
        }
    }
}
