//! Who the peers are: a state machine over DNS answers that nothing but DNS itself can talk out
//! of a peer.
//!
//! ```text
//!             first sight                 complete answer without it
//! (unknown) ───────────────► active ─────────────────────────────────► missing ──► (removed)
//!                              ▲ ▲            listed again               │   ▲        │
//!                              │ └───────────────────────────────────────┘   │        │
//!                              │                                     held ◄──┘        │
//!                              └──────────────── listed again ────────────────────────┘
//! ```
//!
//! * Everything but `(unknown)` and `(removed)` is programmed.
//! * A name that fails, in whichever way, changes nothing. While a name fails that was ever
//!   answered, nobody is removed at all, and no time passes for those that are missing.
//! * An answer that lacks records (truncated, or one of the two lookups failed) can only add.
//! * A peer counts as missing when every name was answered completely and no resolver listed it.
//!   It is removed after [`Thresholds::missing_answers`] such answers in a row and
//!   [`Thresholds::hold_down`]; later when suspiciously many are missing at once, when it comes
//!   and goes, or when the answers are random samples.
//! * An address that moves from one node to another needs nothing: see [`Scope`]. One that is
//!   listed twice, or by several names, is one peer; the view says which names list it.
//!
//! Architecture invariants: no sequence of failures ever removes a peer; what the latest complete
//! answers list is programmed unless it is refused for a reason that the view shows; a peer that
//! DNS has dropped goes in the end; memory is bounded by [`Thresholds::max_peers`] and the
//! answers themselves, and a round costs no more than comparing its answer with the last one.

mod addresses;
mod entry;
mod event;
mod name;
mod outcome;
mod refresh;
mod removal;
mod sampling;
mod scope;
pub mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod thresholds;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;

pub use self::addresses::AddressSet;
use self::entry::{Entry, Flaps};
pub use self::entry::{HoldReason, Liveness};
pub use self::event::Event;
use self::name::NameState;
pub use self::outcome::{Complete, FailureKind, Now, Outcome, Reply, Round};
pub use self::scope::{Refusal, Scope};
pub use self::snapshot::{SavedPeer, Snapshot, SnapshotError};
use self::table::is_peer;
pub use self::thresholds::{ThresholdError, Thresholds};
pub use self::view::{
    DepartedView, FailureView, MassView, NameView, OwnView, PeerState, PeerView, ResolverView, View,
};

/// Most refused addresses that are remembered one by one; the others are only counted.
const MAX_REFUSED: usize = 1000;

/// Most removed peers that are remembered.
const MAX_DEPARTED: usize = 1000;

/// Settings that membership cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// There is nothing to ask for.
    #[error("no name to look up: set the cluster's name (CLUSTER_NAME) and at least one role")]
    NoName,
    /// A threshold is not possible.
    #[error("the membership thresholds cannot work: {source}")]
    Thresholds {
        /// Which, and what is possible.
        #[from]
        source: ThresholdError,
    },
}

/// A removed peer, remembered so that its return is noticed.
#[derive(Clone, Copy, Debug)]
struct Departed {
    at: Now,
    first_seen: u64,
    flaps: Flaps,
    liveness: Liveness,
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Membership {
    cluster: String,
    limits: Thresholds,
    scope: Scope,
    /// In the order of the names themselves.
    names: Vec<NameState>,
    entries: BTreeMap<IpAddr, Entry>,
    /// The entries that no name lists: those that are missing or may be so after the next
    /// complete round.
    unlisted: BTreeSet<IpAddr>,
    /// How many entries are peers (or wait for the plan to become some), and how many are refused
    /// and dispensable.
    peers: usize,
    refused: usize,
    departed: BTreeMap<IpAddr, Departed>,
    rounds: u64,
    /// The time that complete rounds have covered. Holds run on this clock, so that a failing
    /// DNS lets nobody come nearer to removal.
    watched: Duration,
    last_complete: Option<Duration>,
    /// While sampling: the number of answers that a listed peer would not be missing from.
    sampling: Option<u32>,
    /// How many of how many are missing at once, while some are held for it.
    mass: Option<(usize, usize)>,
    own_missing_since: Option<u64>,
    /// Whether there were peers before the first round.
    inherited: bool,
    /// Whether an earlier run was in doubt about some peers, and not all has been well since.
    doubted: bool,
}

impl Membership {
    /// A membership without peers, before the first answer.
    ///
    /// # Errors
    /// [`SettingsError`] when there is no name, or a threshold makes no sense.
    pub fn new(cluster: &str, names: &[String], limits: Thresholds) -> Result<Self, SettingsError> {
        let names = name_states(names, &limits)?;
        Ok(Membership {
            cluster: cluster.to_owned(),
            limits,
            scope: Scope::default(),
            names,
            entries: BTreeMap::new(),
            unlisted: BTreeSet::new(),
            peers: 0,
            refused: 0,
            departed: BTreeMap::new(),
            rounds: 0,
            watched: Duration::ZERO,
            last_complete: None,
            sampling: None,
            mass: None,
            own_missing_since: None,
            inherited: false,
            doubted: false,
        })
    }

