//! Waiting for conditions instead of sleeping a guess.

use std::fmt::Display;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The pause between two attempts; short beside anything a test waits for.
const PAUSE: Duration = Duration::from_millis(5);

/// Where the variable says nothing else: whoever shares a machine is ten times slower for some
/// seconds, and only what fails takes longer for it.
const USUAL: f64 = 3.0;

/// How much longer than on an idle machine everything may take, from `MINIONET_TEST_PATIENCE`.
///
/// A number such as `10` or `0.5`; 3 where the variable is absent or no positive number.
pub fn patience() -> f64 {
    static PATIENCE: OnceLock<f64> = OnceLock::new();
    *PATIENCE.get_or_init(|| {
        std::env::var("MINIONET_TEST_PATIENCE")
            .ok()
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|factor| factor.is_finite() && *factor > 0.0)
            .unwrap_or(USUAL)
    })
}

/// Repeats `attempt` until it succeeds; after `timeout` (scaled by [`patience`]) gives its last error.
///
/// `what` names the condition for the error: "node1 to answer".
pub fn eventually<T, E: Display>(
    what: &str,
    timeout: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T> {
    let start = Instant::now();
    let timeout = timeout.mul_f64(patience());
    loop {
        let error = match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if start.elapsed() >= timeout {
            return Err(Error::Timeout {
                what: what.to_owned(),
                seconds: start.elapsed().as_secs_f64(),
                last: format!("{error:#}"),
            });
        }
        pause(PAUSE);
    }
}

/// The one place that sleeps, between two looks at a condition.
#[allow(clippy::disallowed_methods)]
pub(crate) fn pause(duration: Duration) {
    thread::sleep(duration);
}
