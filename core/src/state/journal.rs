//! What the daemon did, kept while it runs.
//!
//! Memory is bounded: counters by kind, and the last few repairs in words.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::{Repair, Repairs, Rounds};
use crate::histogram::Histogram;
use crate::membership::{Complete, Now, Outcome, Round};
use crate::overlay::Change;

/// Most repairs that are remembered in words.
const LAST: usize = 20;

/// Most repairs of one round that are remembered in words.
const LAST_PER_ROUND: usize = 5;

/// Bounds for what takes from less than a millisecond to half a minute, in seconds.
pub(crate) const BOUNDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Why something in the kernel is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The plan, the peers or the configuration changed, or the daemon has just started.
    Plan,
    /// Nothing of that changed: somebody else did something in the kernel.
    Drift,
}

/// Durations, for metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Meters {
    /// Rounds.
    pub rounds: Histogram,
    /// From an answer with other peers until the kernel holds them.
    pub convergence: Histogram,
}

/// What the daemon did.
#[derive(Clone, Debug)]
pub struct Journal {
    /// Counts what is worth telling others about.
    version: u64,
    repairs: BTreeMap<String, u64>,
    last: VecDeque<Repair>,
    rounds: Rounds,
    replies: BTreeMap<&'static str, u64>,
    meters: Meters,
    /// The hash of what the kernel was last seen to hold.
    settled: Option<u64>,
    cause: Cause,
    peer_routes: usize,
    refused: usize,
    device_works: bool,
    rules_work: bool,
    last_complete: Option<u64>,
    next_refresh: Option<u64>,
    trouble: Option<String>,
}

impl Default for Journal {
    fn default() -> Self {
        let meters = Meters { rounds: Histogram::new(BOUNDS), convergence: Histogram::new(BOUNDS) };
        Journal {
            version: 0,
            repairs: BTreeMap::new(),
            last: VecDeque::new(),
            rounds: Rounds::default(),
            replies: BTreeMap::new(),
            meters,
            settled: None,
            cause: Cause::Plan,
            peer_routes: 0,
            refused: 0,
            device_works: false,
            rules_work: false,
            last_complete: None,
            next_refresh: None,
            trouble: None,
        }
    }
}

impl Journal {
    /// Grows with everything that is worth telling others about: not with what happens in every
    /// round, nor with what the probe measures.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Something happened that is not told to the journal otherwise.
    pub fn touch(&mut self) {
        self.version += 1;
    }

    /// Takes what the resolvers said.
    pub fn heard(&mut self, round: &Round) {
        for reply in &round.replies {
            let result = match &reply.outcome {
                Outcome::Answer { complete: Complete::BOTH, .. } => "answer",
                Outcome::Answer { .. } => "incomplete",
                Outcome::Failure { kind, .. } => kind.name(),
            };
            *self.replies.entry(result).or_default() += 1;
        }
    }

    /// All names were answered completely.
    pub fn complete(&mut self, now: Now) {
        if self.last_complete.is_none() {
            self.version += 1;
        }
        self.last_complete = Some(now.unix);
    }

    /// When DNS is asked next.
    pub fn next_refresh(&mut self, wait: Duration, now: Now) {
        // Rounded up: what is about to happen is not in the past.
        self.next_refresh = Some(now.unix + wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
    }

    /// The kernel is about to be compared with what it should hold; `wanted` is all of that, with so
    /// many routes to peers in it.
    pub fn compare(&mut self, wanted: &impl Hash, peer_routes: usize) {
        self.peer_routes = peer_routes;
        let hash = hash(wanted);
        self.cause = if self.settled == Some(hash) { Cause::Drift } else { Cause::Plan };
        self.settled = Some(hash);
    }

    /// Other settings count from now on: what they change is no repair.
    pub fn reconfigured(&mut self) {
        self.settled = None;
        self.cause = Cause::Plan;
        self.version += 1;
    }

    /// Changes to the kernel's tables were asked for. Those of them that it refused are given again,
    /// in the same order: they do not count, as they are tried in every round.
    pub fn changed<'a>(
        &mut self,
        changes: &[Change],
        refused: impl ExactSizeIterator<Item = &'a Change>,
        now: Now,
    ) {
        self.refused = refused.len();
        self.made(changes, refused, now);
    }

