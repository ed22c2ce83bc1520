//! Waiting for a condition.

use std::time::{Duration, Instant};

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Tries until `attempt` gives something or `limit` has passed; tries at least once.
#[allow(clippy::disallowed_methods, reason = "the pause between two looks at a condition")]
pub(super) fn until<T>(limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = attempt() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}
