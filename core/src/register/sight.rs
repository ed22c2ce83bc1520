//! What a node sees of the cluster, as far as registration depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::addr::Family;
use crate::membership::{FailureKind, Liveness, Outcome, Round};

/// Whether DNS lists this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listed {
    /// Nothing was heard that would tell.
    #[default]
    Unknown,
    /// A resolver lists it.
    Yes,
    /// A complete answer lacks it, or the name does not exist: enough to add, not to remove.
    No,
}

/// What is seen after a round of lookups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// This node's own address, when known.
    pub own: Option<IpAddr>,
    /// Whether DNS lists it.
    pub listed: Listed,
    /// All peers that are programmed, with what the probe says.
    pub peers: BTreeMap<IpAddr, Liveness>,
    /// Those of them that DNS lists.
    pub listed_peers: BTreeSet<IpAddr>,
}

impl Sight {
    /// What a round of lookups of a name shows to a node with these peers.
    pub fn new(
        round: &Round,
        name: &str,
        own: Option<IpAddr>,
        peers: impl IntoIterator<Item = (IpAddr, Liveness)>,
    ) -> Self {
        let replies = || round.replies.iter().filter(|reply| reply.name == name).map(|reply| &reply.outcome);
        let lists = |address: &IpAddr| {
            replies().any(|o| matches!(o, Outcome::Answer { addresses, .. } if addresses.contains(address)))
        };
        let listed = own.map_or(Listed::Unknown, |own| {
            let denies = |outcome: &Outcome| match outcome {
                Outcome::Answer { complete, .. } => complete.of(Some(Family::of(own))),
                Outcome::Failure { kind, .. } => matches!(kind, FailureKind::NxDomain | FailureKind::Empty),
            };
            match lists(&own) {
                true => Listed::Yes,
                false if replies().any(denies) => Listed::No,
                false => Listed::Unknown,
            }
        });
        let peers: BTreeMap<IpAddr, Liveness> = peers.into_iter().collect();
        let listed_peers = peers.keys().filter(|peer| lists(peer)).copied().collect();
        Sight { own, listed, peers, listed_peers }
    }

    /// Whether this node sees enough of a cluster with so many other members to say who is dead: it
    /// is listed itself, and at least two thirds of all answer, itself included.
    pub fn is_trustworthy(&self, others: usize) -> bool {
        let alive = self.alive().count() + 1;
        self.listed == Listed::Yes && alive * 3 >= (others + 1) * 2
    }

    /// The place of this node among all that live, in the order of their addresses.
    pub fn rank(&self) -> Option<usize> {
        let own = self.own?;
        Some(self.alive().filter(|peer| *peer < own).count())
    }

    /// The peers that DNS lists and the probe finds dead.
    pub fn dead(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let dead = |peer: &&IpAddr| self.peers.get(peer) == Some(&Liveness::Dead);
        self.listed_peers.iter().filter(dead).copied()
    }

    fn alive(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.peers.iter().filter(|(_, liveness)| **liveness == Liveness::Alive).map(|(peer, _)| *peer)
    }
}
