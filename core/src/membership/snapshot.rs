//! The last good answer on disk: what the overlay is formed from when DNS is down at boot.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// File name of the snapshot in the durable directory.
pub const FILE: &str = "peers.json";

/// Version of the format; raised when an older reader would misunderstand a file.
pub const SCHEMA: u32 = 1;

/// The peers as they were last known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// When it was written, in seconds since 1970-01-01T00:00:00Z.
    pub written: u64,
    /// The names that have ever been answered with addresses.
    pub names: Vec<String>,
    /// The peers, in the order of their addresses.
    pub peers: Vec<SavedPeer>,
}

/// One peer of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedPeer {
    /// Its address.
    pub address: IpAddr,
    /// When it was first seen, in seconds since 1970-01-01T00:00:00Z.
    pub first_seen: u64,
    /// When it was last seen, in the same unit.
    pub last_seen: u64,
    /// Whether it came while others went missing that still are, or shortly before: it may be
    /// there wrongly in their place, and has no say about them after a restart either.
    #[serde(default, skip_serializing_if = "is_false")]
    pub newcomer: bool,
    /// Whether it is missing, and held because suspiciously many are: it stays held.
    #[serde(default, skip_serializing_if = "is_false")]
    pub held: bool,
}

impl SavedPeer {
    fn timeless(&self) -> (IpAddr, bool, bool) {
        (self.address, self.newcomer, self.held)
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Why a snapshot cannot be used. None is fatal: membership then begins empty.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// Not JSON, or fields are missing.
    #[error("the saved peers cannot be read: {source}; the file is replaced after the next answer")]
    Malformed {
        /// What the decoder said.
        #[from]
        source: serde_json::Error,
    },
    /// Written in a format that this program does not know.
    #[error(
        "the saved peers have format {found}, this program knows {SCHEMA}; the file is replaced after the next answer"
    )]
    Schema {
        /// The format found.
        found: u64,
    },
    /// Of another cluster.
    #[error(
        "the saved peers belong to cluster \"{found}\", this node to \"{expected}\": they are not used, and \
         replaced after the next answer"
    )]
    OtherCluster {
        /// The cluster named in the snapshot.
        found: String,
        /// The cluster of this node.
        expected: String,
    },
}

impl Snapshot {
    /// Reads the text of a snapshot file.
    ///
    /// # Errors
    /// [`SnapshotError::Malformed`] and [`SnapshotError::Schema`].
    pub fn parse(text: &str) -> Result<Self, SnapshotError> {
        // The format comes first: a later one need not have today's fields.
        let value: serde_json::Value = serde_json::from_str(text)?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(found) if found != u64::from(SCHEMA) => Err(SnapshotError::Schema { found }),
            _ => Ok(serde_json::from_value(value)?),
        }
    }

    /// The text of a snapshot file, ending in a newline.
    pub fn to_text(&self) -> String {
        // A struct of plain fields with string keys always serialises.
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        json + "\n"
    }

    /// Whether two snapshots say the same of the same peers, but for times: then there is
    /// nothing to write.
    pub fn same_peers(&self, other: &Snapshot) -> bool {
        self.cluster == other.cluster
            && self.names == other.names
            && self.peers.iter().map(SavedPeer::timeless).eq(other.peers.iter().map(SavedPeer::timeless))
    }
}
