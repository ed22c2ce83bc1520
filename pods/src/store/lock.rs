//! Locks, none of which is waited for without an end.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Store, StoreError};
use crate::boot;

/// How long a lock is waited for. The lock of the store is held for well under a millisecond,
/// so this is reached by thousands of calls at once, or never.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// The store, with nobody else taking or releasing leases.
#[derive(Debug)]
pub struct Locked<'a> {
    pub(super) store: &'a Store,
    // Closing the file releases the lock.
    _file: File,
}

impl Locked<'_> {
    /// The store that is locked.
    pub fn store(&self) -> &Store {
        self.store
    }
}

impl Store {
    /// Takes the lock of the store; makes the directories if need be, and drops what belongs to
    /// an earlier boot.
    ///
    /// # Errors
    /// [`StoreError::Locked`] after 20 seconds, [`StoreError::Io`] when the state directory
    /// cannot be used.
    pub fn lock(&self) -> Result<Locked<'_>, StoreError> {
        let path = self.root.join("lock");
        let open = || File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = self.make("open", &path, open)?;
        acquire(&file, &path)?;
        let mut locked = Locked { store: self, _file: file };
        locked.forget_earlier_boots(boot::current())?;
        Ok(locked)
    }
}

/// Takes the lock of a file.
///
/// The kernel has no `flock` with a time limit that needs no signal, hence the attempts.
pub(super) fn acquire(file: &File, path: &Path) -> Result<(), StoreError> {
    // Mostly it is free, and then the time is not asked for.
    let mut start = None;
    let mut pause = Duration::from_micros(50);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if start.get_or_insert_with(Instant::now).elapsed() < PATIENCE => {
                wait(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { path: path.to_owned(), waited: PATIENCE });
            }
            Err(TryLockError::Error(source)) => return Err(StoreError::io("lock", path)(source)),
        }
    }
}

/// Between two attempts to get a lock.
#[allow(clippy::disallowed_methods)]
fn wait(pause: Duration) {
    std::thread::sleep(pause);
}
