//! What an operator sees: the daemon's state, what the kernel holds, and the pods, as one report.
//!
//! [`report`] puts it together and judges it, [`render`] makes text of it. Both are pure: the
//! commands gather the [`Evidence`] and print. `docs/status.md` describes the document.

mod evidence;
mod judge;
mod kernel;
mod pods;
mod render;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use self::evidence::{Evidence, KernelEvidence, PodEvidence, Running, report};
pub use self::pods::Pod;
pub use self::render::{Colour, Style, peers, pods, status};
use crate::addr::MacAddr;
use crate::register::Registration;
use crate::state::{Daemon, Device, Dns, Node, Peer, Plan, Probe, Readiness, Repairs, Rounds};

/// Version of the document; raised when an older reader would misunderstand it.
pub const SCHEMA: u32 = 1;

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// When it was made, in seconds since 1970-01-01T00:00:00Z, as all points in time.
    pub taken: u64,
    /// How it is, all in all.
    pub verdict: Verdict,
    /// What is wrong, the worst first.
    pub warnings: Vec<Warning>,
    /// Where what the daemon knows comes from.
    pub source: Source,
    /// Whether the daemon runs.
    pub running: Running,
    /// When the daemon last gave a sign of life, where that is known.
    pub last_sign: Option<u64>,
    /// When what the daemon knows was written.
    pub written: Option<u64>,
    /// The daemon.
    pub daemon: Option<Daemon>,
    /// Name of the cluster.
    pub cluster: Option<String>,
    /// Whether the overlay is formed, as the daemon said.
    pub readiness: Option<Readiness>,
    /// This node.
    pub node: Option<Node>,
    /// The address plan.
    pub plan: Option<Plan>,
    /// The VXLAN device as it should be.
    pub device: Option<Device>,
    /// What the kernel holds.
    pub kernel: Option<Kernel>,
    /// What DNS said.
    pub dns: Option<Dns>,
    /// How this node's own record in DNS is; none where it does not keep it itself.
    pub registration: Option<Registration>,
    /// The peers, in order of their addresses.
    pub peers: Vec<PeerReport>,
    /// Further addresses that are no peers, of which only the number is known.
    pub ignored_more: usize,
    /// The probe through the tunnel.
    pub probe: Option<Probe>,
    /// The pods of this node.
    pub pods: Vec<Pod>,
    /// Why they are not known, if so.
    pub pods_unknown: Option<String>,
    /// What others changed in the kernel, and was mended.
    pub repairs: Option<Repairs>,
    /// The rounds in which the kernel is compared with what it should hold.
    pub rounds: Option<Rounds>,
}

/// Where what the daemon knows comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// From itself, at this moment.
    Daemon,
    /// From the file that it left.
    File,
    /// There is nothing but what the kernel holds.
    Kernel,
}

/// How it is, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is wrong.
    Well,
    /// It works, and something needs attention.
    Warnings,
    /// It does not work, or nobody looks after it.
    Failed,
}

impl Verdict {
    /// The exit status of the commands. 1 and 2 are taken: the command failed, and it was called
    /// wrongly.
    pub fn exit_status(self) -> u8 {
        match self {
            Verdict::Well => 0,
            Verdict::Warnings => 3,
            Verdict::Failed => 4,
        }
    }
}

/// How bad a warning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing has to be done.
    Note,
    /// Something needs attention.
    Warning,
    /// It does not work, or nobody looks after it.
    Failure,
}

/// Something that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, and what to do.
    pub text: String,
}

/// What the kernel holds of the overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The VXLAN device, if there is one.
    pub device: Option<KernelDevice>,
    /// In what it differs from what it should be; empty where that is not known.
    pub differences: Vec<String>,
    /// Whether the nft table is there; none where that cannot be told.
    pub table: Option<bool>,
    /// Routes to peers.
    pub routes: usize,
    /// Routes with our mark that lead to no peer known.
    pub stray_routes: usize,
}

/// The VXLAN device in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelDevice {
    /// Whether it is up.
    pub up: bool,
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The UDP port of VXLAN.
    pub port: u16,
    /// The source address of its packets.
    pub local: Option<IpAddr>,
    /// Its MAC.
    pub mac: Option<MacAddr>,
    /// Its MTU in octets.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// A peer, and whether the kernel knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerReport {
    /// What the daemon knows of it.
    #[serde(flatten)]
    pub peer: Peer,
    /// Whether the kernel holds everything that leads to it, read back by the command itself; none
    /// for what is no peer, or where the kernel could not be asked.
    pub programmed: Option<bool>,
    /// What the kernel lacks, of `neighbour`, `fdb` and `route`.
    pub lacks: Vec<String>,
}

impl Report {
    /// The text of the document, indented, ending in a newline.
    pub fn to_text(&self) -> String {
        // A struct of plain fields with string keys always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The document on one line, for one of several.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}
