//! What can go wrong with the state.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minionet_core::cni::{Code, Coded};
use thiserror::Error;

/// An operation on the state that failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A file or directory.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A lock was held for too long by others.
    #[error("{} was locked for {} seconds by another call of the plugin: try again", .path.display(), .waited.as_secs())]
    Locked {
        /// The file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// No address is left.
    #[error(
        "no IP address is left in {blocks} ({size} of {size} in use): remove pods, or give nodes larger blocks (node_prefix)"
    )]
    Exhausted {
        /// The node's blocks.
        blocks: String,
        /// How many addresses pods can have.
        size: usize,
    },
    /// A requested address has an owner.
    #[error("requested address {address} is in use by {holder}")]
    InUse {
        /// The address.
        address: IpAddr,
        /// Whose it is.
        holder: String,
    },
}

impl StoreError {
    /// Wraps an error of the system, to be used with `map_err`.
    pub fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io { operation, path, source }
    }
}

impl Coded for StoreError {
    fn code(&self) -> Code {
        match self {
            StoreError::Io { .. } => Code::Io,
            StoreError::Locked { .. } | StoreError::Exhausted { .. } => Code::TryAgainLater,
            StoreError::InUse { .. } => Code::AddressInUse,
        }
    }

    fn details(&self) -> Option<String> {
        // The cause is part of each message.
        None
    }
}
