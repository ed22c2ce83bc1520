//! What systemd is told: that the daemon is at work, that it reloads, that it lives, and how it is
//! (sd_notify(3)). Elsewhere than under systemd nobody listens, and nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::debug;

use crate::health::State;

/// The longest status that is passed on, in characters: it is shown on one line.
const LINE: usize = 300;

/// The service manager, if there is one.
pub struct Manager {
    /// When to say that the loop turns; never where nobody watches.
    pulse: Option<Interval>,
    /// The status as it was last told.
    told: Option<String>,
}

impl Manager {
    /// Finds out whether somebody watches.
    pub fn new() -> Self {
        let pulse = sd_notify::watchdog_enabled().map(|limit| {
            // Twice within the limit, as sd_watchdog_enabled(3) recommends.
            let mut pulse = interval((limit / 2).max(Duration::from_millis(1)));
            pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pulse
        });
        Manager { pulse, told: None }
    }

    /// Waits until it is time for another sign of life.
    pub async fn due(&mut self) {
        match &mut self.pulse {
            Some(pulse) => drop(pulse.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Says that the loop turns.
    pub fn alive(&self) {
        tell(&[NotifyState::Watchdog]);
    }

    /// Says that the daemon is at work, also after a reload.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// Says that the configuration is read anew.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => debug!("the time of the reload is not known: {error}"),
        }
    }

    /// Says that the daemon ends.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// Says how the daemon is, when that has changed.
    pub fn status(&mut self, state: &State) {
        let line = line(state);
        if self.told.as_ref() != Some(&line) {
            tell(&[NotifyState::Status(&line)]);
            self.told = Some(line);
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    // Without a manager, NOTIFY_SOCKET is not set and this does nothing.
    if let Err(error) = sd_notify::notify(state) {
        debug!("the service manager is not told: {error}");
    }
}

/// How the daemon is, in one line.
fn line(state: &State) -> String {
    let formed = match state.peer_routes {
        None => "forming: waiting for DNS".to_owned(),
        Some(routes) => format!("formed, with {routes} routes"),
    };
    let line = match state.troubles.first() {
        None => formed,
        Some(trouble) => format!("{formed}; {}", trouble.replace('\n', "; ")),
    };
    line.chars().take(LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_one_line() {
        let mut state = State::default();
        assert_eq!(line(&state), "forming: waiting for DNS");
        state.peer_routes = Some(2);
        assert_eq!(line(&state), "formed, with 2 routes");
        state.troubles = vec!["first\nsecond".to_owned(), "another".to_owned()];
        assert_eq!(line(&state), "formed, with 2 routes; first; second");
        state.troubles = vec!["ä".repeat(LINE * 2)];
        assert_eq!(line(&state).chars().count(), LINE);
    }
}
