//! What an absence means: the guards, and the removal at the end.

use std::net::IpAddr;
use std::time::Duration;

use super::entry::{Missing, Reading};
use super::name::NameState;
use super::{Departed, Event, MAX_DEPARTED, Membership, Now, Refusal};

/// While sampling, a peer must be missing from so many times the number of answers in which it
/// is to be expected once. One that is listed is missing from all of them with a probability of
/// e^-10, less than 1 in 20,000.
const SAMPLING_CONFIDENCE: usize = 10;

impl Membership {
    /// Takes note of whether the complete replies of this round are random samples.
    pub(super) fn judge_sampling(&mut self, events: &mut Vec<Event>) {
        if !self.names.iter().any(|n| n.complete) {
            return;
        }
        let size = self.names.iter().filter_map(|n| n.sample_size()).min();
        let before = self.sampling.is_some();
        let expected = |size: usize| self.peers.div_ceil(size.max(1)).saturating_mul(SAMPLING_CONFIDENCE);
        self.sampling = size.map(|size| u32::try_from(expected(size)).unwrap_or(u32::MAX));
        match (before, self.sampling.is_some()) {
            (false, true) => events.push(Event::Sampling),
            (true, false) => {
                events.push(Event::SamplingOver);
                // What was missing from samples begins to be missing only now.
                for addr in &self.unlisted {
                    if let Some(entry) = self.entries.get_mut(addr) {
                        entry.missing = None;
                    }
                }
            }
            _ => {}
        }
    }

    /// Draws the consequences of a complete round for all that it does not list.
    pub(super) fn note_missing(&mut self, swap: bool, now: Now, events: &mut Vec<Event>) {
        let gap = self.last_complete.map_or_else(Default::default, |last| now.monotonic.saturating_sub(last));
        self.watched += gap.min(self.limits.watched_gap());
        self.last_complete = Some(now.monotonic);
        let unknown = self.names.iter().any(NameState::is_unknown);
        for addr in &self.unlisted {
            let Some(entry) = self.entries.get_mut(addr).filter(|e| !(e.adopted && unknown)) else {
                continue;
            };
            if let Some(missing) = &mut entry.missing {
                missing.answers = missing.answers.saturating_add(1);
                continue;
            }
            let flaps = entry.flaps.count(now.monotonic, self.limits.flap_window);
            let suspected = if swap { self.limits.sampling_answers } else { 0 };
            entry.since = now.unix;
            entry.missing = Some(Missing {
                at: now.monotonic,
                watched: self.watched,
                answers: 1,
                needed: self.limits.missing_answers.max(suspected),
                hold: self.limits.hold_for(flaps),
                guarded: entry.held,
            });
            if entry.refusal.is_none() {
                events.push(Event::Missing { peer: *addr });
            }
        }
        self.guard_against_mass_removal(events);
        self.remove_due(now, events);
        if self.doubted && self.first_missed().is_none() {
            self.doubted = false;
            self.entries.values_mut().for_each(|e| (e.newcomer, e.held) = (false, false));
        }
        self.note_own(now, events);
    }

    /// The peers that complete answers lack. None while the answers are random samples: then
    /// most peers are missing from most of them.
    pub fn missing(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let missing = |addr: &&IpAddr| self.entries.get(addr).is_some_and(|e| e.missing.is_some());
        self.unlisted.iter().filter(missing).filter(|_| self.sampling.is_none()).copied()
    }

    /// How missing peers are judged at the moment.
    pub(super) fn reading(&self) -> Reading {
        Reading { watched: self.watched, sampling: self.sampling }
    }

    /// Holds all that are missing when they are suspiciously many. Who is held once stays so
    /// until listed again or gone: a fault that heals by halves must not remove the other half.
    fn guard_against_mass_removal(&mut self, events: &mut Vec<Event>) {
        let missing = || {
            self.unlisted
                .iter()
                .filter_map(|a| self.entries.get(a))
                .filter(|e| e.refusal.is_none() && e.missing.is_some())
        };
        let count = missing().count();
        if count <= self.limits.mass_floor as usize || self.sampling.is_some() {
            return;
        }
        let of = count + self.established();
        // Whole per cent: a third exactly is not more than 33.
        if count * 100 / of > usize::from(self.limits.mass_percent) {
            for addr in &self.unlisted {
                if let Some(missing) = self.entries.get_mut(addr).and_then(|e| e.missing.as_mut()) {
                    missing.guarded = true;
                }
            }
            if self.mass.replace((count, of)).is_none() {
                events.push(Event::MassHold { missing: count, of });
            }
        }
    }