    /// As [`Journal::changed`], before the tables are read: what was refused is found again by that,
    /// and told then.
    pub fn made<'a>(&mut self, changes: &[Change], refused: impl Iterator<Item = &'a Change>, now: Now) {
        let mut refused = refused.peekable();
        let made = changes.iter().filter(|change| refused.next_if(|r| r == change).is_none());
        let texts: Vec<_> = made.map(|change| (change.object(), change.to_string())).collect();
        self.count(texts.into_iter(), now);
    }

    /// The kernel's tables are as they should be: nothing is refused any more.
    pub fn unchanged(&mut self) {
        self.refused = 0;
    }

    /// Something else was changed in the kernel, described in words.
    pub fn mended(&mut self, kind: &'static str, what: impl IntoIterator<Item = String>, now: Now) {
        self.count(what.into_iter().map(|text| (kind, text)), now);
    }

    fn count(&mut self, what: impl Iterator<Item = (&'static str, String)>, now: Now) {
        for (number, (kind, text)) in what.enumerate() {
            self.version += 1;
            let counts = match self.cause {
                Cause::Plan => &mut self.rounds.changes,
                Cause::Drift => &mut self.repairs,
            };
            *counts.entry(kind.to_owned()).or_default() += 1;
            if self.cause == Cause::Drift && number < LAST_PER_ROUND {
                self.last.push_front(Repair { at: now.unix, what: text });
                self.last.truncate(LAST);
            }
        }
    }

    /// Whether the VXLAN device is as it should be.
    pub fn set_device(&mut self, works: bool) {
        self.version += u64::from(self.device_works != works);
        self.device_works = works;
    }

    /// Whether the rules are in place.
    pub fn set_rules(&mut self, work: bool) {
        self.version += u64::from(self.rules_work != work);
        self.rules_work = work;
    }

    /// A round has ended, with this trouble or none.
    pub fn round(&mut self, took: Duration, trouble: Option<&str>, now: Now) {
        self.meters.rounds.push(took);
        let rounds = &mut self.rounds;
        rounds.count += 1;
        rounds.failed += u64::from(trouble.is_some());
        rounds.last = Some(now.unix);
        rounds.last_duration = took.as_secs_f64();
        rounds.longest_duration = rounds.longest_duration.max(rounds.last_duration);
        if self.trouble.as_deref() != trouble {
            self.trouble = trouble.map(str::to_owned);
            self.version += 1;
        }
    }

    /// The kernel holds the peers of an answer that had others than the one before it.
    pub fn converged(&mut self, took: Duration) {
        self.meters.convergence.push(took);
    }

    /// Durations, for metrics.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    pub(super) fn repairs(&self) -> Repairs {
        Repairs { counts: self.repairs.clone(), last: self.last.iter().cloned().collect() }
    }

    pub(super) fn rounds(&self) -> Rounds {
        self.rounds.clone()
    }

    pub(super) fn replies(&self) -> BTreeMap<String, u64> {
        self.replies.iter().map(|(result, count)| ((*result).to_owned(), *count)).collect()
    }

    pub(super) fn peer_routes(&self) -> usize {
        self.peer_routes
    }

    pub(super) fn refused(&self) -> usize {
        self.refused
    }

    pub(super) fn device_works(&self) -> bool {
        self.device_works
    }

    pub(super) fn rules_work(&self) -> bool {
        self.rules_work
    }

    pub(super) fn last_complete(&self) -> Option<u64> {
        self.last_complete
    }

    pub(super) fn refresh_at(&self) -> Option<u64> {
        self.next_refresh
    }
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}
