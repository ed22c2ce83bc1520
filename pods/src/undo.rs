//! Taking an attachment apart, from whatever is left of it.
//!
//! The order is that of ADD in reverse, so that a call killed half way leaves what the next one
//! needs: first the kernel, then the leases, last the record.

use minionet_core::cni::attachment::{Id, Key, Record};
use minionet_core::cni::{Code, Coded};
use minionet_netlink::{Socket, pod};
use thiserror::Error;

use crate::store::{Store, StoreError};

/// What keeps an attachment from being taken apart.
#[derive(Debug, Error)]
pub enum UndoError {
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] minionet_netlink::Error),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Coded for UndoError {
    fn code(&self) -> Code {
        match self {
            UndoError::Kernel(_) => Code::Kernel,
            UndoError::Store(error) => error.code(),
        }
    }

    fn details(&self) -> Option<String> {
        None
    }
}

/// Removes everything that a record tells of, and the record.
///
/// # Errors
/// [`UndoError`]; the record is still there then, so that it can be tried again.
pub fn attachment(host: &mut Socket, store: &Store, record: &Record) -> Result<(), UndoError> {
    pod::detach(host, &record.link.host_ifname, &record.link.alias)?;
    let id = record.key.id();
    let mut locked = store.lock()?;
    locked.release(&record.link.addresses, &record.origin, id)?;
    Ok(locked.forget(id)?)
}

/// Removes what belongs to an attachment whose record is damaged: it is recognised by its id.
///
/// # Errors
/// As [`attachment`].
pub fn without_record(host: &mut Socket, store: &Store, key: &Key) -> Result<(), UndoError> {
    let id = key.id();
    link_only(host, key, id)?;
    let mut locked = store.lock()?;
    locked.release_all_of(id)?;
    Ok(locked.forget(id)?)
}

/// Removes the veth pair of an attachment that has no record, if there is one.
///
/// # Errors
/// [`UndoError::Kernel`].
pub fn link_only(host: &mut Socket, key: &Key, id: Id) -> Result<(), UndoError> {
    pod::detach(host, &id.host_ifname(), &id.alias(key))?;
    Ok(())
}
