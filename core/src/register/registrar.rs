//! When to register, and what.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::failure::Failure;
use super::lease::{lease_name, lease_text};
use super::sight::{Listed, Sight};
use super::standing::{Ledger, Standing};
use super::suspects::{Finding, Suspects};
use super::{Change, Lease, Settings, Update};
use crate::membership::Now;

/// The pause after the first failure; doubled with each further one.
const BACKOFF_MIN: Duration = Duration::from_secs(1);

/// The longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What is left of a resolver's delay beside the time to live: a secondary server is notified
/// within seconds (RFC 1996).
const SETTLE: Duration = Duration::from_secs(2);

/// After so many registrations that no answer shows, it is said.
const UNSEEN: u32 = 2;

/// Most texts of a lease that are remembered; more would take as many crashes in a row.
const TEXTS: usize = 8;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Write the ledger, then send the update for the own record.
    Register {
        /// What this node may have in DNS from then on.
        ledger: Ledger,
        /// The update.
        update: Update,
    },
    /// Read the leases of dead peers, and look whether their machines answer.
    Inspect(Vec<IpAddr>),
    /// Send the update that removes a dead peer.
    Remove(IpAddr, Update),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The own record is there.
    Registered {
        /// Whose.
        address: IpAddr,
        /// The one that it replaced.
        instead_of: Option<IpAddr>,
    },
    /// A former record belongs to another by now, and stays.
    Taken {
        /// The address.
        address: IpAddr,
    },
    /// A former record is in another zone, and stays.
    LeftBehind {
        /// Its name.
        name: String,
        /// The address.
        address: IpAddr,
    },
    /// Registered again and again, and not to be seen.
    Unseen {
        /// The address.
        address: IpAddr,
    },
    /// A dead peer's machine answers.
    Answers {
        /// The peer.
        peer: IpAddr,
    },
    /// A dead peer has no lease.
    NoLease {
        /// The peer.
        peer: IpAddr,
    },
    /// The record of a dead peer was removed.
    Removed {
        /// The peer.
        peer: IpAddr,
    },
    /// The record of a dead peer was changed before it could be removed.
    Saved {
        /// The peer.
        peer: IpAddr,
    },
}

impl Event {
    /// Whether somebody should look after it.
    pub fn is_problem(&self) -> bool {
        !matches!(self, Event::Registered { .. } | Event::Saved { .. })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Registered { address, instead_of: None } => write!(f, "registered {address} in DNS"),
            Event::Registered { address, instead_of: Some(old) } => {
                write!(f, "registered {address} in DNS instead of {old}")
            }
            Event::Taken { address } => {
                write!(f, "the record of {address}, which this node had, belongs to another now and stays")
            }
            Event::LeftBehind { name, address } => write!(
                f,
                "the record {name} {address}, which this node had, is in another zone and stays: remove it there"
            ),
            Event::Unseen { address } => write!(
                f,
                "registered {address} repeatedly, and resolvers still do not list it: do they ask the zone that \
                 register_server changes?"
            ),
            Event::Answers { peer } => write!(
                f,
                "{peer} is dead by probe, but its machine answers: its record stays; see what minionetd does there"
            ),
            Event::NoLease { peer } => write!(
                f,
                "{peer} is dead by probe, but did not register itself: its record stays; remove it with: minionetd \
                 deregister {peer}"
            ),
            Event::Removed { peer } => {
                write!(f, "removed {peer} from DNS: dead by probe, and its lease was not renewed")
            }
            Event::Saved { peer } => {
                write!(f, "the record of {peer} was changed at the last moment and stays")
            }
        }
    }
}

/// Keeps the own record right, and removes those of dead peers.
#[derive(Clone, Debug)]
pub struct Registrar {
    name: String,
    ttl: Duration,
    renewal: Duration,
    id: String,
    count: u64,
    /// What this node may have in DNS; the current record last.
    standings: Vec<Standing>,
    sight: Sight,
    /// When the own record was last acknowledged, in this run.
    done: Option<Duration>,
    /// When to try again after a failure.
    retry: Duration,
    failures: u32,
    /// Whether the last text of the current lease was sent and not acknowledged.
    pending: bool,
    /// Registrations since the record was last to be seen.
    unseen: u32,
    /// Random shortening of the renewals, per cent.
    early: u32,
    suspects: Option<Suspects>,
    removals: VecDeque<(IpAddr, String)>,
}

