//! Whether the daemon lives: it holds a lock for as long as it does.
//!
//! A lock needs no clock and no cleaning up: the kernel releases it however the daemon ends. It
//! is a record lock of an open file (`F_OFD_SETLK`, fcntl(2)), because those can be asked for
//! without being taken.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::store::StoreError;

/// How often the daemon says that it lives, by the time of the file's last change.
pub const BEAT: Duration = Duration::from_secs(2);

/// For how long after its last sign of life a daemon is not missed: that of a restart.
pub const PATIENCE: Duration = Duration::from_secs(6);

/// The lock's file name in the runtime directory.
pub const FILE: &str = "daemon.lock";

/// The daemon's lock, held until this is dropped.
#[derive(Debug)]
pub struct Heartbeat {
    // Closing the file releases the lock.
    file: File,
    path: PathBuf,
}

impl Heartbeat {
    /// Takes the lock; nothing comes back while another daemon has it.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the runtime directory cannot be used.
    pub fn take(run: &Path) -> Result<Option<Self>, StoreError> {
        let path = path(run);
        fs::create_dir_all(run).map_err(StoreError::io("make the directory", run))?;
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(StoreError::io("open", &path))?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => Ok(Some(Heartbeat { file, path })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(StoreError::io("lock", &path)(errno.into())),
        }
    }
}

impl Heartbeat {
    /// Gives a sign of life.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file cannot be changed.
    pub fn beat(&self) -> Result<(), StoreError> {
        self.file.set_modified(SystemTime::now()).map_err(StoreError::io("touch", &self.path))
    }
}

/// Whether no daemon lives, and none did a moment ago: one that is restarted or upgraded is not
/// missed.
pub fn is_missed(run: &Path) -> bool {
    let last = || fs::metadata(path(run))?.modified();
    let recently = last().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < PATIENCE));
    !recently && !is_alive(run)
}

/// When a daemon last gave a sign of life, if one ever did.
pub fn last_sign(run: &Path) -> Option<SystemTime> {
    fs::metadata(path(run)).and_then(|metadata| metadata.modified()).ok()
}

/// Whether a daemon lives; also when that cannot be told, it is taken for dead.
pub fn is_alive(run: &Path) -> bool {
    let examine = || -> io::Result<bool> {
        let file = File::options().write(true).open(path(run))?;
        let mut lock = whole_file();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    };
    examine().unwrap_or(false)
}

fn path(run: &Path) -> PathBuf {
    run.join(FILE)
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lives_as_long_as_it_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        assert!(!is_alive(&run));
        assert!(last_sign(&run).is_none());
        let held = Heartbeat::take(&run).unwrap().unwrap();
        assert!(is_alive(&run));
        assert!(Heartbeat::take(&run).unwrap().is_none(), "there is one daemon");
        drop(held);
        assert!(!is_alive(&run), "the file is still there, the lock is not");
        assert!(!is_missed(&run), "not yet");
        assert!(last_sign(&run).is_some());
        let long_ago = SystemTime::now() - PATIENCE;
        File::options().write(true).open(path(&run)).unwrap().set_modified(long_ago).unwrap();
        assert!(is_missed(&run));
        let held = Heartbeat::take(&run).unwrap().unwrap();
        assert!(!is_missed(&run));
        held.beat().unwrap();
    }
}
