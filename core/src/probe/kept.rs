//! What a daemon that stops leaves to the one that starts next, so that a restart is not the end of
//! an acquaintance: peers that answered need not all be met anew at once, on every node of a cluster
//! that is upgraded.
//!
//! It lies beside the results in the same file ([`super::view::FILE`]), and only where a daemon was
//! asked to stop: what one that was killed had written may be older than what it knew. Times are those
//! of the kernel's monotonic clock, which runs on while no daemon does, and which the number of the
//! boot belongs to.
//!
//! # Architecture invariants
//! * Only who answered the latest request is kept, and believed no longer than until the next request
//!   to it is due: a peer that dies while nobody asks is found as soon as if somebody had.
//! * Whatever is not as this node would have left it counts for nothing. That holds for a single peer
//!   as for the whole, so that the worst that a file can do is what happens without one.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::is_version;
use super::stats::{Rtt, Window};
use super::{About, Limits, Local, Prober, Target, view::ProbeView};
use crate::membership::Now;

/// The format of this part, counted up when an older reader would be misled.
const SCHEMA: u32 = 1;

/// So much later than it is due, a request that nobody sent counts as one that was lost, and the peer
/// as one that has to answer the next: as long as the shortest wait for a reply, so that it is not
/// found dead any later for that.
pub(super) const LATE: Duration = Limits::TIMEOUT_MIN;

/// By what way peers are reached, beside the addresses: what is learned by one says nothing of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The port of the probe.
    pub port: u16,
    /// The port of VXLAN.
    pub vxlan_port: u16,
    /// The number of the overlay.
    pub vni: u32,
}

/// What is left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    schema: u32,
    /// The boot whose clock the times are of, in hexadecimal digits.
    boot: String,
    way: Way,
    /// The own VTEP, from which was asked.
    vtep: IpAddr,
    /// The own plan, in hexadecimal digits; the peers have the same.
    plan: String,
    /// The MTU of the own overlay in octets.
    mtu: u16,
    /// Milliseconds of the clock when this was written.
    written: u64,
    peers: Vec<KeptPeer>,
}

/// What is left of a peer that answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptPeer {
    /// Its address on the underlay.
    pub(super) node: IpAddr,
    /// The address of its VTEP.
    pub(super) vtep: IpAddr,
    /// Since when it answers, in seconds since 1970-01-01T00:00:00Z.
    pub(super) since: u64,
    /// When it answered last, in milliseconds of the clock, and in seconds since
    /// 1970-01-01T00:00:00Z.
    pub(super) replied: (u64, u64),
    /// When it is to be asked next, in milliseconds of the clock.
    pub(super) next: u64,
    pub(super) window: Window,
    pub(super) rtt: Rtt,
    /// The largest size that passes in octets, and when that was found, in milliseconds of the clock.
    pub(super) path: Option<(u16, u64)>,
    /// What it said about itself, as in the results.
    pub(super) mtu: u16,
    pub(super) boot: String,
    pub(super) version: String,
}

/// The part of the file that this is about.
#[derive(Deserialize)]
struct Part {
    kept: Option<Kept>,
}

/// The whole file.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    view: &'a ProbeView,
    kept: &'a Kept,
}

impl Kept {
    /// Reads what was left in a file of results. Most have nothing: of a daemon that runs or was killed,
    /// and of one that is older than this.
    pub fn parse(text: &str) -> Option<Self> {
        let part: Part = serde_json::from_str(text).ok()?;
        part.kept.filter(|kept| kept.schema == SCHEMA)
    }

    /// The content of the file of results with this in it, ending in a newline. Who reads the results
    /// alone finds them as always.
    pub fn to_text(&self, view: &ProbeView) -> String {
        // Structs of plain fields with string keys always serialise.
        serde_json::to_string(&Whole { view, kept: self }).unwrap_or_default() + "\n"
    }

    /// Of how many peers something is left.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Whether all this is about this node as it is now.
    fn is_of(&self, local: &Local, way: Way, now: Now) -> bool {
        let told = local.about.boot != [0; 16];
        told && self.boot == hex(local.about.boot)
            && self.way == way
            && self.vtep == local.vtep
            && self.plan == plan(local)
            && self.mtu == local.about.mtu
            && self.written <= millis(now.monotonic)
    }
}

impl KeptPeer {
    /// Whether this is about that peer, and what can be so.
    pub(super) fn is_of(&self, target: &Target, now: Now) -> bool {
        let now = millis(now.monotonic);
        self.node == target.node
            && self.vtep == target.vtep
            && self.replied.0 <= now
            && self.path.is_none_or(|(_, at)| at <= now)
            && self.window.is_sound()
            && self.rtt.is_sound()
            && is_version(self.version.as_bytes())
    }

    /// What the peer said about itself, by a node of the same plan.
    pub(super) fn about(&self, plan: u64) -> Option<About> {
        let boot = u128::from_str_radix(&self.boot, 16).ok()?.to_be_bytes();
        Some(About { node: self.node, plan, mtu: self.mtu, boot, version: self.version.clone() })
    }
}

impl Prober {
    /// What to leave to the next daemon, if this one knows where it is.
    pub fn leave(&self, way: Way, now: Now) -> Option<Kept> {
        let local = self.local.as_ref()?;
        Some(Kept {
            schema: SCHEMA,
            boot: hex(local.about.boot),
            way,
            vtep: local.vtep,
            plan: plan(local),
            mtu: local.about.mtu,
            written: millis(now.monotonic),
            peers: self.peers.values().filter_map(|peer| peer.keep(local.about.plan)).collect(),
        })
    }

    /// Takes what the daemon before this one left, which is looked through when the first peers are
    /// told.
    pub fn take_over(&mut self, kept: Kept, way: Way) {
        self.kept = Some((kept, way));
    }

    /// The kept peers that are to be believed here and now.
    pub(super) fn recall(&mut self, local: &Local, now: Now) -> Vec<KeptPeer> {
        let kept = self.kept.take().filter(|(kept, way)| kept.is_of(local, *way, now));
        kept.map(|(kept, _)| kept.peers).unwrap_or_default()
    }
}

/// Milliseconds; centuries fit.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn hex(boot: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(boot))
}

fn plan(local: &Local) -> String {
    format!("{:016x}", local.about.plan)
}
