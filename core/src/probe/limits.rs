//! How often is probed, and how much at most.

use std::time::Duration;

/// What bounds the probe's traffic, and what turns its results into words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Between two probes of a peer that answers.
    pub interval: Duration,
    /// Between two probes of a peer that did not answer the last time.
    pub fast: Duration,
    /// Before the first probe of a peer, at most, and between two of one that has not answered yet.
    pub first: Duration,
    /// Between two probes of a peer that is dead, or missing from DNS.
    pub slow: Duration,
    /// Most requests a second to all peers together.
    pub rate: u32,
    /// Most requests at once.
    pub burst: u32,
    /// So many requests in a row without a reply make a peer dead.
    pub dead_after: u32,
    /// So many losses of one size, while small packets pass, mean that the size does not pass.
    pub mtu_tries: u32,
    /// Between two tries of the full size.
    pub mtu_recheck: Duration,
    /// Whether a peer that asks us, and says that it hears us, need not be asked.
    pub share: bool,
}

impl Limits {
    /// The shortest time after which a reply counts as lost (RFC 6298 section 2.4).
    pub const TIMEOUT_MIN: Duration = Duration::from_secs(1);

    /// The longest time after which a reply counts as lost.
    pub const TIMEOUT_MAX: Duration = Duration::from_secs(3);

    /// Limits for a time between two probes of a peer that answers.
    ///
    /// They are those of a small cluster; see [`Limits::with`].
    pub fn every(interval: Duration) -> Self {
        Limits {
            interval,
            fast: interval.min(Duration::from_secs(1)),
            first: interval.min(Duration::from_secs(1)),
            slow: interval.min(Duration::from_secs(5)),
            rate: 250,
            burst: 32,
            dead_after: 5,
            mtu_tries: 3,
            mtu_recheck: interval * 4,
            share: false,
        }
    }
}

/// How many requests a second the intervals permit, however many peers there are. Those to peers that
/// do not answer any more come on top, up to [`Limits::rate`].
///
/// A request that goes to another peer than the one before costs a few dozen microseconds, and so does
/// the reply to one.
const REGULAR: f64 = 30.0;

impl Limits {
    /// The limits with so many peers, so many of which have not answered yet: the intervals grow so
    /// that regular requests stay below [`REGULAR`], and there is always room for those that are
    /// urgent. 720 peers are asked every 30 seconds and for the full size every two minutes, 5000
    /// every three and a half minutes (`tests/cost.rs`).
    ///
    /// Where they grow, of two nodes only one asks, so that half of the requests are sent; and peers
    /// that come together, as after a start, are met one after the other.
    pub fn with(&self, peers: usize, unheard: usize) -> Self {
        let interval = self.interval.max(regular(peers));
        let many = interval > self.interval;
        Limits {
            interval,
            first: if many { self.first.max(regular(unheard)) } else { self.first },
            slow: self.slow.max(regular(peers)),
            mtu_recheck: self.mtu_recheck.max(interval * 4),
            share: self.share || many,
            ..self.clone()
        }
    }
}

/// The least time between two regular probes of each of so many peers, and so how long a dead one may
/// go unnoticed, apart from the configured interval.
pub fn regular(peers: usize) -> Duration {
    // The full size is tried with every fourth request.
    Duration::from_secs_f64(peers as f64 * 1.25 / REGULAR)
}

/// Lets `rate` packets a second pass, in bursts of at most `burst` (the generic cell rate
/// algorithm, ITU-T I.371).
#[derive(Clone, Debug)]
pub(super) struct Pacer {
    gap: Duration,
    tolerance: Duration,
    /// When the next packet were due if all were sent at even distances.
    due: Duration,
}

impl Pacer {
    pub(super) fn new(limits: &Limits) -> Self {
        let gap = Duration::from_secs(1) / limits.rate.max(1);
        Pacer { gap, tolerance: gap * limits.burst.saturating_sub(1), due: Duration::ZERO }
    }

    /// Whether one may be sent now.
    pub(super) fn permits(&self, now: Duration) -> bool {
        self.due <= now + self.tolerance
    }

    /// Counts one that was sent.
    pub(super) fn count(&mut self, now: Duration) {
        self.due = self.due.max(now) + self.gap;
    }

    /// When it is worth asking again after a refusal: when half a burst may be sent, so that a
    /// backlog does not wake the program for every single packet.
    pub(super) fn again(&self) -> Duration {
        self.due.saturating_sub(self.tolerance / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_than_the_rate_and_a_burst() {
        let limits = Limits::every(Duration::from_secs(30));
        let mut pacer = Pacer::new(&limits);
        let mut sent = Vec::new();
        for ms in 0..5000u64 {
            let now = Duration::from_millis(ms);
            while pacer.permits(now) {
                pacer.count(now);
                sent.push(ms);
            }
        }
        assert_eq!(sent.iter().filter(|ms| **ms == 0).count(), 32);
        for start in (0..4000).step_by(100) {
            let n = sent.iter().filter(|ms| (start..start + 1000).contains(*ms)).count();
            assert!(n <= 250 + 32, "{n} in the second from {start} ms");
            assert!(n >= 249, "{n} in the second from {start} ms");
        }
    }

    #[test]
    fn after_a_refusal_half_a_burst_is_waited_for() {
        let mut pacer = Pacer::new(&Limits::every(Duration::from_secs(30)));
        let start = Duration::from_secs(10);
        while pacer.permits(start) {
            pacer.count(start);
        }
        let again = pacer.again();
        assert!(again > start && pacer.permits(again));
        let mut more = 0;
        while pacer.permits(again) {
            pacer.count(again);
            more += 1;
        }
        assert!((15..=17).contains(&more), "{more}");
    }
}
