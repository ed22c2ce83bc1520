//! The clocks of the daemon.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use minionet_core::membership::Now;

/// Tells the time since its own start, and of the day. Copies tell the same.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Now { monotonic: self.start.elapsed(), unix }
    }
}
