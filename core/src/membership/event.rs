//! What changed: for the log, and for whoever programs the peers.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::{FailureKind, Liveness, Refusal};

/// One change. Events of one call are in an order that depends on the input alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer is to be programmed.
    Added {
        /// Its address.
        peer: IpAddr,
    },
    /// A peer is to be removed.
    Removed {
        /// Its address.
        peer: IpAddr,
        /// The watched time for which it was missing.
        missing: Duration,
        /// Complete answers without it.
        answers: u32,
        /// What the probe said last: a peer that is still alive was taken out of DNS, or DNS is
        /// wrong about it.
        liveness: Liveness,
    },
    /// A complete answer lacks a peer for the first time; it stays for now.
    Missing {
        /// Its address.
        peer: IpAddr,
    },
    /// A missing peer is listed again.
    Returned {
        /// Its address.
        peer: IpAddr,
        /// How often that happened lately.
        flaps: u32,
    },
    /// An address is no peer.
    Refused {
        /// The address.
        address: IpAddr,
        /// Why.
        reason: Refusal,
        /// Whether it was a peer until now, because the plan or this node's addresses changed.
        was_peer: bool,
    },
    /// Suspiciously many peers are missing at once: they are held.
    MassHold {
        /// How many.
        missing: usize,
        /// Of how many.
        of: usize,
    },
    /// Nothing is held any more because too many went missing at once.
    MassHoldOver,
    /// A resolver answers with random samples.
    Sampling,
    /// No resolver answers with random samples any more.
    SamplingOver,
    /// Nobody answered for a name: what it listed stays as it is.
    NameFailed {
        /// The name.
        name: String,
        /// How.
        kind: FailureKind,
        /// In the resolver library's words.
        text: String,
    },
    /// A name that failed is answered again.
    NameAnswered {
        /// The name.
        name: String,
    },
    /// Complete answers lack this node's own address: other nodes will forget it.
    OwnMissing {
        /// The address.
        own: IpAddr,
    },
    /// This node's own address is listed again.
    OwnReturned {
        /// The address.
        own: IpAddr,
    },
}

impl Event {
    /// Whether the set of peers to program is another one now.
    pub fn changes_peers(&self) -> bool {
        matches!(self, Event::Added { .. } | Event::Removed { .. } | Event::Refused { was_peer: true, .. })
    }

    /// Whether an operator should look.
    pub fn is_problem(&self) -> bool {
        match self {
            Event::Refused { reason, .. } => reason.is_problem(),
            Event::MassHold { .. }
            | Event::Sampling
            | Event::NameFailed { .. }
            | Event::OwnMissing { .. }
            | Event::Removed { liveness: Liveness::Alive, .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Added { peer } => write!(f, "peer {peer} added"),
            Event::Removed { peer, missing, answers, liveness } => {
                let secs = missing.as_secs();
                write!(f, "peer {peer} removed: missing for {secs} s and from {answers} complete answers")?;
                match liveness {
                    Liveness::Alive => f.write_str(", although it still answers probes"),
                    Liveness::Dead => f.write_str(", and dead by probe"),
                    Liveness::Unknown => Ok(()),
                }
            }
            Event::Missing { peer } => write!(f, "peer {peer} is missing from a complete answer"),
            Event::Returned { peer, flaps } if *flaps > 1 => {
                write!(f, "peer {peer} is back, for the {flaps}. time: flapping")
            }
            Event::Returned { peer, .. } => write!(f, "peer {peer} is back"),
            Event::Refused { address, reason, .. } => write!(f, "{address} is no peer: {reason}"),
            Event::MassHold { missing, of } => {
                write!(f, "{missing} of {of} peers are missing at once: held as suspicious")
            }
            Event::MassHoldOver => f.write_str("no peers are held as suspicious any more"),
            Event::Sampling => f.write_str(
                "a resolver answers with random samples: peers are removed only when dead by probe",
            ),
            Event::SamplingOver => f.write_str("no resolver answers with random samples any more"),
            Event::NameFailed { name, kind, text } => {
                write!(f, "{name}: {kind}: {text}; the peers stay as they are")
            }
            Event::NameAnswered { name } => write!(f, "{name}: answered again"),
            Event::OwnMissing { own } => write!(
                f,
                "DNS does not list this node's own address {own}: other nodes will forget it, add its record"
            ),
            Event::OwnReturned { own } => write!(f, "DNS lists this node's own address {own} again"),
        }
    }
}
