//! What the daemon knows and has done, as one document: for `minionetd status`, for metrics, and
//! for whoever reads it.
//!
//! The daemon answers `GET /state` on the socket [`SOCKET`] with it, and leaves it in the file
//! [`FILE`] when something has changed. Fields are only ever added; whoever reads the document
//! must ignore those that it does not know. [`SCHEMA`] is raised when that is not enough.
//!
//! Points in time are in seconds since 1970-01-01T00:00:00Z, durations in seconds.

mod describe;
mod journal;
mod readiness;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::describe::{Facts, describe, merge_probe};
pub use self::journal::{Cause, Journal, Meters};
use crate::addr::{Cidr, MacAddr};
use crate::identity::Basis;
use crate::membership::{DepartedView, MassView, NameView, Thresholds};
use crate::overlay::{self, Encapsulation};
use crate::plan::{Block, NodePlan};
use crate::probe::view::{Counters, PeerProbe};
use crate::register::Registration;

/// Version of the document; raised when an older reader would misunderstand it.
pub const SCHEMA: u32 = 1;

/// Name of the file, in [`crate::constants::RUN_DIR`].
pub const FILE: &str = "state.json";

/// Name of the daemon's socket, in [`crate::constants::RUN_DIR`].
pub const SOCKET: &str = "minionetd.sock";

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// When it was written.
    pub written: u64,
    /// The daemon that wrote it.
    pub daemon: Daemon,
    /// Name of the cluster.
    pub cluster: String,
    /// Whether the overlay is formed.
    pub readiness: Readiness,
    /// What is wrong, and what to do; nothing when all is well.
    pub troubles: Vec<String>,
    /// This node, once that is known.
    pub node: Option<Node>,
    /// The plan, once that is known.
    pub plan: Option<Plan>,
    /// The VXLAN device as it should be, once that is known.
    pub device: Option<Device>,
    /// What DNS said.
    pub dns: Dns,
    /// Every address that is or was listed, apart from this node's own, in order.
    pub peers: Vec<Peer>,
    /// Further addresses that are no peers, of which only the number is known.
    pub ignored_more: usize,
    /// The probe through the tunnel; none where it is off or has not begun.
    pub probe: Option<Probe>,
    /// How this node's own record in DNS is; none where it does not keep it itself.
    pub registration: Option<Registration>,
    /// What others changed in the kernel, and was mended.
    pub repairs: Repairs,
    /// The rounds in which the kernel is compared with what it should hold.
    pub rounds: Rounds,
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started: u64,
}

/// Whether the overlay is formed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether it is.
    pub ready: bool,
    /// What is lacking, if it is not.
    pub lacks: Vec<String>,
}

/// This node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its place in the plan.
    #[serde(flatten)]
    pub place: NodePlan,
    /// The interface with its address.
    pub interface: String,
    /// The subnet of its address.
    pub subnet: Cidr,
    /// Why this address was chosen.
    pub basis: Basis,
    /// Whether DNS lists it.
    pub listed: bool,
    /// Other addresses of this node that DNS lists.
    pub also_listed: Vec<IpAddr>,
    /// MTU of the underlay in octets.
    pub underlay_mtu: u32,
    /// MTU of pods in octets.
    pub pod_mtu: u32,
}

/// The address plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its digest in hexadecimal digits: the same on every node.
    pub digest: String,
    /// Networks in which nodes live.
    pub node_networks: Vec<Cidr>,
    /// Networks in which pods live.
    pub pod_networks: Vec<PodNetwork>,
}

/// A pod network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetwork {
    /// The network.
    pub network: Cidr,
    /// Prefix length of one node's block.
    pub node_prefix: u8,
}

/// The VXLAN device as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// How it should be made.
    #[serde(flatten)]
    pub vtep: overlay::Device,
    /// Which peers' packets are encapsulated.
    pub encapsulation: Encapsulation,
    /// How many routes to peers there should be.
    pub peer_routes: usize,
    /// How many changes the kernel refused in the last round.
    pub refused: usize,
}

