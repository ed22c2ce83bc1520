//! Whether the daemon lives: it holds a lock for as long as it does.
//!
//! A lock needs no clock and no cleaning up: the kernel releases it however the daemon ends. It
//! is a record lock of an open file (`F_OFD_SETLK`, fcntl(2)), because those can be asked for
//! without being taken.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::store::StoreError;

/// The lock's file name in the runtime directory.
pub const FILE: &str = "daemon.lock";

/// The daemon's lock, held until this is dropped.
#[derive(Debug)]
pub struct Heartbeat {
    // Closing the file releases the lock.
    _file: File,
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
            Ok(_) => Ok(Some(Heartbeat { _file: file })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(errno) => Err(StoreError::io("lock", &path)(errno.into())),
        }
    }
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
        let held = Heartbeat::take(&run).unwrap().unwrap();
        assert!(is_alive(&run));
        assert!(Heartbeat::take(&run).unwrap().is_none(), "there is one daemon");
        drop(held);
        assert!(!is_alive(&run), "the file is still there, the lock is not");
        assert!(Heartbeat::take(&run).unwrap().is_some());
    }
}
