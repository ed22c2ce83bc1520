//! The probe through the tunnel: who answers, how fast, how large a packet may be, and who has
//! another plan.
//!
//! Every node asks every peer now and then, from the address of its own VTEP to that of the
//! peer's, so that a request takes the very way of the pods' packets: the route, the neighbour,
//! the forwarding entry, VXLAN, and the peer's device. A state machine like the others: time,
//! messages and peers come in, messages and findings go out.
//!
//! * A **small** request tells whether the peer answers, and how fast. [`Limits::dead_after`]
//!   losses in a row make it dead, one reply makes it alive.
//!   In a large cluster a request of the peer that says that it got our last reply tells the same,
//!   so that of two nodes one asks, now this one and now that one.
//! * A **large** one, sent right after a small one, tells whether a packet of the pods' full size
//!   passes; see [`path_mtu`]. It counts as lost only when the small one was answered. The reply
//!   to it is small: the peer tries its own direction.
//!   In a large cluster, where the full size passed the last time, it goes alone, and both follow at
//!   once if it is not answered.
//! * A peer that has another plan does not get our requests: they carry the MAC that it has by
//!   our plan. A **hello** to a peer that is silent is a frame that every minion takes; see
//!   [`hello`].
//!
//! A daemon that is asked to stop leaves what it knows to the next one; see [`kept`].
//!
//! The results inform. They remove nothing by themselves; membership asks for them where DNS
//! alone cannot tell (see [`crate::membership`]).
//!
//! # Trust
//! Messages are believed because of where they come from: from a peer's VTEP, through the
//! tunnel. The kernel takes VXLAN from members only, and drops what a pod sends with an address
//! that is not its own, so that no pod can speak for a VTEP ([`crate::nft::guard`]). On top of
//! that, a reply has to carry the token of a request under way.
//!
//! # Architecture invariants
//! * No second has more than [`Limits::rate`] requests and a burst, however many peers there are.
//! * Nobody but a peer gets a reply, and a reply is never larger than its request.
//! * Memory is bounded by the number of peers: a few hundred octets each.

mod event;
pub mod hello;
mod kept;
mod limits;
mod message;
mod parties;
mod path_mtu;
mod peer;
mod random;
mod stats;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

pub use self::event::Event;
pub use self::kept::{Kept, Way};
use self::limits::Pacer;
pub use self::limits::{Limits, regular};
pub use self::message::{About, HEADER, Kind, Message, MessageError};
pub use self::parties::{Local, Target, Transmit};
use self::peer::Peer;
use self::random::Random;
pub use self::stats::Times;
use self::view::{Counters, ProbeView};
use crate::addr::Family;
use crate::membership::{Liveness, Now};

/// Most events that are kept for [`Prober::events`]; the others are lost, not what they are about.
const MAX_EVENTS: usize = 1000;

/// The state machine.
#[derive(Clone, Debug)]
pub struct Prober {
    /// Those of a small cluster.
    base: Limits,
    /// Those with as many peers as there are.
    limits: Limits,
    local: Option<Local>,
    /// By the address of the VTEP.
    peers: BTreeMap<IpAddr, Peer>,
    /// What is to be done when, for every peer once.
    queue: BTreeSet<(Duration, IpAddr)>,
    /// Hellos that wait to be sent.
    hello: Option<IpAddr>,
    /// What an earlier daemon left, and the present way, until there are peers.
    kept: Option<(Kept, Way)>,
    pacer: Pacer,
    random: Random,
    sequence: u32,
    events: Vec<Event>,
    counters: Counters,
    times: Times,
}

