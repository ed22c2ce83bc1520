//! The facts about this node, which the daemon left.

use std::io;
use std::path::PathBuf;

use minionet_core::cni::{Code, Coded};
use minionet_core::constants::{RUN_DIR, STATE_DIR};
use minionet_core::handoff::{FILE, FactsError, NodeFacts};
use minionet_pods::files;
use thiserror::Error;

/// The directories that the plugin and the daemon share.
#[derive(Clone, Debug)]
pub struct Directories {
    /// Runtime state, which dies with the boot.
    pub run: PathBuf,
    /// Durable state.
    pub state: PathBuf,
}

impl Default for Directories {
    fn default() -> Self {
        Directories { run: RUN_DIR.into(), state: STATE_DIR.into() }
    }
}

/// Why there are no facts.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The daemon never ran.
    #[error(
        "the pod CIDR of this node is not known: neither {} nor {} is there; minionetd writes them once it found this node in DNS: is it running? (minionetd status, journalctl -u minionetd)",
        .files[0].display(), .files[1].display()
    )]
    Absent {
        /// The files looked for.
        files: [PathBuf; 2],
    },
    /// A file is there and cannot be read.
    #[error("cannot read {}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file has no usable content.
    #[error("{}: {source}", .file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: FactsError,
    },
}

impl Coded for LoadError {
    fn code(&self) -> Code {
        match self {
            LoadError::Absent { .. } => Code::TryAgainLater,
            LoadError::Io { .. } => Code::Io,
            LoadError::Content { .. } => Code::State,
        }
    }

    fn details(&self) -> Option<String> {
        None
    }
}

/// Reads the facts: those of this boot, else the durable ones of an earlier boot.
pub fn load(dirs: &Directories) -> Result<NodeFacts, LoadError> {
    let files = [dirs.run.join(FILE), dirs.state.join(FILE)];
    for file in &files {
        match files::read(file) {
            Ok(text) => {
                let content = |source| LoadError::Content { file: file.clone(), source };
                return NodeFacts::parse(&text).map_err(content);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(LoadError::Io { file: file.clone(), source }),
        }
    }
    Err(LoadError::Absent { files })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn facts(mtu: u32) -> String {
        format!(
            r#"{{"schema": 1, "version": "x", "cluster": "c", "node": "172.20.0.1", "mtu": {mtu},
            "blocks": [{{"cidr": "10.32.1.0/24", "gateway": "10.32.1.1"}}], "pod_networks": []}}"#
        )
    }

    #[test]
    fn those_of_this_boot_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Directories { run: dir.path().join("run"), state: dir.path().join("lib") };
        let error = load(&dirs).unwrap_err();
        assert_eq!(error.code(), Code::TryAgainLater);
        for part in ["minionetd", "run/node.json", "lib/node.json"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        fs::create_dir(&dirs.state).unwrap();
        fs::write(dirs.state.join(FILE), facts(1400)).unwrap();
        assert_eq!(load(&dirs).unwrap().mtu, 1400);
        fs::create_dir(&dirs.run).unwrap();
        fs::write(dirs.run.join(FILE), facts(1450)).unwrap();
        assert_eq!(load(&dirs).unwrap().mtu, 1450);
        fs::write(dirs.run.join(FILE), "{").unwrap();
        assert_eq!(load(&dirs).unwrap_err().code(), Code::State);
    }
}
