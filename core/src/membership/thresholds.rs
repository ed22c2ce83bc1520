//! The knobs of membership: what must be true before a peer is believed to be gone.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Every number that membership depends on. All are configurable and shown by `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// How many complete answers in a row must lack a peer before it may be removed.
    pub missing_answers: u32,
    /// How long a peer must have been missing before it may be removed. In JSON, this and every
    /// other duration is in seconds.
    #[serde(with = "seconds")]
    pub hold_down: Duration,
    /// More than this share of the peers missing at once is suspicious; in whole per cent, so
    /// that 33 stands for a third; 1 to 100, where 100 turns the guard off.
    pub mass_percent: u8,
    /// Up to this many missing peers are never suspicious, whatever their share: small clusters
    /// can still lose a node.
    pub mass_floor: u32,
    /// How long suspicious removals are held, measured from when each peer was first missed.
    #[serde(with = "seconds")]
    pub mass_hold: Duration,
    /// A return within this time after the one before makes a peer a flapping one.
    #[serde(with = "seconds")]
    pub flap_window: Duration,
    /// The hold-down of a flapping peer doubles with every return, up to this.
    #[serde(with = "seconds")]
    pub flap_hold_max: Duration,
    /// How many of a resolver's latest complete answers are looked at to recognise sampling. A
    /// peer that went missing while others appeared in its place needs as many answers without it.
    pub sampling_answers: u32,
    /// A resolver is taken for a sampling one until so many answers in a row show no sign of it.
    pub sampling_exit: u32,
    /// How long a peer must have been missing from samples, besides being dead by probe, before
    /// it may be removed.
    #[serde(with = "seconds")]
    pub sampling_absence: Duration,
    /// The shortest time between two rounds.
    #[serde(with = "seconds")]
    pub refresh_min: Duration,
    /// The longest time between two rounds.
    #[serde(with = "seconds")]
    pub refresh_max: Duration,
    /// A refresh comes up to this much early, so that nodes do not ask in step; per cent, 0 to 50.
    pub jitter_percent: u8,
    /// How long a removed peer is remembered, so that its return is noticed.
    #[serde(with = "seconds")]
    pub forget_after: Duration,
    /// Most peers that are accepted; bounds memory and the kernel's tables when DNS runs wild.
    pub max_peers: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            missing_answers: 3,
            hold_down: Duration::from_secs(30),
            mass_percent: 33,
            mass_floor: 2,
            mass_hold: Duration::from_secs(600),
            flap_window: Duration::from_secs(3600),
            flap_hold_max: Duration::from_secs(600),
            // Eight random records out of nine repeat themselves six times in a row about twice
            // in 10^5; anything more random shows sooner.
            sampling_answers: 6,
            sampling_exit: 20,
            sampling_absence: Duration::from_secs(1800),
            refresh_min: Duration::from_secs(1),
            refresh_max: Duration::from_secs(30),
            jitter_percent: 20,
            forget_after: Duration::from_secs(3600),
            // Four times the size that the project is measured at.
            max_peers: 20_000,
        }
    }
}

/// Thresholds that make no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ThresholdError {
    /// A number is outside of what is possible.
    #[error("{name} = {value} is not possible: set it from {least} to {most}")]
    Range {
        /// The name of the threshold.
        name: &'static str,
        /// What was given.
        value: u64,
        /// The least possible.
        least: u64,
        /// The most possible.
        most: u64,
    },
    /// Two durations are in the wrong order.
    #[error(
        "{lower} ({lower_value:?}) is longer than {upper} ({upper_value:?}): raise {upper} or lower {lower}"
    )]
    Order {
        /// The threshold that must not be longer.
        lower: &'static str,
        /// Its value.
        lower_value: Duration,
        /// The threshold that must not be shorter.
        upper: &'static str,
        /// Its value.
        upper_value: Duration,
    },
}

impl Thresholds {
    /// Checks that the thresholds make sense together.
    ///
    /// # Errors
    /// [`ThresholdError`] names the first that does not, and what is possible.
    pub fn check(&self) -> Result<(), ThresholdError> {
        range("missing_answers", u64::from(self.missing_answers), 1, 1000)?;
        range("mass_percent", u64::from(self.mass_percent), 1, 100)?;
        // Two answers cannot show that a record came back.
        range("sampling_answers", u64::from(self.sampling_answers), 3, 1000)?;
        range("sampling_exit", u64::from(self.sampling_exit), u64::from(self.sampling_answers), 1_000_000)?;
        range("jitter_percent", u64::from(self.jitter_percent), 0, 50)?;
        range("max_peers", self.max_peers as u64, 1, u64::from(u32::MAX))?;
        // A resolver that says TTL 0 must not be asked in a busy loop.
        let least = Duration::from_millis(10);
        order(("10 ms", least), ("refresh_min", self.refresh_min))?;
        order(("refresh_min", self.refresh_min), ("refresh_max", self.refresh_max))?;
        order(("hold_down", self.hold_down), ("mass_hold", self.mass_hold))?;
        order(("hold_down", self.hold_down), ("flap_hold_max", self.flap_hold_max))?;
        order(("hold_down", self.hold_down), ("sampling_absence", self.sampling_absence))
    }

    /// The hold-down of a peer that has come back `flaps` times: doubled with each return after
    /// the first.
    pub(super) fn hold_for(&self, flaps: u32) -> Duration {
        let factor = 1u32.checked_shl(flaps.saturating_sub(1)).unwrap_or(u32::MAX);
        self.hold_down.saturating_mul(factor).min(self.flap_hold_max)
    }

    /// The most time that may pass for removals between two complete rounds: what lies further
    /// apart was not watched.
    pub(super) fn watched_gap(&self) -> Duration {
        self.refresh_max.saturating_mul(2)
    }
}

fn range(name: &'static str, value: u64, least: u64, most: u64) -> Result<(), ThresholdError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ThresholdError::Range { name, value, least, most })
}

fn order(lower: (&'static str, Duration), upper: (&'static str, Duration)) -> Result<(), ThresholdError> {
    if lower.1 <= upper.1 {
        return Ok(());
    }
    let (lower, lower_value) = lower;
    let (upper, upper_value) = upper;
    Err(ThresholdError::Order { lower, lower_value, upper, upper_value })
}

/// Durations in seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