impl Prober {
    /// A prober without peers. The seed should not be guessable by others: the tokens follow
    /// from it.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Prober {
            pacer: Pacer::new(&limits),
            limits: limits.clone(),
            base: limits,
            local: None,
            peers: BTreeMap::new(),
            queue: BTreeSet::new(),
            hello: None,
            kept: None,
            random: Random(seed),
            sequence: 0,
            events: Vec::new(),
            counters: Counters::default(),
            times: Times::default(),
        }
    }

    /// Says who this node is and who its peers are. Targets of another family than the own VTEP
    /// are left out.
    pub fn update(&mut self, local: Local, targets: impl IntoIterator<Item = Target>, now: Now) {
        if self.local.as_ref().is_some_and(|old| old.vtep != local.vtep) {
            // Everything was measured from another place.
            self.peers.clear();
            self.queue.clear();
        }
        for peer in self.peers.values_mut() {
            peer.set_full(local.about.mtu);
        }
        let mut gone: BTreeSet<IpAddr> = self.peers.keys().copied().collect();
        let mut new = Vec::new();
        for target in targets {
            if Family::of(target.vtep) != Family::of(local.vtep) || target.vtep == local.vtep {
                continue;
            }
            gone.remove(&target.vtep);
            match self.peers.get_mut(&target.vtep) {
                Some(peer) if peer.target.node == target.node => peer.target = target,
                _ => new.push(target),
            }
        }
        for vtep in gone.into_iter().chain(new.iter().map(|target| target.vtep)) {
            self.remove(vtep);
        }
        let new = self.greet(new, &local, now);
        let unheard = self.peers.values().filter(|peer| peer.liveness() == Liveness::Unknown).count();
        self.limits = self.base.with(self.peers.len() + new.len(), unheard + new.len());
        for target in new {
            self.add(target, &local, now);
        }
        self.local = Some(local);
    }

    /// Whether this node has a place in the overlay yet.
    pub fn local(&self) -> Option<&Local> {
        self.local.as_ref()
    }

    /// The next message to send, if one is due and the rate permits. Call it until it returns
    /// nothing, after everything that has arrived was taken in.
    pub fn poll(&mut self, now: Now) -> Option<Transmit> {
        let local = self.local.as_ref()?;
        if let Some(to) = self.hello.take() {
            let about = local.about.clone();
            let message = Message {
                kind: Kind::Hello,
                size: HEADER as u16,
                sequence: 0,
                token: 0,
                hears: false,
                about,
            };
            return Some(Transmit::Hello { to, payload: message.encode() });
        }
        loop {
            let (at, vtep) = self.queue.first().copied()?;
            if at > now.monotonic {
                return None;
            }
            // Every entry of the queue is a peer's.
            let peer = self.peers.get_mut(&vtep)?;
            let event = peer.expire(now, &self.limits, self.random.dice());
            let sends = peer.sends(now.monotonic);
            if sends && !self.pacer.permits(now.monotonic) {
                push(&mut self.events, event);
                return None;
            }
            let sent = sends.then(|| {
                self.pacer.count(now.monotonic);
                let token = self.random.next();
                (token, peer.hears(), peer.send(token, local, &self.limits, now.monotonic))
            });
            if sent.is_some() && peer.is_silent() {
                self.hello = Some(peer.target.node);
            }
            requeue(&mut self.queue, vtep, peer);
            push(&mut self.events, event);
            if let Some((token, hears, size)) = sent {
                self.sequence = self.sequence.wrapping_add(1);
                self.counters.requests_sent += 1;
                let size = size - local.overhead();
                let (sequence, about) = (self.sequence, local.about.clone());
                let message = Message { kind: Kind::Request, size, sequence, token, hears, about };
                return Some(Transmit::Datagram { to: vtep, payload: message.encode() });
            }
        }
    }

    /// When to call [`Prober::poll`] again, if nothing arrives before.
    pub fn next_wake(&self, now: Now) -> Option<Duration> {
        self.local.as_ref()?;
        let (at, _) = self.queue.first()?;
        Some(if *at > now.monotonic { *at } else { self.pacer.again().max(now.monotonic) })
    }

    /// Whether half a second more or less does not matter: there are so many peers that the intervals
    /// have grown, and nothing waits for the rate to permit it.
    pub fn is_patient(&self, now: Now) -> bool {
        self.limits.share && self.queue.first().is_none_or(|(at, _)| *at > now.monotonic)
    }

    /// Takes a datagram that came through the tunnel. Returns the reply to send back to where it
    /// came from, if it wants one.
    pub fn receive(&mut self, from: IpAddr, datagram: &[u8], now: Now) -> Option<Vec<u8>> {
        let local = self.local.as_ref()?;
        let Some(peer) = self.peers.get_mut(&from) else {
            self.counters.strangers += 1;
            return None;
        };
        let Ok(message) = Message::decode(datagram) else {
            self.counters.ignored += 1;
            return None;
        };
        let answer = match message.kind {
            Kind::Request => {
                self.counters.requests_answered += 1;
                peer.asked(message.hears, now.monotonic, &self.limits, self.random.dice());
                let reply = Message { kind: Kind::Reply, about: local.about.clone(), ..message.clone() };
                Some(reply.encode())
            }
            Kind::Reply => {
                match peer.reply(message.token, now, &self.limits, self.random.dice(), &mut self.times) {
                    Some(events) => events.into_iter().for_each(|e| push(&mut self.events, Some(e))),
                    None => {
                        self.counters.ignored += 1;
                        return None;
                    }
                }
                self.counters.replies_received += 1;
                None
            }
            // Hellos come another way.
            Kind::Hello => {
                self.counters.ignored += 1;
                return None;
            }
        };
        let events = peer.learn(message.about, local.about.plan);
        events.into_iter().for_each(|e| push(&mut self.events, Some(e)));
        requeue(&mut self.queue, from, peer);
        answer
    }

    /// Takes a hello that came through the tunnel. It is believed for what it says about a
    /// peer's plan, and for nothing else: the kernel only vouches for its having come from a
    /// member.
    pub fn receive_hello(&mut self, datagram: &[u8]) {
        let Some(local) = self.local.as_ref() else { return };
        let message = Message::decode(datagram).ok().filter(|m| m.kind == Kind::Hello);
        let Some(message) = message else {
            self.counters.ignored += 1;
            return;
        };
        let peer = self.peers.values_mut().find(|p| p.target.node == message.about.node);
        let Some(peer) = peer.filter(|p| p.liveness() != Liveness::Alive) else {
            self.counters.strangers += 1;
            return;
        };
        self.counters.hellos_received += 1;
        let events = peer.learn(message.about, local.about.plan);
        events.into_iter().for_each(|e| push(&mut self.events, Some(e)));
    }

    /// What membership is to know of every peer, by the peer's address on the underlay.
    ///
    /// Where nobody answers at all, this node is what has no network: then nothing is said about
    /// its peers.
    pub fn liveness(&self) -> impl Iterator<Item = (IpAddr, Liveness)> + '_ {
        let somebody = self.peers.values().any(|p| p.liveness() == Liveness::Alive);
        self.peers.values().map(move |peer| match peer.liveness() {
            Liveness::Dead if !somebody => (peer.target.node, Liveness::Unknown),
            liveness => (peer.target.node, liveness),
        })
    }

    /// What has happened since the last call.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Times of all peers together since the start.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// The results, for others to read.
    pub fn view(&self, now: Now) -> Option<ProbeView> {
        let local = self.local.as_ref()?;
        Some(ProbeView {
            schema: view::SCHEMA,
            written: now.unix,
            mtu: local.about.mtu,
            plan: format!("{:016x}", local.about.plan),
            peers: self.peers.values().map(|peer| peer.view(local.about.plan)).collect(),
            counters: self.counters,
        })
    }

    /// Goes on with those that an earlier daemon left word of; returns the others.
    fn greet(&mut self, new: Vec<Target>, local: &Local, now: Now) -> Vec<Target> {
        if new.is_empty() || self.kept.is_none() {
            return new;
        }
        let interval = self.base.with(self.peers.len() + new.len(), 0).interval;
        let kept: BTreeMap<_, _> =
            self.recall(local, now).into_iter().map(|kept| (kept.vtep, kept)).collect();
        let resume = |target: &Target| Peer::resume(*target, kept.get(&target.vtep)?, local, interval, now);
        let mut strangers = Vec::new();
        for target in new {
            match resume(&target) {
                Some(peer) => self.insert(peer),
                None => strangers.push(target),
            }
        }
        strangers
    }

    fn add(&mut self, target: Target, local: &Local, now: Now) {
        // Spread over the first interval: after a start, all peers come at once.
        let wait = self.limits.first.mul_f64(f64::from(self.random.dice()) / f64::from(u32::MAX));
        self.insert(Peer::new(target, local, now.monotonic + wait, now));
    }

    fn insert(&mut self, peer: Peer) {
        self.queue.insert((peer.queued, peer.target.vtep));
        self.peers.insert(peer.target.vtep, peer);
    }

    fn remove(&mut self, vtep: IpAddr) {
        if let Some(peer) = self.peers.remove(&vtep) {
            self.queue.remove(&(peer.queued, vtep));
        }
    }
}

fn requeue(queue: &mut BTreeSet<(Duration, IpAddr)>, vtep: IpAddr, peer: &mut Peer) {
    let due = peer.due();
    if due != peer.queued {
        queue.remove(&(peer.queued, vtep));
        queue.insert((due, vtep));
        peer.queued = due;
    }
}

fn push(events: &mut Vec<Event>, event: Option<Event>) {
    if events.len() < MAX_EVENTS {
        events.extend(event);
    }
}
