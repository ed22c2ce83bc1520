//! When to ask again.

use std::time::Duration;

use super::Membership;
use super::name::NameState;

impl Membership {
    /// How long to wait after the last round before the next one.
    ///
    /// The lowest TTL, or for a name that fails an exponential back-off, whichever comes first;
    /// within [`refresh_min`](super::Thresholds::refresh_min) and
    /// [`refresh_max`](super::Thresholds::refresh_max). `random` is any number, evenly
    /// distributed: it decides how much earlier than that, so that nodes do not ask in step.
    /// Zero before the first round.
    pub fn next_refresh(&self, random: u32) -> Duration {
        if self.rounds == 0 {
            return Duration::ZERO;
        }
        let (least, most) = (self.limits.refresh_min, self.limits.refresh_max);
        let wait = self.names.iter().map(|name| self.wait_for(name)).min().unwrap_or(most);
        let early = f64::from(self.limits.jitter_percent) / 100.0 * f64::from(random) / f64::from(u32::MAX);
        wait.mul_f64(1.0 - early).clamp(least, most)
    }

    fn wait_for(&self, name: &NameState) -> Duration {
        let (least, most) = (self.limits.refresh_min, self.limits.refresh_max);
        match name.failures {
            0 => name.ttl.clamp(least, most),
            failures => {
                let factor = 1u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
                least.saturating_mul(factor).min(most)
            }
        }
    }
}
