//! The probe's results as others read them: `minionetd status`, and whoever reads the file.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::membership::Liveness;

/// The format written here, counted up when an older reader would be misled.
pub const SCHEMA: u32 = 1;

/// Name of the file with the results, in [`crate::constants::RUN_DIR`].
pub const FILE: &str = "probe.json";

/// All results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeView {
    /// The format: [`SCHEMA`].
    pub schema: u32,
    /// When this was written, in seconds since 1970-01-01T00:00:00Z.
    pub written: u64,
    /// The MTU of this node's overlay in octets: what should pass to every peer.
    pub mtu: u16,
    /// The digest of this node's plan, in hexadecimal digits.
    pub plan: String,
    /// One for each peer, in the order of their addresses inside of the tunnel.
    pub peers: Vec<PeerProbe>,
    /// What was counted since the start.
    pub counters: Counters,
}

/// The results for one peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerProbe {
    /// The peer's address on the underlay.
    pub address: IpAddr,
    /// The address of its VTEP, to which requests are sent.
    pub vtep: IpAddr,
    /// Whether it answers.
    pub state: Liveness,
    /// When that began, in seconds since 1970-01-01T00:00:00Z.
    pub since: u64,
    /// When the latest reply came, in seconds since 1970-01-01T00:00:00Z.
    pub last_reply: Option<u64>,
    /// How many of the latest requests, at most 32, the loss is about.
    pub requests: u32,
    /// How many of them were lost.
    pub lost: u32,
    /// Round-trip times, once there was one.
    pub rtt: Option<RttView>,
    /// The largest IP packet in octets that passes to it inside of the tunnel, once that is known.
    pub path_mtu: Option<u16>,
    /// What is known about the size of packets.
    pub path: PathState,
    /// The MTU of the peer's overlay in octets, as it says; should be this node's.
    pub mtu: Option<u16>,
    /// Whether the peer has the same plan.
    pub plan: Agreement,
    /// The version of its program, as it says.
    pub version: Option<String>,
    /// Its present boot, in hexadecimal digits, as it says.
    pub boot: Option<String>,
}

/// Round-trip times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RttView {
    /// The latest.
    pub last: u32,
    /// Smoothed as TCP does (RFC 6298).
    pub smoothed: u32,
    /// The shortest of the latest 32 to 64.
    pub min: u32,
    /// Their mean.
    pub avg: u32,
    /// The longest of them.
    pub max: u32,
}

/// What is known about the size of packets to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathState {
    /// Nothing yet.
    Unknown,
    /// The full size passes.
    Full,
    /// The full size does not pass; the largest that does is being searched.
    Searching,
    /// Only smaller packets pass.
    Limited,
}

/// Whether two plans are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// The peer has not said anything yet.
    Unknown,
    /// They are.
    Same,
    /// They are not.
    Different,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests sent.
    pub requests_sent: u64,
    /// Replies that came in time.
    pub replies_received: u64,
    /// Requests of others that were answered.
    pub requests_answered: u64,
    /// Hellos received.
    pub hellos_received: u64,
    /// Messages from addresses that are no peer's.
    pub strangers: u64,
    /// What came to the port and is no message, or none that was waited for.
    pub ignored: u64,
}

/// A file of results that cannot be used.
#[derive(Debug, Error)]
pub enum ProbeViewError {
    /// Not JSON, or not what it should hold.
    #[error("the results of the probe are malformed: {source}")]
    Malformed {
        /// Where and why.
        #[from]
        source: serde_json::Error,
    },
    /// The format of another version.
    #[error("the results of the probe have format {found}, this program reads {SCHEMA}")]
    Schema {
        /// The format found.
        found: u64,
    },
}

impl ProbeView {
    /// Reads the content of the file.
    ///
    /// # Errors
    /// [`ProbeViewError`] when it was not written by a program like this one.
    pub fn parse(text: &str) -> Result<Self, ProbeViewError> {
        // The format comes first: a later one need not have today's fields.
        let value: serde_json::Value = serde_json::from_str(text)?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(found) if found != u64::from(SCHEMA) => Err(ProbeViewError::Schema { found }),
            _ => Ok(serde_json::from_value(value)?),
        }
    }

    /// The content of the file, ending in a newline.
    pub fn to_text(&self) -> String {
        // A struct of plain fields with string keys always serialises.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

impl PeerProbe {
    /// The share of the latest requests that were lost, from 0 to 1, if there were any.
    pub fn loss(&self) -> Option<f64> {
        (self.requests > 0).then(|| f64::from(self.lost) / f64::from(self.requests))
    }
}
