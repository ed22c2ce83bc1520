//! What outlives the process: the facts for the plugin, the list for the container runtime, and
//! the peers for a start without DNS.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use minionet_core::constants::{CNI_CONF_FILE, DEVICE, RUN_DIR, STATE_DIR};
use minionet_core::handoff::{self, NodeFacts};
use minionet_core::membership::{Membership, Now, Snapshot, SnapshotError, snapshot};
use minionet_netlink::{Socket, overlay as kernel};
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

/// The peers as they were saved last; none where they cannot be read.
pub fn saved_peers() -> BTreeSet<IpAddr> {
    let text = fs::read_to_string(Path::new(STATE_DIR).join(snapshot::FILE)).unwrap_or_default();
    Snapshot::parse(&text).map(|s| s.peers.iter().map(|p| p.address).collect()).unwrap_or_default()
}

/// Takes over the peers that an earlier run knew, so that the overlay forms without DNS: those
/// that were saved, and those that only the kernel still knows.
pub fn restore(membership: &mut Membership, socket: &mut Socket, now: Now) {
    let path = Path::new(STATE_DIR).join(snapshot::FILE);
    match fs::read_to_string(&path) {
        Ok(text) => match Snapshot::parse(&text).and_then(|s| membership.restore(&s, now)) {
            Ok(peers) => info!(peers, "taken over from an earlier run"),
            Err(e) => {
                warn!("the saved peers {} are not used: {e}", path.display());
                if matches!(e, SnapshotError::OtherCluster { .. }) {
                    return;
                }
            }
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => warn!("cannot read the saved peers {}: {e}", path.display()),
    }
    // What the file does not tell, the kernel does, unless it has been started anew.
    match kernel::read(socket, DEVICE) {
        Ok(observed) => match membership.adopt(observed.nodes(), now) {
            0 => {}
            peers => info!(peers, "taken over from the kernel: the saved peers do not have them"),
        },
        Err(e) => warn!("the kernel's tables are not read for peers of an earlier run: {e}"),
    }
}

/// The least time between two looks at the peers while nothing happens to them, for each peer: by and by
/// what is new grows old, and that is all that can be different.
const LOOK_PER_PEER: Duration = Duration::from_millis(6);

/// The peers as they were last saved.
#[derive(Default)]
pub struct Saved {
    snapshot: Option<Snapshot>,
    /// When they were last looked at.
    looked: Option<Instant>,
}

impl Saved {
    /// Saves the peers for a start without DNS, if they are others than the last time. Without `news`
    /// of them they are not looked at every time.
    pub fn save(&mut self, membership: &Membership, news: bool, now: Now) {
        let pause = |saved: &Snapshot| {
            LOOK_PER_PEER.saturating_mul(u32::try_from(saved.peers.len()).unwrap_or(u32::MAX))
        };
        let fresh = self.looked.zip(self.snapshot.as_ref()).is_some_and(|(at, s)| at.elapsed() < pause(s));
        if fresh && !news && membership.is_settled() {
            return;
        }
        self.looked = Some(Instant::now());
        let snapshot = membership.snapshot(now);
        if snapshot.peers.is_empty() || self.snapshot.as_ref().is_some_and(|s| s.same_peers(&snapshot)) {
            return;
        }
        let path = Path::new(STATE_DIR).join(snapshot::FILE);
        match files::replace(&path, &snapshot.to_text(), 0o644) {
            Ok(_) => self.snapshot = Some(snapshot),
            Err(e) => {
                warn!("the peers are not saved: {e:#}");
                self.looked = None;
            }
        }
    }
}
