//! What outlives the daemon: which records this node may have in DNS; and how registration is, for
//! others to read.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A record that this node has registered, or was about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The owner of the record, fully qualified.
    pub name: String,
    /// The address.
    pub address: IpAddr,
    /// What its lease may say, the latest last: what was acknowledged, and what was sent after it.
    pub leases: Vec<String>,
}

/// All records that this node may have. It is written before an update is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// [`Ledger::SCHEMA`] of the writer.
    pub schema: u32,
    /// The records.
    pub standings: Vec<Standing>,
}

/// Why a ledger cannot be used.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// Not JSON, or fields are missing.
    #[error("it cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written in a format that this program does not know.
    #[error("it has format {0}, this program knows {known}", known = Ledger::SCHEMA)]
    Schema(u32),
}

impl Ledger {
    /// File name in the durable directory.
    pub const FILE: &str = "registered.json";

    /// Version of the format.
    pub const SCHEMA: u32 = 1;

    /// A ledger of these records.
    pub fn new(standings: Vec<Standing>) -> Self {
        Ledger { schema: Self::SCHEMA, standings }
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// [`LedgerError`] when the format is not understood.
    pub fn parse(text: &str) -> Result<Self, LedgerError> {
        let ledger: Ledger = serde_json::from_str(text)?;
        if ledger.schema == Self::SCHEMA { Ok(ledger) } else { Err(LedgerError::Schema(ledger.schema)) }
    }

    /// The text of the file, ending in a newline.
    pub fn to_text(&self) -> String {
        text(self)
    }
}

/// How registration is: `/run/minionet/register.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`Report::SCHEMA`] of the writer.
    pub schema: u32,
    /// How it is.
    #[serde(flatten)]
    pub registration: Registration,
}

/// How registration is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The name that gets the record.
    pub name: String,
    /// The zone, once found.
    pub zone: Option<String>,
    /// The server that takes the updates, once found.
    pub server: Option<String>,
    /// The address that is registered.
    pub address: Option<IpAddr>,
    /// When the server last acknowledged it, in seconds since 1970-01-01T00:00:00Z.
    pub renewed: Option<u64>,
    /// Whether the operator took this node out.
    pub left: bool,
    /// Dead nodes whose leases are watched.
    pub suspects: Vec<IpAddr>,
    /// What is wrong, and what to do.
    pub trouble: Option<String>,
    /// How often the server has acknowledged the record since the start.
    #[serde(default)]
    pub acknowledged: u64,
    /// How often that failed since the start.
    #[serde(default)]
    pub failed: u64,
    /// How many attempts in a row have failed.
    #[serde(default)]
    pub failures: u64,
    /// How many records of dead nodes this one has removed since the start.
    #[serde(default)]
    pub removed: u64,
}

impl Report {
    /// File name in the runtime directory.
    pub const FILE: &str = "register.json";

    /// Version of the format.
    pub const SCHEMA: u32 = 1;

    /// Reads the text of the file; nothing where it is of another format.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|report: &Report| report.schema == Self::SCHEMA)
    }

    /// A report of this format.
    pub fn new(registration: Registration) -> Self {
        Report { schema: Self::SCHEMA, registration }
    }

    /// The text of the file, ending in a newline.
    pub fn to_text(&self) -> String {
        text(self)
    }
}

fn text(value: &impl Serialize) -> String {
    // A struct of plain fields always serialises.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}
