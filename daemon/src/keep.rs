//! What outlives the process: the facts for the plugin, the list for the container runtime, and
//! the peers for a start without DNS.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;
use minionet_core::constants::{CNI_CONF_FILE, RUN_DIR, STATE_DIR};
use minionet_core::handoff::{self, NodeFacts};
use minionet_core::membership::{Membership, Now, Snapshot, snapshot};
use tracing::{debug, info, warn};

use crate::{conflist, files};

/// Leaves the node's facts for the plugin.
///
/// # Errors
/// When a file cannot be written.
pub fn hand_over(facts: &NodeFacts) -> Result<()> {
    for dir in [RUN_DIR, STATE_DIR] {
        if files::replace(&Path::new(dir).join(handoff::FILE), &facts.to_text(), 0o644)? {
            debug!(dir, "facts for the plugin written");
        }
    }
    Ok(())
}

/// Tells the container runtime that there is a network.
///
/// # Errors
/// When the list cannot be written.
pub fn announce(dir: &str) -> Result<()> {
    let list = Path::new(dir).join(CNI_CONF_FILE);
    if files::replace(&list, &conflist::text(), 0o644)? {
        info!(file = %list.display(), "ready: network configuration list installed");
    }
    Ok(())
}

/// The own address as an earlier run found it.
pub fn last_address() -> Option<IpAddr> {
    let text = fs::read_to_string(Path::new(STATE_DIR).join(handoff::FILE)).ok()?;
    NodeFacts::parse(&text).ok().map(|facts| facts.node)
}

/// Takes over the peers that an earlier run knew, so that the overlay forms without DNS.
pub fn restore(membership: &mut Membership, now: Now) {
    let path = Path::new(STATE_DIR).join(snapshot::FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return,
        Err(e) => return warn!("cannot read the saved peers {}: {e}", path.display()),
    };
    match Snapshot::parse(&text).and_then(|s| membership.restore(&s, now)) {
        Ok(peers) => info!(peers, "taken over from an earlier run"),
        Err(e) => warn!("the saved peers {} are not used: {e}", path.display()),
    }
}

/// The peers as they were last saved.
#[derive(Default)]
pub struct Saved(Option<Snapshot>);

impl Saved {
    /// Saves the peers for a start without DNS, if they are others than the last time.
    pub fn save(&mut self, snapshot: Snapshot) {
        if snapshot.peers.is_empty() || self.0.as_ref().is_some_and(|s| s.same_peers(&snapshot)) {
            return;
        }
        let path = Path::new(STATE_DIR).join(snapshot::FILE);
        match files::replace(&path, &snapshot.to_text(), 0o644) {
            Ok(_) => self.0 = Some(snapshot),
            Err(e) => warn!("the peers are not saved: {e:#}"),
        }
    }
}
