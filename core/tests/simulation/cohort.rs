//! Nodes with the same history.
//!
//! Nodes that were started alike, ask at the same times and hear the same are in the same state,
//! so the state is computed once for all. A cohort splits when something happens to some of its
//! nodes only, and two become one when they are in the same state again. A few nodes, chosen at
//! random, are computed one by one beside their cohort, and must not differ from it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use minionet_core::membership::{Event, PeerState, PeerView, Round, Thresholds};

use crate::minion::{Log, Minion, Start};
use crate::random::Random;
use crate::world::{Seconds, World};

/// After so many equal rounds without an event, nothing that was before the first of them has
/// an effect: the longest memory is that of the recognition of samples.
fn rest(limits: &Thresholds) -> u32 {
    limits.sampling_exit + limits.sampling_answers
}

pub struct Cohort {
    /// Where its nodes are: what it can be one with.
    pub site: usize,
    pub members: BTreeSet<IpAddr>,
    /// The state that the members share.
    pub common: Minion,
    /// Members that are computed on their own.
    pub singles: Vec<Minion>,
    /// Whether DNS cannot be reached.
    pub cut: bool,
    /// Whether the resolvers of the site may have given random samples lately. A number of
    /// answers then depends on the number of peers, which is smaller by one for a single node.
    pub sampled: bool,
    pub log: Log,
    pub rounds: u64,
    pub node_rounds: u64,
    /// When the next round is.
    next: Seconds,
    random: Random,
    last: Round,
    /// How many rounds have been the same as the one before them, without an event.
    quiet: u32,
}

impl Cohort {
    pub fn new(site: usize, common: Minion, at: Seconds, seed: u64) -> Self {
        Cohort {
            site,
            members: BTreeSet::new(),
            common,
            singles: Vec::new(),
            cut: false,
            sampled: false,
            log: Log::new(),
            rounds: 0,
            node_rounds: 0,
            next: at,
            random: Random(seed),
            last: Round::default(),
            quiet: 0,
        }
    }

    /// Lives until a moment, in a world that does not change meanwhile.
    pub fn run(&mut self, world: &World, until: Seconds) {
        while self.next < until {
            let at = self.next;
            let round = world.round(self.site, self.cut, at, &mut self.random);
            let events = self.common.observe(&round, world, at, &mut self.log);
            for single in &mut self.singles {
                single.observe(&round, world, at, &mut self.log);
            }
            self.sampled |= events.contains(&Event::Sampling);
            self.quiet = if !events.is_empty() || round != self.last { 0 } else { self.quiet + 1 };
            self.last = round;
            self.rounds += 1;
            self.node_rounds += self.members.len() as u64;
            let wait = self.common.membership.next_refresh(self.random.bits() as u32);
            self.next = at + world.delay(self.site) + wait.as_secs().max(1);
        }
    }

    /// Takes some members out, as a cohort of their own in the same state.
    pub fn split(&mut self, leaving: &BTreeSet<IpAddr>) -> Cohort {
        let (mut members, mut singles) = (BTreeSet::new(), Vec::new());
        for addr in leaving {
            if self.members.remove(addr) {
                members.insert(*addr);
            }
        }
        let (gone, stay) =
            self.singles.drain(..).partition(|s: &Minion| s.own.is_some_and(|o| members.contains(&o)));
        self.singles = stay;
        singles.extend::<Vec<Minion>>(gone);
        Cohort {
            members,
            singles,
            common: self.common.clone(),
            log: Log::new(),
            rounds: 0,
            node_rounds: 0,
            random: Random(self.random.bits()),
            last: self.last.clone(),
            ..*self
        }
    }

    /// All daemons end and start anew.
    pub fn restart(&mut self, found: Start, at: Seconds) {
        for minion in self.minions() {
            minion.restart(found, at);
        }
        (self.next, self.quiet) = (at, 0);
    }

    /// The tables of all nodes are damaged, noticed and repaired.
    pub fn damage(&mut self, world: &World, seed: u64) {
        let mut log = std::mem::replace(&mut self.log, Log::new());
        for minion in self.minions() {
            minion.damage(&mut Random(seed));
            minion.reconcile(world, world.now, &mut log);
        }
        self.log = log;
    }

    fn minions(&mut self) -> impl Iterator<Item = &mut Minion> {
        std::iter::once(&mut self.common).chain(&mut self.singles)
    }

    /// Panics when a node that is computed on its own differs from its cohort.
    pub fn compare(&self) {
        for single in &self.singles {
            let own = single.own.unwrap();
            let peers = self.common.membership.peers().filter(|p| *p != own);
            assert!(self.sampled || single.membership.peers().eq(peers), "peers of {own} at {}", self.next);
            assert!(
                self.sampled || single.kernel == self.common.seen_by(own),
                "tables of {own} at {}",
                self.next
            );
        }
    }

    /// Panics when the members do not know exactly those who are registered, or wait for anything.
    pub fn assert_exact(&self, registered: &BTreeSet<IpAddr>) {
        let membership = &self.common.membership;
        if membership.is_settled() && membership.peers().eq(registered.iter().copied()) {
            return;
        }
        let view = membership.view();
        let odd = |p: &&PeerView| {
            p.state.is_peer() != registered.contains(&p.address) || p.state != PeerState::Active
        };
        let odd: Vec<_> = view.peers.iter().filter(odd).collect();
        let lacking: Vec<_> = registered.iter().filter(|a| !membership.peers().any(|p| p == **a)).collect();
        panic!("at {} s: {odd:#?}, lacking {lacking:?}, names {:#?}", self.next, view.names);
    }

    /// The state, if nothing but the next answers can make a difference to what comes: everybody
    /// is listed or refused, nobody flapped, nobody is remembered, nothing is held or sampled.
    pub fn at_rest(&self) -> Option<Vec<(IpAddr, PeerState)>> {
        let membership = &self.common.membership;
        if self.cut || !membership.is_settled() || self.quiet < rest(&Thresholds::default()) {
            return None;
        }
        let view = membership.view();
        let calm =
            view.departed.is_empty() && view.mass_hold.is_none() && view.peers.iter().all(|p| p.flaps == 0);
        calm.then(|| view.peers.iter().map(|p| (p.address, p.state)).collect())
    }

    /// Takes in another cohort that is in the same state.
    pub fn unite(&mut self, mut other: Cohort) {
        self.members.append(&mut other.members);
        self.singles.append(&mut other.singles);
        self.log.add(&other.log);
        self.rounds += other.rounds;
        self.node_rounds += other.node_rounds;
    }
}