    /// Takes other names or thresholds. What only a dropped name listed goes by the rules.
    ///
    /// # Errors
    /// As [`Membership::new`]; then nothing is changed.
    pub fn reconfigure(&mut self, names: &[String], limits: Thresholds) -> Result<(), SettingsError> {
        let mut states = name_states(names, &limits)?;
        let old = std::mem::take(&mut self.names);
        let (kept, dropped): (Vec<_>, Vec<_>) = old.into_iter().partition(|old| names.contains(&old.name));
        for old in kept {
            if let Some(state) = states.iter_mut().find(|s| s.name == old.name) {
                *state = old;
            }
        }
        (self.names, self.limits) = (states, limits);
        for old in dropped {
            self.unlist(old.last.iter(), old.last_at.map_or(0, |at| at.unix));
        }
        Ok(())
    }

    /// Takes the peers of a snapshot, to be programmed until complete answers say otherwise.
    /// Call it before the first round. Returns how many were taken.
    ///
    /// # Errors
    /// [`SnapshotError::OtherCluster`]; then nothing is changed.
    pub fn restore(&mut self, snapshot: &Snapshot, now: Now) -> Result<usize, SnapshotError> {
        if snapshot.cluster != self.cluster {
            let (found, expected) = (snapshot.cluster.clone(), self.cluster.clone());
            return Err(SnapshotError::OtherCluster { found, expected });
        }
        for state in &mut self.names {
            state.ever |= snapshot.names.contains(&state.name);
        }
        Ok(snapshot.peers.iter().filter(|saved| self.take_over(saved, now)).count())
    }

    /// Takes the peers that an earlier run left in the kernel and that no snapshot told of, to be
    /// kept until complete answers say otherwise: a lost snapshot must not turn the first answer
    /// into the only truth. Which name listed them is not known, so until they have been listed
    /// they wait for all names, those that were never answered included. Call it before the first
    /// round, after [`Membership::restore`]. Returns how many were taken.
    pub fn adopt(&mut self, nodes: impl IntoIterator<Item = IpAddr>, now: Now) -> usize {
        // How long they have been there is not known either: none has a say about the others.
        let seen = now.unix;
        let saved =
            |address| SavedPeer { address, first_seen: seen, last_seen: seen, newcomer: true, held: false };
        let mut taken = 0;
        for node in nodes {
            if self.take_over(&saved(node), now) {
                taken += 1;
                self.entries.entry(node).and_modify(|e| e.adopted = true);
            }
        }
        taken
    }

    /// Takes a peer of an earlier run. Returns whether it was new and can be one.
    fn take_over(&mut self, saved: &SavedPeer, now: Now) -> bool {
        let refusal = self.refusal(saved.address);
        if self.entries.contains_key(&saved.address) || refusal.is_some_and(Refusal::is_dispensable) {
            return false;
        }
        let SavedPeer { first_seen, last_seen, newcomer, held, .. } = *saved;
        let known = Entry { first_seen, last_seen, newcomer, held, ..Entry::new(now, refusal) };
        self.insert(saved.address, Entry { confirmed: false, joined: None, ..known });
        self.inherited = true;
        self.doubted |= newcomer || held;
        self.unlisted.insert(saved.address);
        true
    }

    /// The snapshot to keep. Worth writing when [`Snapshot::same_peers`] says that it differs
    /// from the last one written.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let missed = self.first_missed().unwrap_or(now.monotonic);
        let saved = |(address, entry): (&IpAddr, &Entry)| SavedPeer {
            address: *address,
            first_seen: entry.first_seen,
            last_seen: self.last_seen(*address, entry),
            newcomer: entry.is_newcomer(missed, &self.limits),
            held: entry.held || entry.missing.is_some_and(|m| m.guarded),
        };
        let wanted = |e: &Entry| is_peer(e.refusal);
        Snapshot {
            schema: snapshot::SCHEMA,
            cluster: self.cluster.clone(),
            written: now.unix,
            names: self.names.iter().filter(|n| n.ever).map(|n| n.name.clone()).collect(),
            peers: self.entries.iter().filter(|(_, e)| wanted(e)).map(saved).collect(),
        }
    }

    /// Takes another plan or other addresses of this node: every known address is judged anew.
    pub fn set_scope(&mut self, scope: Scope, now: Now) -> Vec<Event> {
        if self.scope == scope {
            return Vec::new();
        }
        if self.scope.own != scope.own {
            self.own_missing_since = None;
        }
        self.scope = scope;
        let mut events = Vec::new();
        let known: BTreeSet<IpAddr> = self.addresses().into_iter().collect();
        for addr in known {
            self.judge(addr, now, &mut events);
        }
        events
    }

