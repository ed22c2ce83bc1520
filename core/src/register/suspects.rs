//! The rule by which the record of a dead node is removed.
//!
//! A node is taken for dead when neither its peers nor DNS nor anybody at all hears of it: the
//! probe finds it dead, its machine does not answer, and its lease on the primary server rests, all
//! of it watched without a gap for the length of the lease. Only the clock of the watcher counts,
//! so clocks need not agree. Only the three living nodes with the lowest addresses watch, and the
//! second and third wait longer, so that a removal is done once and the server has little to do.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::registrar::Event;
use super::sight::Sight;
use crate::probe::regular;

/// How many nodes watch.
const WATCHERS: usize = 3;

/// How often a lease is read while it is watched: so many times in its length.
const READS: u32 = 4;

/// What an inspection of a dead peer found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What its lease says on the primary server; nothing if it has none.
    pub lease: Option<String>,
    /// Whether its machine answers, although the probe does not.
    pub answers: bool,
}

/// Most peers that are inspected at once.
const TOGETHER: usize = 64;

#[derive(Clone, Debug, Default)]
struct Suspect {
    /// The lease, and since when it has rested.
    rests: Option<(String, Duration)>,
    /// When it was last read.
    read: Duration,
    /// When it is to be read next.
    due: Duration,
    /// Why it is kept, as it was last told.
    kept: Option<Kept>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Answers,
    NoLease,
}

/// The peers whose leases are watched.
#[derive(Clone, Debug)]
pub(super) struct Suspects {
    /// As configured.
    lease: Duration,
    /// How long somebody is watched: the lease, or longer where the probe of so many peers takes longer
    /// to find out who is dead.
    patience: Duration,
    rank: u32,
    /// When each member was last known as one. Those that went lately count as silent, or a cluster
    /// that falls apart in steps would always look whole.
    members: BTreeMap<IpAddr, Duration>,
    suspects: BTreeMap<IpAddr, Suspect>,
}

impl Suspects {
    pub(super) fn new(lease: Duration) -> Self {
        Suspects { lease, patience: lease, rank: 0, members: BTreeMap::new(), suspects: BTreeMap::new() }
    }

    /// Takes what is seen now. Whoever is not dead any more is under no suspicion, and nobody is
    /// while this node is not one to judge.
    pub(super) fn observe(&mut self, sight: &Sight, now: Duration) {
        self.patience = self.lease.max(regular(sight.peers.len()) * 2);
        self.members.retain(|_, known| now.saturating_sub(*known) <= self.patience);
        self.members.extend(sight.peers.keys().map(|peer| (*peer, now)));
        let trustworthy = sight.is_trustworthy(self.members.len());
        match sight.rank().filter(|rank| *rank < WATCHERS && trustworthy) {
            Some(rank) => self.rank = rank as u32,
            None => return self.suspects.clear(),
        }
        let dead: Vec<IpAddr> = sight.dead().collect();
        self.suspects.retain(|peer, _| dead.contains(peer));
        for peer in dead {
            self.suspects.entry(peer).or_insert_with(|| Suspect { due: now, ..Suspect::default() });
        }
    }

    /// Forgets all suspicions.
    pub(super) fn clear(&mut self) {
        self.suspects.clear();
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.suspects.keys().copied()
    }

    /// When somebody is to be inspected next.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.suspects.values().map(|suspect| suspect.due).min()
    }

    /// Who is to be inspected now, at most [`TOGETHER`].
    pub(super) fn due(&self, now: Duration) -> Vec<IpAddr> {
        let due = self.suspects.iter().filter(|(_, suspect)| suspect.due <= now);
        due.map(|(peer, _)| *peer).take(TOGETHER).collect()
    }

    /// Takes what an inspection found; the lease of a peer whose time has come.
    pub(super) fn found(
        &mut self,
        peer: IpAddr,
        finding: Option<Finding>,
        now: Duration,
        events: &mut Vec<Event>,
    ) -> Option<String> {
        let pause = self.patience / READS;
        let suspect = self.suspects.get_mut(&peer)?;
        suspect.due = now + pause;
        // Where nothing could be asked, nothing is known; the gap below tells how much was missed.
        let finding = finding?;
        let watched = now.saturating_sub(suspect.read) <= pause * 2;
        suspect.read = now;
        let kept = match (finding.answers, &finding.lease) {
            (true, _) => Some(Kept::Answers),
            (false, None) => Some(Kept::NoLease),
            (false, Some(_)) => None,
        };
        if kept.is_some() && suspect.kept != kept {
            events.push(match kept {
                Some(Kept::Answers) => Event::Answers { peer },
                _ => Event::NoLease { peer },
            });
        }
        suspect.kept = kept;
        let Some(text) = finding.lease.filter(|_| kept.is_none()) else {
            suspect.rests = None;
            return None;
        };
        match &suspect.rests {
            Some((known, since)) if *known == text && watched => {
                let patience = self.patience + pause * self.rank;
                (now.saturating_sub(*since) >= patience).then_some(text)
            }
            _ => {
                suspect.rests = Some((text, now));
                None
            }
        }
    }

    /// Begins anew with a peer whose removal was tried. One that was removed has no lease, which is
    /// no news while resolvers still list it.
    pub(super) fn restart(&mut self, peer: IpAddr, removed: bool) {
        if let Some(suspect) = self.suspects.get_mut(&peer) {
            suspect.rests = None;
            if removed {
                suspect.kept = Some(Kept::NoLease);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Liveness;
    use crate::register::Listed;

    const LEASE: Duration = Duration::from_secs(60);

    /// How long the node with the lowest address of so many watches a dead one whose lease rests.
    fn watched(nodes: u32) -> Duration {
        let ip = |n: u32| IpAddr::from((0xac14_0000 + n).to_be_bytes());
        let mut peers: BTreeMap<IpAddr, Liveness> = (2..=nodes).map(|n| (ip(n), Liveness::Alive)).collect();
        peers.insert(ip(nodes), Liveness::Dead);
        let listed_peers = peers.keys().copied().collect();
        let sight = Sight { own: Some(ip(1)), listed: Listed::Yes, peers, listed_peers };
        let (mut suspects, mut events, mut now) = (Suspects::new(LEASE), Vec::new(), Duration::ZERO);
        loop {
            suspects.observe(&sight, now);
            for peer in suspects.due(now) {
                let finding = Finding { lease: Some("rests".into()), answers: false };
                if suspects.found(peer, Some(finding), now, &mut events).is_some() {
                    return now;
                }
            }
            now += Duration::from_secs(1);
            assert!(now < LEASE * 60, "never");
        }
    }

    #[test]
    fn a_lease_that_is_too_short_for_so_many_is_waited_for_longer() {
        // The dead one is found by the reads after that, of which there are four within it.
        for (nodes, patience) in [(4, LEASE), (900, LEASE), (5000, regular(4999) * 2)] {
            let watched = watched(nodes);
            assert!((patience..=patience * 5 / 4 + Duration::from_secs(2)).contains(&watched), "{watched:?}");
        }
        // With 5000, a dead one is known to be dead after three and a half minutes at the earliest.
        assert!(watched(5000) >= LEASE * 5);
    }
}