impl Registrar {
    /// A registrar of a name, fully qualified. `id` must differ from that of every other run of
    /// every node: it makes leases unique.
    pub fn new(settings: &Settings, name: &str, id: &str, ledger: Ledger) -> Self {
        Registrar {
            name: name.to_owned(),
            ttl: settings.ttl,
            renewal: settings.renewal(),
            id: id.to_owned(),
            count: 0,
            standings: ledger.standings,
            sight: Sight::default(),
            done: None,
            retry: Duration::ZERO,
            failures: 0,
            pending: false,
            unseen: 0,
            early: 0,
            suspects: settings.lease.map(Suspects::new),
            removals: VecDeque::new(),
        }
    }

    /// Takes what is seen now.
    pub fn observe(&mut self, sight: Sight, now: Now) {
        if self.sight.own != sight.own {
            self.begin_anew();
        }
        if sight.listed == Listed::Yes {
            self.unseen = 0;
        }
        self.sight = sight;
        if let Some(suspects) = &mut self.suspects {
            // Only who is known to the server himself has a say about others.
            match self.done {
                Some(_) => suspects.observe(&self.sight, now.monotonic),
                None => suspects.clear(),
            }
            let suspected: Vec<IpAddr> = suspects.peers().collect();
            self.removals.retain(|(peer, _)| suspected.contains(peer));
        }
    }

    /// Forgets that this node is registered, as an operator took it out.
    pub fn left(&mut self) {
        self.begin_anew();
        self.standings.clear();
        self.suspects.iter_mut().for_each(Suspects::clear);
        self.removals.clear();
    }

    fn begin_anew(&mut self) {
        (self.done, self.retry) = (None, Duration::ZERO);
        (self.failures, self.pending, self.unseen) = (0, false, 0);
    }

    /// What is to be done now, if anything. One thing at a time: report how it went before asking
    /// again.
    pub fn poll(&mut self, now: Now) -> Option<Task> {
        let own = self.sight.own?;
        if self.registration_due().is_some_and(|due| due <= now.monotonic) {
            return Some(self.register(own, now));
        }
        if let Some((peer, lease)) = self.removals.pop_front() {
            return Some(Task::Remove(peer, Update::removal(&self.name, peer, Some(lease))));
        }
        let due = self.suspects.as_ref()?.due(now.monotonic);
        (!due.is_empty()).then_some(Task::Inspect(due))
    }

    /// When there may be something to do, if nothing else is seen until then.
    pub fn next_wake(&self) -> Option<Duration> {
        let watch = self.suspects.as_ref().and_then(Suspects::next_due);
        self.registration_due().into_iter().chain(watch).min()
    }

    fn registration_due(&self) -> Option<Duration> {
        let own = self.sight.own?;
        let Some(done) = self.done.filter(|_| self.failures == 0) else { return Some(self.retry) };
        if self.standings.iter().any(|standing| !self.is_current(standing, own)) {
            return Some(self.retry);
        }
        let renewal = done + self.renewal - self.renewal * self.early / 100;
        let patience = (self.ttl * 2 + SETTLE).saturating_mul(1 << self.unseen.saturating_sub(1).min(16));
        match self.sight.listed {
            Listed::No => Some(renewal.min(done + patience)),
            Listed::Yes | Listed::Unknown => Some(renewal),
        }
    }

    fn is_current(&self, standing: &Standing, own: IpAddr) -> bool {
        standing.name == self.name && standing.address == own
    }

