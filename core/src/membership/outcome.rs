//! What one round of lookups found: the input of the state machine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::AddressSet;
use crate::addr::Family;

/// A point in time, as two clocks tell it.
///
/// Decisions use the monotonic clock only; the wall clock is for people and for what outlives
/// a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Time since an arbitrary start, which never goes backwards.
    pub monotonic: Duration,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub unix: u64,
}

/// Everything that one round of lookups found: every configured name, asked of every resolver.
///
/// The order of the replies does not matter. A name without a reply counts as failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The replies.
    pub replies: Vec<Reply>,
}

/// What one resolver said about one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The name that was asked for, as it was configured.
    pub name: String,
    /// Which resolver was asked; any text that is the same in every round.
    pub resolver: String,
    /// What it said.
    pub outcome: Outcome,
}

/// What a resolver said about a name: A and AAAA records together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least one of the two lookups gave records.
    Answer {
        /// The addresses of both families. Shared, because an answer rarely differs from the
        /// one before and a set that is the same object need not be compared.
        addresses: Arc<AddressSet>,
        /// The lowest TTL of the records.
        ttl: Duration,
        /// For which families all records are there.
        complete: Complete,
    },
    /// No lookup gave records.
    Failure {
        /// What kind of failure.
        kind: FailureKind,
        /// What the resolver library said, for people.
        text: String,
    },
}

/// For which families an answer holds all records: the lookup succeeded and was not truncated.
///
/// A family without records is complete when the server said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Complete {
    /// All A records are there.
    pub v4: bool,
    /// All AAAA records are there.
    pub v6: bool,
}

impl Complete {
    /// Everything is there.
    pub const BOTH: Complete = Complete { v4: true, v6: true };
    /// Records may be lacking in both families.
    pub const NEITHER: Complete = Complete { v4: false, v6: false };

    /// Whether all records of a family are there; of both, when the family is not known.
    pub fn of(self, family: Option<Family>) -> bool {
        match family {
            Some(Family::V4) => self.v4,
            Some(Family::V6) => self.v6,
            None => self.v4 && self.v6,
        }
    }
}

/// How a lookup failed. All are treated alike: none removes a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The server failed (RFC 1035 section 4.1.1, RCODE 2).
    ServFail,
    /// The server says that there is no such name (RCODE 3).
    NxDomain,
    /// The server does not want to answer (RCODE 5).
    Refused,
    /// Any other response code.
    OtherCode,
    /// An answer without an address of the underlay's family.
    Empty,
    /// Nothing came within the time allowed.
    Timeout,
    /// Truncated, and TCP did not work either (RFC 7766 section 5).
    Truncated,
    /// Not a DNS message, or not one that belongs to the question.
    Malformed,
    /// No resolver is known.
    NoResolver,
    /// The resolver could not be reached, or the connection broke.
    Unreachable,
    /// DNSSEC says that the answer is forged (RFC 4035 section 4.3).
    Bogus,
    /// The round has no reply for the name.
    NotAsked,
}

impl FailureKind {
    /// Its name in documents and metrics.
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::ServFail => "serv_fail",
            FailureKind::NxDomain => "nx_domain",
            FailureKind::Refused => "refused",
            FailureKind::OtherCode => "other_code",
            FailureKind::Empty => "empty",
            FailureKind::Timeout => "timeout",
            FailureKind::Truncated => "truncated",
            FailureKind::Malformed => "malformed",
            FailureKind::NoResolver => "no_resolver",
            FailureKind::Unreachable => "unreachable",
            FailureKind::Bogus => "bogus",
            FailureKind::NotAsked => "not_asked",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FailureKind::ServFail => "server failure (SERVFAIL)",
            FailureKind::NxDomain => "no such name (NXDOMAIN)",
            FailureKind::Refused => "refused by the server (REFUSED)",
            FailureKind::OtherCode => "the server answered with an error",
            FailureKind::Empty => "no address in the answer",
            FailureKind::Timeout => "no answer in time",
            FailureKind::Truncated => "truncated, and not to be had over TCP",
            FailureKind::Malformed => "the answer is malformed",
            FailureKind::NoResolver => "no resolver is known",
            FailureKind::Unreachable => "the resolver cannot be reached",
            FailureKind::Bogus => "DNSSEC validation failed",
            FailureKind::NotAsked => "not looked up",
        })
    }
}
