//! What can go wrong between us and the kernel.

use std::fmt;
use std::io;

use thiserror::Error;

/// An operation on the kernel that failed.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel refused a request.
    #[error("cannot {operation}: {refusal}")]
    Refused {
        /// What was tried, with the object's name.
        operation: String,
        /// The kernel's answer.
        refusal: Refusal,
    },
    /// The socket itself failed.
    #[error("cannot {operation}: netlink socket: {source}")]
    Socket {
        /// What was tried.
        operation: String,
        /// What the system said.
        source: io::Error,
    },
    /// An answer could not be understood.
    #[error("cannot {operation}: the kernel's answer is not understood: {problem}")]
    Decode {
        /// What was tried.
        operation: String,
        /// What was wrong with the answer.
        problem: String,
    },
    /// A dump was overtaken by changes each time it was tried (`NLM_F_DUMP_INTR`).
    #[error("cannot {operation}: the tables changed during each of {tries} attempts to read them")]
    Interrupted {
        /// What was tried.
        operation: String,
        /// How often.
        tries: u32,
    },
    /// A file or namespace outside of netlink.
    #[error("cannot {operation}: {source}")]
    Io {
        /// What was tried, with the path.
        operation: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// The kernel's error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Refused { refusal, .. } => Some(refusal.errno),
            Error::Socket { source, .. } | Error::Io { source, .. } => source.raw_os_error(),
            Error::Decode { .. } | Error::Interrupted { .. } => None,
        }
    }

    /// Whether the kernel said that the object is there already (`EEXIST`).
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(nix::libc::EEXIST)
    }

    /// Whether the kernel said that there is no such object, route or device
    /// (`ENOENT`, `ESRCH`, `ENODEV`, `EADDRNOTAVAIL`).
    pub fn is_absent(&self) -> bool {
        use nix::libc::{EADDRNOTAVAIL, ENODEV, ENOENT, ESRCH};
        matches!(self.errno(), Some(ENOENT | ESRCH | ENODEV | EADDRNOTAVAIL))
    }

    /// Whether the kernel does not know such objects, or does not let us have any (`EOPNOTSUPP`,
    /// `EPERM`, `EACCES`, `EINVAL`).
    pub fn is_unsupported(&self) -> bool {
        use nix::libc::{EACCES, EINVAL, EOPNOTSUPP, EPERM};
        matches!(self.errno(), Some(EOPNOTSUPP | EPERM | EACCES | EINVAL))
    }

    /// Whether the same request may succeed later without anybody changing anything
    /// (`EAGAIN`, `EBUSY`, `EINTR`, `ENOBUFS`, `ENOMEM`, an interrupted dump).
    pub fn is_temporary(&self) -> bool {
        use nix::libc::{EAGAIN, EBUSY, EINTR, ENOBUFS, ENOMEM};
        matches!(self, Error::Interrupted { .. })
            || matches!(self.errno(), Some(EAGAIN | EBUSY | EINTR | ENOBUFS | ENOMEM))
    }
}

/// The kernel's refusal of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error number, positive.
    pub errno: i32,
    /// The kernel's explanation (`NLMSGERR_ATTR_MSG`), where it gave one.
    pub explanation: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        match &self.explanation {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}
