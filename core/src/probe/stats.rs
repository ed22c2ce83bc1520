//! Loss and round-trip times of one peer, in a few octets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;

/// Bounds for round trips, in seconds: from that of one rack to that around the world.
const ROUND_TRIPS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Bounds for how long a new peer takes to answer, in seconds.
const FIRST_REPLIES: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Times of all peers together since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Times {
    /// Of every small request that was answered.
    pub round_trips: Histogram,
    /// From when a peer was added to its first reply.
    pub first_replies: Histogram,
}

impl Default for Times {
    fn default() -> Self {
        Times { round_trips: Histogram::new(ROUND_TRIPS), first_replies: Histogram::new(FIRST_REPLIES) }
    }
}

/// What became of the latest requests: a bit each, set for a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Window {
    bits: u32,
    len: u8,
}

impl Window {
    /// How many requests are remembered.
    pub(super) const SIZE: u8 = 32;

    pub(super) fn push(&mut self, lost: bool) {
        self.bits = self.bits << 1 | u32::from(lost);
        self.len = (self.len + 1).min(Self::SIZE);
    }

    /// How many requests the window holds.
    pub(super) fn len(&self) -> u32 {
        u32::from(self.len)
    }

    /// How many of them were lost.
    pub(super) fn lost(&self) -> u32 {
        self.bits.count_ones()
    }

    /// Whether pushing can have led here.
    pub(super) fn is_sound(&self) -> bool {
        self.len <= Self::SIZE && u64::from(self.bits) < 1 << self.len
    }
}

/// Round-trip times in microseconds.
///
/// Smoothed and varying as in RFC 6298 section 2. Least, most and mean are those of the latest
/// one to two spans of [`SPAN`] replies, so that what is long past does not stick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rtt {
    last: u32,
    smoothed: u32,
    variation: u32,
    current: Span,
    previous: Span,
}

/// Replies of a span.
const SPAN: u32 = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    count: u32,
    sum: u64,
    least: u32,
    most: u32,
}

impl Span {
    fn push(&mut self, value: u32) {
        self.least = if self.count == 0 { value } else { self.least.min(value) };
        self.most = self.most.max(value);
        self.sum += u64::from(value);
        self.count += 1;
    }

    /// Whether pushing can have led here.
    fn is_sound(&self) -> bool {
        let (count, bounds) = (u64::from(self.count), [self.least, self.most].map(u64::from));
        self.count <= SPAN && (bounds[0] * count..=bounds[1] * count).contains(&self.sum)
    }
}

impl Rtt {
    pub(super) fn push(&mut self, time: Duration) {
        let value = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        if self.current.count == 0 && self.previous.count == 0 {
            self.smoothed = value;
            self.variation = value / 2;
        } else {
            // beta = 1/4 and alpha = 1/8; 64 bits, so that nothing overflows on the way.
            let mix = |old: u32, new: u32, parts: u64| {
                ((u64::from(old) * (parts - 1) + u64::from(new)) / parts) as u32
            };
            self.variation = mix(self.variation, self.smoothed.abs_diff(value), 4);
            self.smoothed = mix(self.smoothed, value, 8);
        }
        self.last = value;
        if self.current.count == SPAN {
            self.previous = std::mem::take(&mut self.current);
        }
        self.current.push(value);
    }

    /// Whether there is anything to tell.
    pub(super) fn is_known(&self) -> bool {
        self.current.count > 0
    }

    /// Whether pushing can have led here, once at least.
    pub(super) fn is_sound(&self) -> bool {
        let full = self.previous.count == 0 || self.previous.count == SPAN;
        self.is_known() && full && self.current.is_sound() && self.previous.is_sound()
    }

    /// The latest, in microseconds.
    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// The smoothed one, in microseconds.
    pub(super) fn smoothed(&self) -> u32 {
        self.smoothed
    }

    /// The shortest, in microseconds.
    pub(super) fn least(&self) -> u32 {
        let previous = if self.previous.count > 0 { self.previous.least } else { u32::MAX };
        previous.min(self.current.least)
    }

