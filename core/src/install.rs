//! What installing and uninstalling change on a disk.
//!
//! What should be there is compared with what is there and with what was put there the last time
//! (the [`Manifest`]); what comes out is a list of steps, which is shown to the operator and
//! carried out one by one. The manifest is written before the first file is, so that whatever a
//! crash leaves is known to be ours.
//!
//! Rules:
//! * A program is replaced whatever is there under its name.
//! * Any other file that somebody changed since it was installed is kept, and named.
//! * A path that is something else than expected, as a directory in the place of a file, is a
//!   conflict, and then nothing is changed at all.
//! * Only directories that installing made are removed, and only when nothing else is in them.

mod manifest;
mod plan;
mod remove;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

pub use self::manifest::{MANIFEST, Manifest, ManifestError, Recorded};
pub use self::plan::{Conflict, Plan, plan};
pub use self::remove::{Removal, remove};

/// Something that should be on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its absolute path, below the root that is installed into.
    pub path: String,
    /// What should be there.
    pub content: Content,
}

/// What should be at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A directory, whatever is in it.
    Directory,
    /// A file.
    File {
        /// What tells its content from every other.
        digest: String,
        /// Its permissions.
        mode: u32,
        /// Whose it is once it is there.
        policy: Policy,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: String,
    },
    /// A file that is written later, by what is installed, and goes with it.
    Later,
}

/// Who decides on a file's content after it was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The program that installs: what it finds is replaced.
    Replace,
    /// The operator: what was changed is kept.
    Respect,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A directory with entries of these names.
    Directory(Vec<String>),
    /// A file.
    File {
        /// What tells its content from every other.
        digest: String,
        /// Its permissions.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: String,
    },
    /// Anything else, such as a device.
    Other,
}

/// What was found, by path; what is missing here was not looked at, and counts as nothing.
pub type Disk = BTreeMap<String, Found>;

/// One change of the disk, or the decision against one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a directory, with permissions 0755.
    MakeDirectory(String),
    /// Write a file where nothing is.
    Write(String),
    /// Replace a file or link by another content.
    Replace(String),
    /// Give a file other permissions.
    SetMode(String, u32),
    /// Make a symbolic link, in the place of another if there is one.
    Link {
        /// Its path.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// Remove a file or link.
    Remove(String),
    /// Remove an empty directory.
    RemoveDirectory(String),
    /// Leave a file as it is because somebody changed it.
    Keep(String),
}

impl Step {
    /// Whether this changes anything.
    pub fn changes(&self) -> bool {
        !matches!(self, Step::Keep(_))
    }

    /// The path that is concerned.
    pub fn path(&self) -> &str {
        match self {
            Step::MakeDirectory(path)
            | Step::Write(path)
            | Step::Replace(path)
            | Step::SetMode(path, _)
            | Step::Link { path, .. }
            | Step::Remove(path)
            | Step::RemoveDirectory(path)
            | Step::Keep(path) => path,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::MakeDirectory(path) => write!(f, "make     {path}/"),
            Step::Write(path) => write!(f, "write    {path}"),
            Step::Replace(path) => write!(f, "replace  {path}"),
            Step::SetMode(path, mode) => write!(f, "chmod    {path} to {mode:04o}"),
            Step::Link { path, target } => write!(f, "link     {path} to {target}"),
            Step::Remove(path) => write!(f, "remove   {path}"),
            Step::RemoveDirectory(path) => write!(f, "remove   {path}/"),
            Step::Keep(path) => write!(f, "keep     {path}: somebody changed it (--force overrules)"),
        }
    }
}

/// The directories above a path, from the top, without the root.
pub fn parents(path: &str) -> Vec<String> {
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    ends.map(|at| path[..at].to_owned()).collect()
}
