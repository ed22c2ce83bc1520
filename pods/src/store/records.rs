//! Records of attachments: written before anything is made, removed after everything is gone.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use minionet_core::cni::attachment::{Id, Record, RecordError};

use super::lock::{Locked, acquire};
use super::{Store, StoreError};

/// How far an attachment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// ADD is at work, or was killed.
    Adding,
    /// ADD is done.
    Ready,
}

impl Stage {
    /// The ending of the record's file name.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Stage::Adding => "adding",
            Stage::Ready => "json",
        }
    }
}

/// A record that an ADD has written and keeps locked.
#[derive(Debug)]
pub struct Journal {
    store: Store,
    id: Id,
    // Closing the file releases the lock: whoever finds it free knows that the ADD has ended.
    _file: File,
}

impl Journal {
    /// Marks the attachment as complete.
    ///
    /// # Errors
    /// [`StoreError::Io`], also when somebody removed the record in the meantime.
    pub fn complete(&self) -> Result<(), StoreError> {
        let path = self.store.record_path(self.id, Stage::Adding);
        fs::rename(&path, self.store.record_path(self.id, Stage::Ready))
            .map_err(StoreError::io("complete the record", &path))
    }
}

/// A record found in the store.
#[derive(Debug)]
pub struct Found {
    id: Id,
    /// How far the attachment had come when it was found.
    pub stage: Stage,
    path: PathBuf,
    file: File,
}

impl Found {
    /// Reads the record.
    ///
    /// # Errors
    /// The outer error when the file cannot be read, the inner when it is no record of a format
    /// that is known.
    pub fn read(&mut self) -> Result<Result<Record, RecordError>, StoreError> {
        let mut text = Vec::new();
        self.file.read_to_end(&mut text).map_err(StoreError::io("read", &self.path))?;
        Ok(Record::parse(self.id, &text))
    }

    /// Whether the ADD that wrote the record is still at work. If not, its lock is ours from
    /// here on.
    pub fn is_in_flight(&self) -> bool {
        matches!(self.file.try_lock(), Err(fs::TryLockError::WouldBlock))
    }

    /// Waits until nobody else works on the attachment; says whether its record is still there
    /// then.
    ///
    /// # Errors
    /// [`StoreError::Locked`] after 20 seconds.
    pub fn claim(&self) -> Result<bool, StoreError> {
        acquire(&self.file, &self.path)?;
        let metadata = self.file.metadata().map_err(StoreError::io("examine", &self.path))?;
        Ok(metadata.nlink() > 0)
    }
}

impl Store {
    /// Finds the record of an attachment.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the state directory cannot be read.
    pub fn find(&self, id: Id) -> Result<Option<Found>, StoreError> {
        // The last once more: between the first two attempts an ADD may have become ready.
        for stage in [Stage::Ready, Stage::Adding, Stage::Ready] {
            let path = self.record_path(id, stage);
            match File::open(&path) {
                Ok(file) => return Ok(Some(Found { id, stage, path, file })),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::io("open", &path)(source)),
            }
        }
        Ok(None)
    }

    /// Whether an attachment has a record.
    pub(super) fn has_record(&self, id: Id) -> bool {
        [Stage::Ready, Stage::Adding, Stage::Ready]
            .into_iter()
            .any(|stage| fs::symlink_metadata(self.record_path(id, stage)).is_ok())
    }
}

impl Locked<'_> {
    /// Finds the record of an attachment.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn find(&self, id: Id) -> Result<Option<Found>, StoreError> {
        self.store.find(id)
    }

    /// Writes the record of an ADD that begins, and keeps it locked.
    ///
    /// The caller has made sure that there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`]; nothing is left behind that anybody would mistake for a record.
    pub fn record(&mut self, record: &Record) -> Result<Journal, StoreError> {
        let store = self.store;
        let id = record.key.id();
        // One name for all: what a killed predecessor left is overwritten, and the lock of the
        // store keeps others out.
        let temporary = store.attachments().join(".new");
        let open = || File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
        let file = match open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                store.make_directories()?;
                open()
            }
            other => other,
        };
        let mut file = file.map_err(StoreError::io("make", &temporary))?;
        let write = |file: &mut File| {
            acquire(file, &temporary)?;
            file.write_all(record.to_text().as_bytes()).map_err(StoreError::io("write", &temporary))?;
            let path = store.record_path(id, Stage::Adding);
            fs::rename(&temporary, &path).map_err(StoreError::io("make", &path))
        };
        if let Err(error) = write(&mut file) {
            // Whatever becomes of it, the next ADD overwrites it.
            let _ignored = fs::remove_file(&temporary);
            return Err(error);
        }
        Ok(Journal { store: store.clone(), id, _file: file })
    }

    /// Removes the record of an attachment, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it is there and stays.
    pub fn forget(&mut self, id: Id) -> Result<(), StoreError> {
        for stage in [Stage::Adding, Stage::Ready] {
            let path = self.store.record_path(id, stage);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path)(e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