    /// The longest, in microseconds.
    pub(super) fn most(&self) -> u32 {
        self.previous.most.max(self.current.most)
    }

    /// The mean, in microseconds.
    pub(super) fn mean(&self) -> u32 {
        let count = u64::from(self.previous.count + self.current.count).max(1);
        // A mean of 32-bit numbers has 32 bits.
        ((self.previous.sum + self.current.sum) / count) as u32
    }

    /// How long to wait for a reply, before bounds: RFC 6298 (2.3).
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_micros(u64::from(self.smoothed) + 4 * u64::from(self.variation))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_window_forgets_what_left_it() {
        let mut window = Window::default();
        assert_eq!((window.len(), window.lost(), window.is_sound()), (0, 0, true));
        (0..10).for_each(|i| window.push(i % 2 == 0));
        assert_eq!((window.len(), window.lost()), (10, 5));
        (0..32).for_each(|_| window.push(false));
        assert_eq!((window.len(), window.lost()), (32, 0));
        (0..40).for_each(|_| window.push(true));
        assert_eq!((window.len(), window.lost(), window.is_sound()), (32, 32, true));
        let unsound = [Window { bits: 2, len: 1 }, Window { bits: 0, len: 33 }, Window { bits: 1, len: 0 }];
        assert!(!unsound.iter().any(Window::is_sound));
    }

    #[test]
    fn what_no_replies_lead_to_is_unsound() {
        let span = Span { count: 2, sum: 30, least: 10, most: 20 };
        let rtt = Rtt { current: span, ..Rtt::default() };
        assert!(rtt.is_sound());
        let spans = [
            Span { count: 0, ..span },
            Span { count: 33, sum: 500, ..span },
            Span { sum: 19, ..span },
            Span { sum: u64::MAX, ..span },
            Span { least: 21, ..span },
        ];
        assert!(spans.iter().all(|current| !Rtt { current: *current, ..rtt }.is_sound()));
        assert!(spans.iter().all(|previous| !Rtt { previous: *previous, ..rtt }.is_sound()));
        assert!(!Rtt { previous: span, ..rtt }.is_sound(), "a span that ended early");
        assert!(!Rtt::default().is_sound(), "no reply");
    }

    #[test]
    fn the_first_time_sets_and_later_ones_smooth() {
        let mut rtt = Rtt::default();
        rtt.push(Duration::from_millis(100));
        // RFC 6298 (2.2): SRTT = R, RTTVAR = R/2, and so a timeout of 3 R.
        assert_eq!((rtt.smoothed(), rtt.timeout()), (100_000, Duration::from_millis(300)));
        rtt.push(Duration::from_millis(200));
        assert_eq!(rtt.smoothed(), 112_500);
        // RTTVAR = 3/4 * 50 + 1/4 * |100 - 200| = 62.5 ms.
        assert_eq!(rtt.timeout(), Duration::from_micros(112_500 + 250_000));
    }

    proptest! {
        #[test]
        fn least_mean_and_most_are_those_of_the_latest(times in prop::collection::vec(0u32..3_000_000, 1..200)) {
            let mut rtt = Rtt::default();
            times.iter().for_each(|t| rtt.push(Duration::from_micros(u64::from(*t))));
            // The present span, and the one before it.
            let kept = (times.len() - 1) % 32 + 1 + if times.len() > 32 { 32 } else { 0 };
            let kept = &times[times.len() - kept..];
            prop_assert_eq!(rtt.least(), *kept.iter().min().unwrap());
            prop_assert_eq!(rtt.most(), *kept.iter().max().unwrap());
            let sum: u64 = kept.iter().map(|t| u64::from(*t)).sum();
            prop_assert_eq!(u64::from(rtt.mean()), sum / kept.len() as u64);
            prop_assert_eq!(rtt.last(), *times.last().unwrap());
            prop_assert!(rtt.smoothed() <= *times.iter().max().unwrap());
            prop_assert!(rtt.is_sound());
        }
    }
}
