//! Files of the registration: the key, the ledger, the mark of a node that left, and the lock that
//! keeps the daemon and the operator's commands apart.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use minionet_core::constants::{RUN_DIR, STATE_DIR};
use minionet_core::register::{Failure, Key, Ledger};
use tracing::warn;

use crate::files;

/// The mark that an operator took this node out. It dies with the boot, so that a machine that
/// deregistered at its shutdown is back after its start.
fn mark() -> PathBuf {
    Path::new(RUN_DIR).join("left")
}

/// Reads the key that signs updates.
///
/// # Errors
/// When the file is not there, can be read by everybody, or is no key.
pub fn key(file: &str) -> Result<Key, Failure> {
    let failure = |cause: String| Failure::Key { file: file.to_owned(), cause };
    let text = fs::read_to_string(file).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => failure(
            "it is not there: make it on the DNS server with tsig-keygen, and copy it, or set register_key"
                .into(),
        ),
        _ => failure(e.to_string()),
    })?;
    let mode = fs::metadata(file).map_err(|e| failure(e.to_string()))?.mode() & 0o7777;
    // Whoever reads it can change who is in the cluster; whoever writes it can break the node.
    if mode & 0o027 != 0 {
        return Err(failure(format!("others may use it (mode {mode:04o}): chmod 0600 {file}")));
    }
    Key::parse(&text).map_err(|e| failure(e.to_string()))
}

/// What this node may have in DNS from earlier runs.
pub fn ledger() -> Ledger {
    let path = ledger_path();
    match fs::read_to_string(&path) {
        Ok(text) => Ledger::parse(&text).unwrap_or_else(|e| {
            warn!("the list of registered records {} is not used: {e}", path.display());
            Ledger::default()
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ledger::default(),
        Err(e) => {
            warn!("cannot read the list of registered records {}: {e}", path.display());
            Ledger::default()
        }
    }
}

/// Writes what this node may have in DNS.
///
/// # Errors
/// When the file cannot be written; then nothing must be sent.
pub fn save(ledger: &Ledger) -> Result<()> {
    files::replace(&ledger_path(), &ledger.to_text(), 0o644).map(drop)
}

fn ledger_path() -> PathBuf {
    Path::new(STATE_DIR).join(Ledger::FILE)
}

/// Whether an operator took this node out.
pub fn has_left() -> bool {
    mark().exists()
}

/// Marks this node as taken out.
///
/// # Errors
/// When the file cannot be written.
pub fn set_left() -> Result<()> {
    files::replace(&mark(), "this node was deregistered; `minionetd register` takes it in again\n", 0o644)
        .map(drop)
}

/// Takes the mark away; says whether there was one.
///
/// # Errors
/// When the file is there and cannot be removed.
pub fn clear_left() -> Result<bool> {
    match fs::remove_file(mark()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(|| format!("cannot remove {}", mark().display())),
    }
}

/// The lock under which updates for this node are sent; it is free again when this is dropped.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock; nothing while another holds it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn try_take() -> Result<Option<Self>> {
        let path = Path::new(RUN_DIR).join("register.lock");
        fs::create_dir_all(RUN_DIR).with_context(|| format!("cannot make {RUN_DIR}"))?;
        let file = File::options().create(true).write(true).truncate(false).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("cannot lock {}", path.display())),
        }
    }
}