    /// The update that makes the own record right, together with the removal of a former one.
    fn register(&mut self, own: IpAddr, now: Now) -> Task {
        let current = self.standings.iter().position(|s| self.is_current(s, own));
        let mut standing = match current {
            Some(at) => self.standings.remove(at),
            None => Standing { name: self.name.clone(), address: own, leases: Vec::new() },
        };
        // What was sent and not acknowledged is sent again as it was: it may have been done.
        if !self.pending || standing.leases.is_empty() {
            self.count += 1;
            standing.leases.push(lease_text(&self.id, self.count, now.unix));
            let excess = standing.leases.len().saturating_sub(TEXTS);
            standing.leases.drain(..excess);
        }
        let text = standing.leases.last().cloned().unwrap_or_default();
        let mut changes = Vec::new();
        let mut requires = None;
        if let Some(former) = self.standings.first() {
            let Update { requires: lease, changes: removal } =
                Update::removal(&former.name, former.address, former.leases.last().cloned());
            (requires, changes) = (lease, removal);
        }
        let lease = Lease { name: lease_name(&self.name, own), text };
        changes.push(Change::Add { name: self.name.clone(), address: own, ttl: self.ttl });
        changes.push(Change::SetLease(lease, self.ttl));
        self.standings.push(standing);
        self.pending = true;
        Task::Register { ledger: Ledger::new(self.standings.clone()), update: Update { requires, changes } }
    }

    /// Takes how a registration went. `random` is any number, evenly distributed, for the jitter.
    pub fn registered(&mut self, result: Result<(), &Failure>, now: Now, random: u32) -> Vec<Event> {
        let Some(own) = self.sight.own else { return Vec::new() };
        let former = self.standings.first().filter(|s| !self.is_current(s, own)).cloned();
        let mut events = Vec::new();
        match (result, former) {
            (Ok(()), former) => {
                let first = self.done.is_none() || former.is_some();
                if let Some(current) = self.standings.last_mut() {
                    let older = current.leases.len().saturating_sub(1);
                    current.leases.drain(..older);
                }
                if former.is_some() {
                    self.standings.remove(0);
                }
                (self.done, self.failures, self.early) = (Some(now.monotonic), 0, random % 10);
                self.pending = false;
                if first {
                    events.push(Event::Registered { address: own, instead_of: former.map(|s| s.address) });
                }
                if self.sight.listed == Listed::No {
                    self.unseen += 1;
                    if self.unseen == UNSEEN + 1 {
                        events.push(Event::Unseen { address: own });
                    }
                }
                // What was seen before does not count any more.
                self.sight.listed = Listed::Unknown;
            }
            (Err(Failure::Changed), Some(former)) => {
                // It may be the lease before the last that is there.
                self.standings[0].leases.pop();
                if self.standings[0].leases.is_empty() {
                    self.standings.remove(0);
                    events.push(Event::Taken { address: former.address });
                }
                self.retry = now.monotonic;
            }
            (Err(Failure::NotZone { .. }), Some(former)) if former.name != self.name => {
                self.standings.remove(0);
                events.push(Event::LeftBehind { name: former.name, address: former.address });
                self.retry = now.monotonic;
            }
            (Err(_), _) => {
                let factor = 1u32 << self.failures.min(16);
                self.failures = self.failures.saturating_add(1);
                let pause = BACKOFF_MIN.saturating_mul(factor).min(BACKOFF_MAX);
                // Half of it is chance, so that nodes that failed together do not return together.
                self.retry =
                    now.monotonic + pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX));
            }
        }
        events
    }

    /// Takes what an inspection found; nothing where the server could not be asked.
    pub fn inspected(&mut self, peer: IpAddr, finding: Option<Finding>, now: Now) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(suspects) = &mut self.suspects else { return events };
        if let Some(lease) = suspects.found(peer, finding, now.monotonic, &mut events) {
            self.removals.push_back((peer, lease));
        }
        events
    }

    /// Takes how a removal went.
    pub fn removed(&mut self, peer: IpAddr, result: Result<(), &Failure>) -> Vec<Event> {
        if let Some(suspects) = &mut self.suspects {
            suspects.restart(peer, result.is_ok());
        }
        match result {
            Ok(()) => vec![Event::Removed { peer }],
            Err(Failure::Changed) => vec![Event::Saved { peer }],
            Err(_) => Vec::new(),
        }
    }

    /// What this node may have in DNS.
    pub fn ledger(&self) -> Ledger {
        Ledger::new(self.standings.clone())
    }

    /// Whether the own record was acknowledged in this run.
    pub fn is_registered(&self) -> bool {
        self.done.is_some()
    }

    /// The name that gets the record.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is seen.
    pub fn sight(&self) -> &Sight {
        &self.sight
    }

    /// Dead peers whose leases are watched.
    pub fn suspects(&self) -> Vec<IpAddr> {
        self.suspects.iter().flat_map(Suspects::peers).collect()
    }
}
