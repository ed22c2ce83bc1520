//! Tells how the daemon is, for the plugin's STATUS.

use std::path::Path;
use std::time::{Duration, Instant};

use minionet_core::constants::RUN_DIR;
use minionet_core::forward::ForwardPolicy;
use minionet_core::health::{FILE, Health, SCHEMA};
use minionet_pods::boot;
use tracing::warn;

use crate::causes::chain;
use crate::files;

/// How long nothing is written while nothing changes.
const QUIET: Duration = Duration::from_secs(5);

/// How much later than expected a report may come.
const SLACK: Duration = Duration::from_secs(60);

/// What there is to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// How many routes to peers the kernel should have.
    pub peer_routes: Option<usize>,
    /// How many rules the nft table should have.
    pub rules: Option<usize>,
    /// What is wrong.
    pub troubles: Vec<String>,
    /// Chains of other programs that drop what is forwarded.
    pub forward_policies: Vec<ForwardPolicy>,
}

/// Writes the file when there is something to say.
#[derive(Default)]
pub struct Reporter {
    last: Option<(Instant, State)>,
}

impl Reporter {
    /// Reports how the daemon is. Called after everything that happens, and at the latest once
    /// per interval.
    pub fn report(&mut self, state: State, interval: Duration) {
        let known = |(at, last): &(Instant, State)| *last == state && at.elapsed() < QUIET;
        if self.last.as_ref().is_some_and(known) {
            return;
        }
        let again = (interval * 2 + SLACK).as_secs();
        let health = Health {
            schema: SCHEMA,
            uptime: boot::uptime(),
            again,
            peer_routes: state.peer_routes,
            rules: state.rules,
            troubles: state.troubles.clone(),
            forward_policies: state.forward_policies.clone(),
        };
        match files::replace(&Path::new(RUN_DIR).join(FILE), &health.to_text(), 0o644) {
            Ok(_) => self.last = Some((Instant::now(), state)),
            Err(error) => warn!("how the daemon is cannot be told: {}", chain(&error)),
        }
    }
}
