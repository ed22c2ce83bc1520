//! Records of attachments: written before anything is made, removed after everything is gone.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use minionet_core::cni::attachment::{Id, Record, RecordError};

use super::lock::{Locked, acquire};
use super::{Store, StoreError};

/// The ending of the second name that a record has while its attachment is taken apart.
const LEAVING: &str = ".leaving";

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
    pub(super) fn ending(self) -> &'static str {
        match self {
            Stage::Adding => ".adding",
            Stage::Ready => ".json",
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

/// Whose a record is to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Ours, until [`Found`] is dropped.
    Ours,
    /// That of another call, which works on it.
    Busy,
    /// There is no such record any more.
    Gone,
}

/// A record found in the store.
#[derive(Debug)]
pub struct Found {
    store: Store,
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

    /// Makes the record ours to act on, if nobody else works on it now.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file cannot be examined.
    pub fn claim_now(&mut self) -> Result<Claim, StoreError> {
        match self.file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(Claim::Busy),
            Err(fs::TryLockError::Error(source)) => return Err(StoreError::io("lock", &self.path)(source)),
        }
        // Since it was opened, its ADD may have ended, or somebody else may have removed it.
        let own = self.file.metadata().map_err(StoreError::io("examine", &self.path))?;
        for stage in [Stage::Adding, Stage::Ready] {
            if is_same_file(&self.store.record_path(self.id, stage), &own) {
                self.stage = stage;
                return Ok(Claim::Ours);
            }
        }
        Ok(Claim::Gone)
    }

    /// Whether somebody has begun to take the attachment apart.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file cannot be examined.
    pub fn is_leaving(&self) -> Result<bool, StoreError> {
        let own = self.file.metadata().map_err(StoreError::io("examine", &self.path))?;
        Ok(is_same_file(&self.store.leaving_path(self.id), &own))
    }

    /// Waits until nobody else works on the attachment; says whether this record is still there
    /// then. If not, there may be another in its place.
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
        self.find_at(id, &[Stage::Ready, Stage::Adding, Stage::Ready])
    }

    fn find_at(&self, id: Id, stages: &[Stage]) -> Result<Option<Found>, StoreError> {
        for &stage in stages {
            let path = self.record_path(id, stage);
            match File::open(&path) {
                Ok(file) => return Ok(Some(Found { store: self.clone(), id, stage, path, file })),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::io("open", &path)(source)),
            }
        }
        Ok(None)
    }

    /// The attachments that have a record.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the state directory cannot be read.
    pub fn recorded(&self) -> Result<BTreeSet<Id>, StoreError> {
        let id = |name: String| {
            let stages = [Stage::Adding, Stage::Ready];
            stages.iter().find_map(|stage| name.strip_suffix(stage.ending()))?.parse().ok()
        };
        Ok(self.record_names()?.into_iter().filter_map(id).collect())
    }

    fn record_names(&self) -> Result<Vec<String>, StoreError> {
        let dir = self.attachments();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::io("read", &dir)(source)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(StoreError::io("read", &dir))?.file_name();
            names.extend(name.into_string().ok());
        }
        Ok(names)
    }

    fn leaving_path(&self, id: Id) -> PathBuf {
        self.attachments().join(format!("{id}{LEAVING}"))
    }

    /// Remembers that an attachment is being taken apart: from now on nobody makes anything by its
    /// record, and whoever finds nobody at work on it goes on. Without a record there is nothing
    /// to remember.
    ///
    /// The mark is another name of the record's file: one that was forgotten is never mistaken for
    /// that of a later record, and the record stays what it is for whoever does not know of marks.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it cannot be written.
    pub fn mark_leaving(&self, id: Id) -> Result<(), StoreError> {
        let mark = self.leaving_path(id);
        for stage in [Stage::Ready, Stage::Adding] {
            let path = self.record_path(id, stage);
            let Ok(record) = fs::symlink_metadata(&path) else { continue };
            if is_same_file(&mark, &record) {
                return Ok(());
            }
            remove_if_there(&mark)?;
            return fs::hard_link(&path, &mark).map_err(StoreError::io("make", &mark));
        }
        Ok(())
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
        // Nobody else writes a record meanwhile, so one that is in neither place is not there.
        self.store.find_at(id, &[Stage::Adding, Stage::Ready])
    }

    /// Writes the record of an ADD, and keeps it locked.
    ///
    /// The caller has made sure that there is none, or has the journal of the one that this one
    /// takes the place of, and keeps it until then: whoever waits for its lock finds it gone, and
    /// looks again.
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
        let mut file = store.make("make", &temporary, open)?;
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
            remove_if_there(&self.store.record_path(id, stage))?;
        }
        // Last: as long as there is a record, it says that it does not count any more.
        remove_if_there(&self.store.leaving_path(id))
    }

    /// Removes the marks of records that are gone; their names are all that is left of them.
    pub(super) fn forget_marks(&mut self) -> Result<(), StoreError> {
        for name in self.store.record_names()? {
            let id = name.strip_suffix(LEAVING).and_then(|stem| stem.parse::<Id>().ok());
            if let Some(id) = id.filter(|id| !self.store.has_record(*id)) {
                remove_if_there(&self.store.leaving_path(id))?;
            }
        }
        Ok(())
    }
}

fn is_same_file(path: &Path, other: &Metadata) -> bool {
    fs::symlink_metadata(path).is_ok_and(|own| (own.dev(), own.ino()) == (other.dev(), other.ino()))
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(e)),
        _ => Ok(()),
    }
}