    /// Takes what one round of lookups found.
    pub fn apply(&mut self, round: &Round, now: Now) -> Vec<Event> {
        self.rounds += 1;
        let mut events = Vec::new();
        let mut swap = false;
        for i in 0..self.names.len() {
            let mut replies: Vec<_> = round.replies.iter().filter(|r| r.name == self.names[i].name).collect();
            replies.sort_by_key(|r| &r.resolver);
            let state = &mut self.names[i];
            let failed = state.failures > 0;
            let absorbed = state.absorb(&replies, self.scope.family(), now, &self.limits);
            events.extend(name_event(state, failed));
            swap |= absorbed.swap;
            self.unlist(absorbed.left.into_iter(), absorbed.left_at);
            for addr in absorbed.came {
                self.sight(addr, now, &mut events);
            }
        }
        self.judge_sampling(&mut events);
        if self.is_complete() {
            self.note_missing(swap, now, &mut events);
        }
        events
    }

    /// Takes what the probe says about a peer; an address that is unknown is ignored.
    pub fn set_liveness(&mut self, peer: IpAddr, liveness: Liveness, now: Now) {
        if let Some(entry) = self.entries.get_mut(&peer).filter(|e| e.liveness.0 != liveness) {
            entry.liveness = (liveness, now.unix);
        }
    }

    /// The peers that are to be programmed, in the order of their addresses.
    pub fn peers(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.entries.iter().filter(|(_, e)| e.refusal.is_none()).map(|(addr, _)| *addr)
    }

    /// Every address that DNS lists, or listed so lately that it does not count as gone; peers,
    /// refused ones and this node's own. This node's own address is chosen from them.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let listed = self.names.iter().flat_map(|n| n.last.iter());
        listed.chain(self.entries.keys().copied()).collect()
    }

    /// Whether every name has been answered completely in the last round, as far as it was ever
    /// answered, and at least one was: only then does an absence mean anything, and only then is
    /// it known which stale state of a former run may be removed.
    pub fn is_complete(&self) -> bool {
        self.scope.plan.is_some()
            && self.names.iter().any(|n| n.complete)
            && !self.names.iter().any(NameState::blocks)
    }

    /// Whether nothing is pending: another complete round with the same answers would change
    /// nothing but the time at which peers were last seen.
    pub fn is_settled(&self) -> bool {
        self.is_complete() && self.unlisted.is_empty() && self.sampling.is_none()
    }

    fn listed(&self, addr: IpAddr) -> bool {
        self.names.iter().any(|n| n.last.contains(&addr))
    }

    /// Notes addresses that a name does not list any more.
    fn unlist(&mut self, addrs: impl Iterator<Item = IpAddr>, last_seen: u64) {
        for addr in addrs {
            let listed = self.listed(addr);
            if let Some(entry) = self.entries.get_mut(&addr) {
                entry.last_seen = entry.last_seen.max(last_seen);
                if !listed {
                    self.unlisted.insert(addr);
                }
            }
        }
    }

    /// Notes an address that a name lists and did not before.
    fn sight(&mut self, addr: IpAddr, now: Now, events: &mut Vec<Event>) {
        self.unlisted.remove(&addr);
        let Some(entry) = self.entries.get_mut(&addr) else { return self.judge(addr, now, events) };
        (entry.confirmed, entry.held, entry.adopted) = (true, false, false);
        if entry.missing.take().is_some() {
            entry.since = now.unix;
            // A sample says nothing about a peer that it does not hold.
            if self.sampling.is_none() {
                entry.flaps.add(now.monotonic, self.limits.flap_window);
            }
            if entry.refusal.is_none() {
                let flaps = entry.flaps.count(now.monotonic, self.limits.flap_window);
                events.push(Event::Returned { peer: addr, flaps });
            }
        }
    }
}

fn name_states(names: &[String], limits: &Thresholds) -> Result<Vec<NameState>, SettingsError> {
    limits.check()?;
    // A set: a name that is given twice is asked once.
    let names: BTreeSet<&String> = names.iter().collect();
    if names.is_empty() {
        return Err(SettingsError::NoName);
    }
    Ok(names.into_iter().map(|name| NameState::new(name)).collect())
}

/// What to tell about a name after a round, knowing whether it had failed before.
fn name_event(state: &NameState, failed: bool) -> Option<Event> {
    let name = state.name.clone();
    match (&state.last_failure, state.failures > 0) {
        (Some(failure), true) if !failed => {
            Some(Event::NameFailed { name, kind: failure.kind, text: failure.text.clone() })
        }
        (_, false) if failed => Some(Event::NameAnswered { name }),
        _ => None,
    }
}