    /// When the first of those that are missing went, by the monotonic clock.
    pub(super) fn first_missed(&self) -> Option<Duration> {
        let unlisted = self.unlisted.iter().filter_map(|a| self.entries.get(a));
        unlisted.filter_map(|e| e.missing.map(|m| m.at)).min()
    }

    /// How many listed peers were there before the first of the missing ones went: newcomers
    /// must not outvote those that they replaced.
    fn established(&self) -> usize {
        let first = self.first_missed().unwrap_or_default();
        let listed =
            self.entries.iter().filter(|(addr, e)| e.refusal.is_none() && !self.unlisted.contains(addr));
        listed.filter(|(_, e)| !e.is_newcomer(first, &self.limits)).count()
    }

    fn remove_due(&mut self, now: Now, events: &mut Vec<Event>) {
        let reading = self.reading();
        let is_due = |addr: &&IpAddr| self.entries.get(addr).is_some_and(|e| e.is_due(reading, &self.limits));
        let due: Vec<IpAddr> = self.unlisted.iter().filter(is_due).copied().collect();
        for addr in &due {
            let Some(entry) = self.remove(*addr) else { continue };
            let (Some(missing), None) = (entry.missing, entry.refusal) else { continue };
            let departed = Departed {
                at: now,
                first_seen: entry.first_seen,
                flaps: entry.flaps,
                liveness: entry.liveness.0,
            };
            self.departed.insert(*addr, departed);
            events.push(Event::Removed {
                peer: *addr,
                missing: self.watched.saturating_sub(missing.watched),
                answers: missing.answers,
                liveness: entry.liveness.0,
            });
        }
        let held = |a: &IpAddr| self.entries.get(a).and_then(|e| e.missing).is_some_and(|m| m.guarded);
        if self.mass.is_some() && !self.unlisted.iter().any(held) {
            self.mass = None;
            events.push(Event::MassHoldOver);
        }
        if !due.is_empty() {
            self.admit_waiting(now, events);
        }
        self.forget(now);
    }

    /// Takes in those for whom there was no room.
    fn admit_waiting(&mut self, now: Now, events: &mut Vec<Event>) {
        if self.refused == 0 {
            return;
        }
        let is_waiting = |addr: &IpAddr| match self.entries.get(addr) {
            Some(entry) => entry.refusal == Some(Refusal::TooMany),
            None => self.scope.refusal(*addr).is_none(),
        };
        let waiting: Vec<IpAddr> = self.addresses().into_iter().filter(is_waiting).collect();
        for addr in waiting {
            if self.peers >= self.limits.max_peers {
                return;
            }
            self.judge(addr, now, events);
        }
    }

    fn forget(&mut self, now: Now) {
        let keep = self.limits.forget_after;
        self.departed.retain(|_, d| now.monotonic.saturating_sub(d.at.monotonic) <= keep);
        let excess = self.departed.len().saturating_sub(MAX_DEPARTED);
        if excess > 0 {
            let mut oldest: Vec<_> = self.departed.iter().map(|(addr, d)| (d.at.monotonic, *addr)).collect();
            oldest.sort_unstable();
            for (_, addr) in oldest.into_iter().take(excess) {
                self.departed.remove(&addr);
            }
        }
    }

    /// Notes whether complete answers list this node itself. Samples need not.
    fn note_own(&mut self, now: Now, events: &mut Vec<Event>) {
        let Some(own) = self.scope.own else { return };
        match (self.listed(own), self.own_missing_since) {
            (false, None) if self.sampling.is_none() => {
                self.own_missing_since = Some(now.unix);
                events.push(Event::OwnMissing { own });
            }
            (true, Some(_)) => {
                self.own_missing_since = None;
                events.push(Event::OwnReturned { own });
            }
            _ => {}
        }
    }
}