/// What DNS said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dns {
    /// Every configured name.
    pub names: Vec<NameView>,
    /// When all names were last answered completely; none before the first time since the start.
    pub last_complete: Option<u64>,
    /// When DNS is asked next.
    pub next_refresh: Option<u64>,
    /// Since when complete answers do not list this node's own address, if so.
    pub own_missing_since: Option<u64>,
    /// The names whose failure keeps removals waiting.
    pub removals_wait_for: Vec<String>,
    /// Whether a resolver answers with random samples.
    pub sampling: bool,
    /// Set while peers are held because too many went missing at once.
    pub mass_hold: Option<MassView>,
    /// Peers that were removed lately.
    pub departed: Vec<DepartedView>,
    /// How often a resolver answered a name how: `answer`, `incomplete`, or the kind of failure.
    pub replies: BTreeMap<String, u64>,
    /// The numbers that removal depends on.
    pub thresholds: Thresholds,
}

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A peer.
    Active,
    /// A peer that is missing from complete answers.
    Missing,
    /// A peer that is missing and kept for a reason.
    Held,
    /// No peer, and something has to be done about it.
    Refused,
    /// No peer, and that is as it should be: of the other address family, for example.
    Ignored,
    /// In the kernel, and nobody tells what it is: the daemon has left no state.
    Unknown,
}

impl Standing {
    /// Every standing that the daemon tells of, with its name in documents.
    pub const TOLD: [(Standing, &'static str); 5] = [
        (Standing::Active, "active"),
        (Standing::Missing, "missing"),
        (Standing::Held, "held"),
        (Standing::Refused, "refused"),
        (Standing::Ignored, "ignored"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::TOLD.iter().find(|(standing, _)| *standing == self).map_or("unknown", |(_, name)| name)
    }

    /// Whether it is a peer, and programmed.
    pub fn is_peer(self) -> bool {
        matches!(self, Standing::Active | Standing::Missing | Standing::Held)
    }
}

/// One address that DNS lists, or listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub state: Standing,
    /// Why, for one that is held, refused or ignored.
    pub reason: Option<String>,
    /// Since when it is so; for one that is missing or held, since it was first missed.
    pub since: Option<u64>,
    /// When it was first seen.
    pub first_seen: Option<u64>,
    /// When it was last seen.
    pub last_seen: Option<u64>,
    /// Whether DNS has listed it since the daemon started.
    pub confirmed: bool,
    /// Complete answers without it.
    pub absent_answers: u32,
    /// How often it came back lately.
    pub flaps: u32,
    /// The names that list it.
    pub names: Vec<String>,
    /// The MAC of its VTEP, for a peer.
    pub mac: Option<MacAddr>,
    /// Its pod CIDRs, for a peer.
    pub blocks: Vec<Block>,
    /// What the probe says, for a peer that is probed.
    pub probe: Option<PeerProbe>,
}

/// The probe through the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The MTU that should pass to every peer, in octets.
    pub mtu: u16,
    /// What was counted since the start.
    pub counters: Counters,
}

/// What others changed in the kernel, and was mended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repairs {
    /// How many since the start, by the kind of object: `device`, `address`, `neighbour`, `fdb`,
    /// `route`, `nft`, `sysctl`.
    pub counts: BTreeMap<String, u64>,
    /// The last ones, the newest first.
    pub last: Vec<Repair>,
}

/// One repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// When.
    pub at: u64,
    /// What was done.
    pub what: String,
}

/// The rounds in which the kernel is compared with what it should hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rounds {
    /// How many there were since the start.
    pub count: u64,
    /// How many of them did not end well.
    pub failed: u64,
    /// When the last one ended.
    pub last: Option<u64>,
    /// How long it took, in seconds.
    pub last_duration: f64,
    /// How long the longest took, in seconds.
    pub longest_duration: f64,
    /// What was changed because the plan, the peers or the configuration changed, by the kind of
    /// object.
    pub changes: BTreeMap<String, u64>,
}

/// A document that cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// Not JSON, or not what it should hold.
    #[error("the daemon's state is malformed: {source}; restart minionetd, it writes it anew")]
    Malformed {
        /// Where and why.
        #[from]
        source: serde_json::Error,
    },
    /// The format of another version.
    #[error(
        "the daemon's state has format {found}, this program reads {SCHEMA}: restart minionetd, so that both are \
         of the same version"
    )]
    Schema {
        /// The format found.
        found: u64,
    },
}

impl State {
    /// Reads the document.
    ///
    /// # Errors
    /// [`StateError`] when it was not written by a program like this one.
    pub fn parse(text: &str) -> Result<Self, StateError> {
        // The format comes first, and alone: a later one need not have today's fields.
        #[derive(Deserialize)]
        struct Format {
            schema: u64,
        }
        match serde_json::from_str::<Format>(text)?.schema {
            found if found != u64::from(SCHEMA) => Err(StateError::Schema { found }),
            _ => Ok(serde_json::from_str(text)?),
        }
    }

    /// The text of the document, ending in a newline.
    pub fn to_text(&self) -> String {
        // A struct of plain fields with string keys always serialises.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}
