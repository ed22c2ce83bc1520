//! The state in a file: written when something has changed, not more often than is reasonable, and
//! at the end.

use std::path::Path;
use std::time::Duration;

use minionet_core::constants::RUN_DIR;
use minionet_core::state::{FILE, State};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::causes::chain;
use crate::files;

/// How long to wait after a change for those that follow it, and between two writings; for a large
/// cluster more, see [`pause`].
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause between two writings.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The file.
#[derive(Default)]
pub struct StateFile {
    /// What was told last.
    written: Option<u64>,
    /// When to write, if there is something new.
    due: Option<Instant>,
    /// When writing is permitted again.
    permitted: Option<Instant>,
}

impl StateFile {
    /// Takes note of how much there is to tell.
    pub fn notice(&mut self, version: u64) {
        if self.written != Some(version) && self.due.is_none() {
            let soon = Instant::now() + PAUSE_MIN;
            self.due = Some(self.permitted.map_or(soon, |permitted| permitted.max(soon)));
        }
    }

    /// Waits until it is to be written; for ever if there is nothing to tell.
    pub async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Writes it.
    pub fn write(&mut self, state: &State, version: u64) {
        self.due = None;
        self.permitted = Some(Instant::now() + pause(state.peers.len()));
        match files::replace(&Path::new(RUN_DIR).join(FILE), &state.to_text(), 0o644) {
            Ok(_) => self.written = Some(version),
            Err(error) => warn!("the state is not left for minionetd status: {}", chain(&error)),
        }
    }
}

/// The pause between two writings: 6 ms for each peer, so that writing takes a small share of the
/// time, however many there are.
fn pause(peers: usize) -> Duration {
    let peers = u32::try_from(peers).unwrap_or(u32::MAX);
    Duration::from_millis(6).saturating_mul(peers).clamp(PAUSE_MIN, PAUSE_MAX)
}
