//! Kernel settings below `/proc/sys/net`, of the calling thread's network namespace.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use crate::error::Error;

/// Where the settings are.
const ROOT: &str = "/proc/sys/net";

/// Where they are in a container whose own `/proc/sys` the runtime makes read-only: the host's is
/// mounted there, and shows the settings of whoever looks at it.
const HOST_ROOT: &str = "/host/proc/sys/net";

fn path(key: &str) -> PathBuf {
    static FOUND: OnceLock<&'static str> = OnceLock::new();
    let root = FOUND.get_or_init(|| if Path::new(HOST_ROOT).is_dir() { HOST_ROOT } else { ROOT });
    Path::new(root).join(key)
}

/// Reads a setting; `key` is its path below `/proc/sys/net`, such as `ipv4/ip_forward`.
/// Nothing comes back when the kernel has no such setting.
///
/// # Errors
/// [`Error::Io`] when the file is there and cannot be read.
pub fn read(key: &str) -> Result<Option<String>, Error> {
    match fs::read_to_string(path(key)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { operation: format!("read the kernel setting net/{key}"), source }),
    }
}

/// Sets a setting if it has another value; says whether it had.
///
/// # Errors
/// [`Error::Io`] when the kernel has no such setting or refuses the value.
pub fn set(key: &str, value: &str) -> Result<bool, Error> {
    if read(key)?.as_deref() == Some(value) {
        return Ok(false);
    }
    let operation = || format!("set the kernel setting net/{key} to {value}");
    fs::write(path(key), value).map_err(|source| Error::Io { operation: operation(), source })?;
    Ok(true)
}

/// The interfaces that have settings of a kind, such as `ipv6/conf`; not `all` and `default`.
///
/// # Errors
/// [`Error::Io`] when the directory cannot be read.
pub fn interfaces(kind: &str) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Io { operation: format!("list the kernel settings net/{kind}"), source };
    let entries = fs::read_dir(path(kind)).map_err(failed)?;
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    Ok(names.filter(|n| n != "all" && n != "default").collect())
}

/// Tells when somebody writes one of some settings. Netlink tells of a few only.
///
/// It does not tell of a write through another mount of `/proc`, as containers have.
pub struct Watch {
    inotify: Inotify,
    followed: BTreeMap<String, Followed>,
}

struct Followed {
    watch: WatchDescriptor,
    inode: u64,
    /// Open as long as it is followed: the kernel may forget a file of `/proc` that nobody uses,
    /// and make another one for who comes next.
    _file: File,
}

impl Watch {
    /// One that follows nothing yet.
    ///
    /// # Errors
    /// [`Error::Io`] when the kernel has no inotify, or none left for us.
    pub fn open() -> Result<Self, Error> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|e| watching("", e.into()))?;
        Ok(Watch { inotify, followed: BTreeMap::new() })
    }

    /// Follows these settings, as far as they are there, and no others. Says whether one of them is
    /// new: it may have been written before it was followed, so look at it once more.
    ///
    /// # Errors
    /// [`Error::Io`] when a setting cannot be opened or followed.
    pub fn follow(&mut self, keys: &[String]) -> Result<bool, Error> {
        let inotify = &self.inotify;
        self.followed.retain(|key, followed| {
            let keep = keys.contains(key);
            if !keep {
                // It may have gone with its file.
                let _gone = inotify.rm_watch(followed.watch);
            }
            keep
        });
        let mut new = false;
        for key in keys {
            new |= self.follow_one(key).map_err(|e| watching(key, e))?;
        }
        Ok(new)
    }

    fn follow_one(&mut self, key: &str) -> io::Result<bool> {
        let opened = File::open(path(key)).and_then(|file| Ok((file.metadata()?.ino(), file)));
        let (inode, file) = match opened {
            Ok(opened) => opened,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        if self.followed.get(key).is_some_and(|known| known.inode == inode) {
            return Ok(false);
        }
        let watch = match self.inotify.add_watch(&path(key), AddWatchFlags::IN_MODIFY) {
            Ok(watch) => watch,
            // Its device went in this moment.
            Err(Errno::ENOENT) => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        let old = self.followed.insert(key.to_owned(), Followed { watch, inode, _file: file });
        if let Some(old) = old.filter(|old| old.watch != watch) {
            let _gone = self.inotify.rm_watch(old.watch);
        }
        Ok(true)
    }

    /// Reads what waits; says whether a setting was written. Never blocks.
    ///
    /// # Errors
    /// [`Error::Io`] when it is of no use any more.
    pub fn drain(&mut self) -> Result<bool, Error> {
        let mut written = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => written |= !events.is_empty(),
                Err(Errno::EAGAIN) => return Ok(written),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(watching("", e.into())),
            }
        }
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_fd().as_raw_fd()
    }
}

fn watching(key: &str, source: io::Error) -> Error {
    Error::Io { operation: format!("watch the kernel settings net/{key}"), source }
}
