//! What was installed, as it is remembered on the disk.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Content, Found, Item, Policy};

/// File name in the directory of durable state.
pub const MANIFEST: &str = "installed.json";

/// Version of the format.
const SCHEMA: u32 = 1;

/// What was installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    schema: u32,
    /// Version of the program that installed last.
    pub version: String,
    /// Files and links by path.
    pub files: BTreeMap<String, Recorded>,
    /// Directories that were not there before.
    pub directories: BTreeSet<String>,
}

/// One file as it was installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recorded {
    /// A file that is ours whatever it holds; one that is written later has no digest.
    Program {
        /// What tells its content from every other.
        digest: String,
    },
    /// A file that may be changed by others.
    File {
        /// What tells its content from every other.
        digest: String,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: String,
    },
}

/// Why a manifest is not used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// It is no manifest.
    #[error("it is not understood: {0}")]
    Malformed(String),
    /// A newer program wrote it.
    #[error(
        "it has version {0} of its format, this program knows version {SCHEMA}: use the program that installed"
    )]
    Unknown(u32),
}

impl Manifest {
    /// Nothing yet, by a program of this version.
    pub fn new(version: &str) -> Self {
        Manifest { schema: SCHEMA, version: version.to_owned(), ..Manifest::default() }
    }

    /// What a program that installs these items would remember, if none of them was there before.
    /// It stands in where the manifest is lost.
    pub fn assumed(version: &str, items: &[Item]) -> Self {
        let files = items.iter().filter_map(|item| Some((item.path.clone(), Recorded::of(&item.content)?)));
        Manifest { files: files.collect(), ..Manifest::new(version) }
    }

    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// [`ManifestError`]
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let malformed = |e: serde_json::Error| ManifestError::Malformed(e.to_string());
        let value: serde_json::Value = serde_json::from_str(text).map_err(malformed)?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(schema) if schema == u64::from(SCHEMA) => serde_json::from_value(value).map_err(malformed),
            Some(schema) => Err(ManifestError::Unknown(u32::try_from(schema).unwrap_or(u32::MAX))),
            None => Err(ManifestError::Malformed("it says no version of its format".to_owned())),
        }
    }

    /// The text, ending in a newline.
    pub fn to_text(&self) -> String {
        // A struct of plain fields with string keys always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl Recorded {
    /// How this is remembered; directories are remembered elsewhere.
    pub(super) fn of(content: &Content) -> Option<Self> {
        Some(match content {
            Content::Directory => return None,
            Content::File { digest, policy: Policy::Replace, .. } => {
                Recorded::Program { digest: digest.clone() }
            }
            Content::File { digest, policy: Policy::Respect, .. } => {
                Recorded::File { digest: digest.clone() }
            }
            Content::Later => Recorded::Program { digest: String::new() },
            Content::Link { target } => Recorded::Link { target: target.clone() },
        })
    }

    /// Whether what was found is still what was installed, or ours whatever it is.
    pub(super) fn is_ours(&self, found: &Found) -> bool {
        match (self, found) {
            (Recorded::Program { .. }, Found::File { .. }) => true,
            (Recorded::File { digest }, Found::File { digest: now, .. }) => digest == now,
            (Recorded::Link { target }, Found::Link { target: now }) => target == now,
            _ => false,
        }
    }
}
