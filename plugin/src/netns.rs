//! The container's namespace, as the environment names it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use minionet_core::cni::{Code, Coded};
use minionet_netlink::netns::Netns;
use minionet_netlink::{Error, Socket};
use thiserror::Error;

/// Why `CNI_NETNS` cannot be used.
#[derive(Debug, Error)]
pub enum NetnsError {
    /// The container's namespace does not exist.
    #[error("CNI_NETNS: {} does not exist: the container is gone", .path.display())]
    Absent {
        /// The value of `CNI_NETNS`.
        path: PathBuf,
    },
    /// `CNI_NETNS` is something else.
    #[error("CNI_NETNS: {source}")]
    Other {
        /// What was found.
        source: Error,
    },
    /// `CNI_NETNS` is where the plugin itself runs.
    #[error("CNI_NETNS: the plugin's netns and {} should not be the same", .path.display())]
    Own {
        /// The value of `CNI_NETNS`.
        path: PathBuf,
    },
    /// The kernel cannot be asked.
    #[error(transparent)]
    Kernel(Error),
}

impl Coded for NetnsError {
    fn code(&self) -> Code {
        match self {
            NetnsError::Absent { .. } => Code::UnknownContainer,
            NetnsError::Other { .. } => Code::InvalidEnvironment,
            NetnsError::Own { .. } => Code::InvalidNetns,
            NetnsError::Kernel(_) => Code::Kernel,
        }
    }

    fn details(&self) -> Option<String> {
        // The cause is part of each message.
        None
    }
}

/// Opens the namespace that `CNI_NETNS` names; the socket was opened in the plugin's own.
///
/// # Errors
/// [`NetnsError`] when it is gone, something else, or the plugin's own.
pub fn open(path: &str, host: &Socket) -> Result<Netns, NetnsError> {
    let path = Path::new(path);
    let netns = Netns::open(path).map_err(|error| match &error {
        // A link that leads nowhere is something else than a container that is gone.
        Error::Io { source, .. }
            if source.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() =>
        {
            NetnsError::Absent { path: path.to_owned() }
        }
        _ => NetnsError::Other { source: error },
    })?;
    if !may_be_shared() && netns.is_same(&Netns::of(host).map_err(NetnsError::Kernel)?) {
        return Err(NetnsError::Own { path: path.to_owned() });
    }
    Ok(netns)
}

/// The variable that lets a test say that the plugin shares a namespace with the container
/// (as in the reference implementation).
fn may_be_shared() -> bool {
    let value: Option<OsString> = std::env::var_os("CNI_NETNS_OVERRIDE");
    value.is_some_and(|v| v == "1" || v.eq_ignore_ascii_case("true"))
}
