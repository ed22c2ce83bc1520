//! The plugin's state below `/run/minionet`, which dies with the boot like the pods it tells of.
//!
//! | path | what it is |
//! |---|---|
//! | `attachments/<id>.adding` | the record of an ADD under way, locked (flock) for as long as its process lives |
//! | `attachments/<id>.json` | the record of a complete attachment |
//! | `attachments/<id>.leaving` | another name of a record whose attachment is being taken apart |
//! | `leases/<address>` | a symbolic link whose target is the id of the attachment that has the address |
//! | `queue` | which addresses to try first; a hint, rebuilt from the leases when it is lost |
//! | `boot` | the boot that all of this belongs to |
//! | `lock` | held while leases are taken or released, never across kernel work |
//!
//! Invariants: a record is there before its leases are made and before the kernel
//! is touched, and goes last. A lease whose record is missing is free. A lease whose target is
//! no id is somebody's reservation by hand and stays.

mod boot;
mod error;
mod leases;
mod lock;
mod queue;
mod records;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use minionet_core::cni::attachment::Id;

pub use self::error::StoreError;
pub use self::lock::Locked;
pub use self::records::{Claim, Found, Journal, Stage};

/// The state directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The state in a directory, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Store { root: root.into() }
    }

    /// Whether anything was ever stored.
    pub fn exists(&self) -> bool {
        self.leases().is_dir()
    }

    /// The state directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes sure that the state directory can be written to, without leaving a trace.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot.
    pub fn probe(&self) -> Result<(), StoreError> {
        self.make_directories()?;
        let path = self.attachments().join(".probe");
        // Not empty: a file system that is full still takes names.
        fs::write(&path, "?").map_err(StoreError::io("write", &path))?;
        match fs::remove_file(&path) {
            // Another probe was faster.
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    fn record_path(&self, id: Id, stage: Stage) -> PathBuf {
        self.root.join(format!("attachments/{id}{}", stage.ending()))
    }

    fn attachments(&self) -> PathBuf {
        self.root.join("attachments")
    }

    fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    /// Makes something in the state directory. Where it finds no directory to be in, the
    /// directories are made and it is tried once more: that spares each call looking for them, and
    /// it does not matter how far whoever else makes them has come, or was killed.
    fn make<T>(
        &self,
        operation: &'static str,
        path: &Path,
        make: impl Fn() -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let made = match make() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.make_directories()?;
                make()
            }
            other => other,
        };
        made.map_err(StoreError::io(operation, path))
    }

    fn make_directories(&self) -> Result<(), StoreError> {
        for dir in [self.attachments(), self.leases()] {
            fs::create_dir_all(&dir).map_err(StoreError::io("make the directory", &dir))?;
        }
        Ok(())
    }
}
