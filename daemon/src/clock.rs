//! The clocks of the daemon.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use minionet_core::membership::Now;
use nix::time::{ClockId, clock_gettime};

/// Tells the time since a moment, and that of the day. Copies tell the same.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// What it told at the start.
    before: Duration,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Clock { start: Instant::now(), before: Duration::ZERO }
    }

    /// The kernel's own monotonic clock (`CLOCK_MONOTONIC`, clock_gettime(2)): what it tells means the
    /// same to all processes of a boot.
    pub fn of_boot() -> Self {
        // Every kernel has this clock; one that starts now is as good as any within a process.
        let before = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        Clock { start: Instant::now(), before }
    }

    /// The time.
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Now { monotonic: self.before + self.start.elapsed(), unix }
    }
}
