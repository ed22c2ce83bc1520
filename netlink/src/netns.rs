//! Network namespaces: opened by path, verified, entered for a moment.
//!
//! A thread that entered a namespace and fails to come back would go on in the wrong one. So either
//! a thread enters that ends afterwards ([`Netns::run`]), or the process ends if the way back is
//! closed ([`Netns::visit`]), which only the plugin may afford. Whoever is inside opens a socket and
//! hands it over: a socket stays in the namespace in which it was made.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;

use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::fstatfs;

use crate::error::Error;
use crate::socket::Socket;

/// `NSFS_MAGIC` of linux/magic.h: the file system that namespaces are files of.
const NSFS_MAGIC: i64 = 0x6e73_6673;

// NS_GET_NSTYPE of linux/nsfs.h: _IO(0xb7, 0x3).
nix::ioctl_none_bad!(
    /// Asks of which type the namespace behind a descriptor is.
    ns_get_nstype,
    0xb703
);

// SIOCGSKNS of linux/sockios.h.
nix::ioctl_none_bad!(
    /// Opens the network namespace of a socket.
    get_namespace_of_socket,
    0x894c
);

/// A network namespace, kept alive by an open descriptor.
#[derive(Debug)]
pub struct Netns {
    file: File,
    device: u64,
    inode: u64,
}

impl Netns {
    /// Opens the namespace that a path leads to.
    ///
    /// # Errors
    /// [`Error::Io`]: `NotFound` when nothing is there, `InvalidInput` when it is something
    /// other than a network namespace. Never blocks, also on a fifo.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Io {
            operation: format!("open the network namespace {}", path.display()),
            source,
        };
        let not_one = |what: &str| failed(io::Error::new(io::ErrorKind::InvalidInput, what.to_owned()));
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
        let filesystem = fstatfs(&file).map_err(|e| failed(e.into()))?;
        if filesystem.filesystem_type().0 as i64 != NSFS_MAGIC {
            return Err(not_one("this is not a namespace"));
        }
        // SAFETY: the request takes no argument and the descriptor is open.
        #[allow(unsafe_code)]
        let kind = unsafe { ns_get_nstype(file.as_raw_fd()) }.map_err(|e| failed(e.into()))?;
        if kind != CloneFlags::CLONE_NEWNET.bits() {
            return Err(not_one("this is a namespace, but not of networks"));
        }
        let metadata = file.metadata().map_err(failed)?;
        Ok(Netns { file, device: metadata.dev(), inode: metadata.ino() })
    }

    /// The calling thread's own namespace.
    ///
    /// # Errors
    /// [`Error::Io`] when `/proc` is not there.
    pub fn current() -> Result<Self, Error> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The namespace of a socket: as good as [`Netns::current`] for the thread that opened it, and with
    /// less to look up in `/proc`, which for a new process costs more than a hundredth of an ADD.
    ///
    /// # Errors
    /// As [`Netns::current`], which answers where the kernel does not tell (it does so to whoever may
    /// change the namespace, as everybody must who attaches a pod).
    pub fn of(socket: &Socket) -> Result<Self, Error> {
        // SAFETY: the request takes no argument and the descriptor is open.
        #[allow(unsafe_code)]
        let opened = unsafe { get_namespace_of_socket(socket.as_fd().as_raw_fd()) };
        let Ok(descriptor) = opened else { return Self::current() };
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
        #[allow(unsafe_code)]
        let file = unsafe { File::from_raw_fd(descriptor) };
        let metadata = file.metadata().map_err(|source| Error::Io {
            operation: "look at the namespace of a socket".to_owned(),
            source,
        })?;
        Ok(Netns { file, device: metadata.dev(), inode: metadata.ino() })
    }

    /// The number that tells this namespace from every other that exists at the same time.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The device of the file system that namespaces are files of; with the inode, it names
    /// the namespace.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Whether both are the same namespace.
    pub fn is_same(&self, other: &Netns) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Runs something inside, on a thread that ends afterwards.
    ///
    /// # Errors
    /// [`Error::Io`] when the namespace cannot be entered, or the thread cannot be started or
    /// panics.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let failed = |source| Error::Io { operation: "enter a network namespace".to_owned(), source };
        thread::scope(|scope| {
            let body = || setns(&self.file, CloneFlags::CLONE_NEWNET).map(|()| inside());
            let handle = thread::Builder::new().spawn_scoped(scope, body).map_err(failed)?;
            match handle.join() {
                Ok(result) => result.map_err(|e| failed(e.into())),
                Err(_) => Err(failed(io::Error::other("the thread inside panicked"))),
            }
        })
    }

    /// Runs something inside on the calling thread, which comes back to where `home` was opened: where
    /// it comes from.
    ///
    /// For the plugin: it has one thread and one pod, and starting a second one costs a tenth of an
    /// ADD. If there is no way back, the process is aborted, as if it had been killed there: nothing
    /// is ever done in the wrong namespace.
    ///
    /// # Errors
    /// [`Error::Io`] when the namespace cannot be entered.
    pub fn visit<T>(&self, home: &Socket, inside: impl FnOnce() -> T) -> Result<T, Error> {
        let home = Home(Self::of(home)?);
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Io {
            operation: "enter a network namespace".to_owned(),
            source: errno.into(),
        })?;
        let result = inside();
        drop(home);
        Ok(result)
    }

    /// Opens a netlink socket inside.
    ///
    /// # Errors
    /// As [`Netns::run`] and [`Socket::open`].
    pub fn socket(&self) -> Result<Socket, Error> {
        self.run(Socket::open)?
    }
}

/// Where a thread returns to when this is dropped, also by a panic.
struct Home(Netns);

impl Drop for Home {
    fn drop(&mut self) {
        if setns(&self.0.file, CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Netns {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
