//! What is remembered of one address, and the rule by which it goes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Now, Refusal, Thresholds};

/// What the probe through the tunnel says about a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Not probed yet.
    #[default]
    Unknown,
    /// It answers.
    Alive,
    /// It does not answer any more.
    Dead,
}

/// One address that DNS lists, or listed until lately.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Why it is no peer, if it is none.
    pub(super) refusal: Option<Refusal>,
    /// Wall clock of the first sight.
    pub(super) first_seen: u64,
    /// Wall clock of the last sight. Written when it leaves an answer; while it is listed, the
    /// time of that answer is the truth.
    pub(super) last_seen: u64,
    /// Wall clock of the last change of state.
    pub(super) since: u64,
    /// Whether only the kernel has told of it: nobody knows by which name it was listed.
    pub(super) adopted: bool,
    /// When it joined, by the monotonic clock; nothing if others could not be there before.
    pub(super) joined: Option<Duration>,
    /// Whether it was a newcomer ([`Entry::is_newcomer`]) in the run before.
    pub(super) newcomer: bool,
    /// Whether it was held as suspicious in the run before, and has not been listed since.
    pub(super) held: bool,
    /// Whether DNS has listed it since the start, or it is known from a snapshot only.
    pub(super) confirmed: bool,
    /// Since when it is missing from complete answers, if it is.
    pub(super) missing: Option<Missing>,
    /// How often it came back.
    pub(super) flaps: Flaps,
    /// What the probe says, and since when (wall clock).
    pub(super) liveness: (Liveness, u64),
}

/// A peer that complete answers lack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    /// When it was first missed, by the monotonic clock.
    pub(super) at: Duration,
    /// The watched time at which it was first missed.
    pub(super) watched: Duration,
    /// Complete answers without it.
    pub(super) answers: u32,
    /// How many are needed.
    pub(super) needed: u32,
    /// The hold-down that applies to it.
    pub(super) hold: Duration,
    /// Whether it went missing together with suspiciously many others.
    pub(super) guarded: bool,
}

/// Counts returns that follow each other within the window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flaps {
    count: u32,
    last: Duration,
}

impl Flaps {
    /// The number of returns that still count.
    pub(super) fn count(&self, now: Duration, window: Duration) -> u32 {
        if now.saturating_sub(self.last) > window { 0 } else { self.count }
    }

    pub(super) fn add(&mut self, now: Duration, window: Duration) {
        self.count = self.count(now, window).saturating_add(1);
        self.last = now;
    }
}

/// Why a missing peer is kept although the normal rule would let it go, or none would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// Suspiciously many peers went missing at once.
    MassRemoval,
    /// It came back repeatedly.
    Flapping,
    /// Others appeared in its place, which might be the beginning of random samples.
    SamplingSuspected,
    /// The resolver answers with random samples: removal needs the probe's word as well.
    Sampling,
}

/// How the resolvers answer at the moment, as far as removal depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Watched time: grows only from one complete round to the next.
    pub(super) watched: Duration,
    /// While sampling: the number of answers that a listed peer would not be missing from.
    pub(super) sampling: Option<u32>,
}

impl Entry {
    pub(super) fn new(now: Now, refusal: Option<Refusal>) -> Self {
        Entry {
            refusal,
            first_seen: now.unix,
            last_seen: now.unix,
            since: now.unix,
            adopted: false,
            joined: Some(now.monotonic),
            newcomer: false,
            held: false,
            confirmed: true,
            missing: None,
            flaps: Flaps::default(),
            liveness: (Liveness::Unknown, now.unix),
        }
    }

    /// Whether it came too late to have a say about those that were missing at a time: after
    /// them, or so shortly before them that it may be what a lie puts in their place; resolvers
    /// do not all begin to lie at the same moment.
    pub(super) fn is_newcomer(&self, at: Duration, limits: &Thresholds) -> bool {
        self.newcomer || self.joined.is_some_and(|joined| joined + limits.hold_down > at)
    }

    /// Whether a missing peer's time has come.
    pub(super) fn is_due(&self, reading: Reading, limits: &Thresholds) -> bool {
        let Some(missing) = self.missing else { return false };
        let gone = reading.watched.saturating_sub(missing.watched);
        match reading.sampling {
            Some(answers) => {
                gone >= limits.sampling_absence
                    && missing.answers >= answers
                    // The probe reaches peers only; what is refused has no traffic to lose.
                    && (self.refusal.is_some() || self.liveness.0 == Liveness::Dead)
            }
            None => missing.answers >= missing.needed && gone >= missing.hold_down(limits),
        }
    }

    /// What keeps a missing peer beyond the normal rule, if anything does.
    pub(super) fn held(&self, reading: Reading, limits: &Thresholds) -> Option<HoldReason> {
        let missing = self.missing?;
        let gone = reading.watched.saturating_sub(missing.watched);
        let normal = missing.answers >= limits.missing_answers && gone >= limits.hold_down;
        match reading.sampling {
            Some(_) => Some(HoldReason::Sampling),
            None if missing.guarded => Some(HoldReason::MassRemoval),
            None if normal && gone < missing.hold => Some(HoldReason::Flapping),
            None if normal => Some(HoldReason::SamplingSuspected),
            None => None,
        }
    }
}

impl Missing {
    fn hold_down(&self, limits: &Thresholds) -> Duration {
        if self.guarded { self.hold.max(limits.mass_hold) } else { self.hold }
    }
}
