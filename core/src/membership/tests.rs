//! A small world to test membership in: simulated time, and resolvers that say what they are told.

mod faults;
mod guards;
mod properties;
mod random;
mod restarts;
mod rules;
mod sampling;
mod simulation;

use super::*;
use crate::plan::{AddressPlan, PlanSpec, PodNetwork};
use std::sync::Arc;

const NAME: &str = "minions.cncfdemo.k8s";
const MASTERS: &str = "masters.cncfdemo.k8s";

/// 172.20.0.`n`.
fn ip(n: u8) -> IpAddr {
    IpAddr::from([172, 20, 0, n])
}

fn ips(ns: impl IntoIterator<Item = u8>) -> Vec<IpAddr> {
    ns.into_iter().map(ip).collect()
}

/// A plan with room for 172.20.0.0/16.
fn plan() -> AddressPlan {
    let pods = PodNetwork { network: "10.0.0.0/8".parse().unwrap(), node_prefix: 24 };
    let spec = PlanSpec { node_networks: vec!["172.20.0.0/16".parse().unwrap()], pod_networks: vec![pods] };
    AddressPlan::new(spec).unwrap()
}

/// The scope of 172.20.0.1.
fn scope() -> Scope {
    Scope { plan: Some(plan()), own: Some(ip(1)), local: BTreeSet::from([ip(1)]) }
}

fn answer(addrs: impl IntoIterator<Item = IpAddr>) -> Outcome {
    let addresses = Arc::new(addrs.into_iter().collect());
    Outcome::Answer { addresses, ttl: Duration::from_secs(5), complete: Complete::BOTH }
}

fn failure(kind: FailureKind) -> Outcome {
    Outcome::Failure { kind, text: "as told".into() }
}

fn reply(name: &str, resolver: &str, outcome: Outcome) -> Reply {
    Reply { name: name.into(), resolver: resolver.into(), outcome }
}

#[derive(Clone)]
struct World {
    members: Membership,
    now: Now,
    events: Vec<Event>,
}

impl World {
    /// Node 172.20.0.1 with default thresholds and one name.
    fn new() -> Self {
        Self::with(&[NAME], Thresholds::default())
    }

    fn with(names: &[&str], limits: Thresholds) -> Self {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        let mut members = Membership::new("cncfdemo", &names, limits).unwrap();
        members.set_scope(scope(), Now::default());
        World { members, now: Now { monotonic: Duration::ZERO, unix: 1_700_000_000 }, events: Vec::new() }
    }

    /// Five seconds pass, then a round with these replies.
    fn round(&mut self, replies: Vec<Reply>) -> Vec<Event> {
        self.pass(5);
        let round = Round { replies };
        let newcomers = self.members.newcomers(&round);
        let (room, before) = (self.members.limits.max_peers - self.members.peers, self.peers());
        let events = self.members.apply(&round, self.now);
        self.check_newcomers(&newcomers, &before, room);
        self.events.extend(events.clone());
        // Long runs repeat themselves: looking at every tenth round keeps them short.
        if !events.is_empty() || self.members.rounds.is_multiple_of(10) {
            self.check();
        }
        events
    }

    /// Who was announced as a newcomer is a peer now and was none before; and nobody else came for
    /// the first time, unless there was no room for all.
    fn check_newcomers(&self, newcomers: &BTreeSet<IpAddr>, before: &[IpAddr], room: usize) {
        let peers = self.peers();
        assert!(newcomers.iter().all(|a| peers.contains(a) && !before.contains(a)), "{newcomers:?}");
        let come = peers.iter().filter(|a| !before.contains(a) && !newcomers.contains(a));
        // Those who wait for room, or were refused for lack of it, are no strangers.
        assert!(come.count() == 0 || room <= peers.len(), "{peers:?} but {newcomers:?}");
    }

    fn pass(&mut self, seconds: u64) {
        self.now.monotonic += Duration::from_secs(seconds);
        self.now.unix += seconds;
    }

    /// A round in which the only resolver gives this answer for the only name.
    fn say(&mut self, addrs: &[IpAddr]) -> Vec<Event> {
        self.round(vec![reply(NAME, "10.0.0.2", answer(addrs.iter().copied()))])
    }

    /// The same answer until so many seconds have passed.
    fn say_for(&mut self, seconds: u64, addrs: &[IpAddr]) {
        for _ in 0..seconds / 5 {
            self.say(addrs);
        }
    }

    fn fail(&mut self, kind: FailureKind) -> Vec<Event> {
        self.round(vec![reply(NAME, "10.0.0.2", failure(kind))])
    }

    fn peers(&self) -> Vec<IpAddr> {
        self.members.peers().collect()
    }

    fn state(&self, addr: IpAddr) -> Option<PeerState> {
        self.members.view().peers.into_iter().find(|p| p.address == addr).map(|p| p.state)
    }

    /// What must hold at any time: the view tells the truth, and the counts are right.
    fn check(&self) {
        let view = self.members.view();
        let shown: Vec<_> = view.peers.iter().filter(|p| p.state.is_peer()).map(|p| p.address).collect();
        assert_eq!(shown, self.peers());
        let entries = &self.members.entries;
        assert_eq!(self.members.peers, entries.values().filter(|e| is_peer(e.refusal)).count());
        let refused = entries.values().filter(|e| e.refusal.is_some_and(Refusal::is_dispensable)).count();
        assert_eq!(self.members.refused, refused);
        for (addr, entry) in entries {
            assert_eq!(self.members.unlisted.contains(addr), !self.members.listed(*addr), "{addr}");
            assert!(entry.missing.is_none() || self.members.unlisted.contains(addr), "{addr}");
        }
        assert!(self.members.unlisted.iter().all(|a| entries.contains_key(a)));
    }
}
