//! Taking an attachment apart, from whatever is left of it.
//!
//! The order is that of ADD in reverse, so that a call killed half way leaves what the next one
//! needs: first the kernel, then the leases, last the record. Before all of it, the record is
//! marked: the daemon makes no host ports by it any more, and goes on where nobody else does.

use std::path::Path;
use std::thread;

use minionet_core::cni::attachment::{Id, NetnsRef, Record};
use minionet_core::cni::{Code, Coded};
use minionet_core::constants::DOOMED_GROUP;
use minionet_netlink::netns::Netns;
use minionet_netlink::pod::{self, Fate};
use minionet_netlink::tc::{self, Destroy};
use minionet_netlink::{Error, Socket};
use nix::libc::{EIO, EMFILE, ENFILE};
use thiserror::Error;

use crate::capabilities::{self, CapabilityError};
use crate::heartbeat;
use crate::store::{Store, StoreError};

/// What keeps an attachment from being taken apart.
#[derive(Debug, Error)]
pub enum UndoError {
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// The kernel, about what the attachment has beyond its interface.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Coded for UndoError {
    fn code(&self) -> Code {
        match self {
            UndoError::Kernel(_) => Code::Kernel,
            UndoError::Capability(error) => error.code(),
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
    take_apart(host, store, record, detach_and_forget)
}

fn take_apart(
    host: &mut Socket,
    store: &Store,
    record: &Record,
    detach: fn(&mut Socket, &Record) -> Result<(), Error>,
) -> Result<(), UndoError> {
    mark(store, record);
    unroute(record)?;
    capabilities::withdraw(host, record, Destroy::Now)?;
    detach(host, record)?;
    capabilities::forget_ports(host, record);
    release(store, record)
}

/// Destroys the interface. Connections of the pod's addresses are left to the daemon that comes next:
/// going through the kernel's table for them would keep the kernel from what it waits for while it
/// destroys an interface.
fn detach(host: &mut Socket, record: &Record) -> Result<(), Error> {
    pod::detach(host, &record.link.host_ifname, &record.link.alias).map(drop)
}

/// Destroys the interface and forgets the connections of the pod, both at once: the kernel makes the
/// one wait for everybody who may still look at the interface, and goes through its whole table for
/// the other. What is remembered anew in between leads to nobody and ends by itself, as no port of
/// the node leads to the pod any more.
fn detach_and_forget(host: &mut Socket, record: &Record) -> Result<(), Error> {
    thread::scope(|scope| {
        let forget = || capabilities::forget_pod(record);
        let beside = thread::Builder::new().spawn_scoped(scope, forget);
        let detached = detach(host, record);
        if beside.is_err() {
            forget();
        }
        detached
    })
}

/// As [`attachment`], but leaves the destruction of the interface to the daemon, if it lives:
/// everybody concerned sees it gone at once, and nobody waits for the kernel. Without a daemon it is
/// destroyed here, and only what the next daemon finds is left to it.
///
/// # Errors
/// As [`attachment`].
pub fn attachment_soon(host: &mut Socket, store: &Store, record: &Record) -> Result<(), UndoError> {
    mark(store, record);
    if heartbeat::is_alive(store.root()) {
        capabilities::withdraw(host, record, Destroy::Later)?;
        // Whatever is in the way of this, the slow way is there for.
        if let Some(netns) = open(&record.netns)
            && pod::unroute(&netns, &record.link).is_ok()
            && let Ok(fate @ (Fate::Doomed | Fate::Absent)) = pod::doom(host, &netns, &record.link)
        {
            // The daemon hears of the withdrawn routes, and makes the kernel forget the connections
            // of many pods in one go. Only who sends to a port of the node must not have to wait.
            if fate == Fate::Absent || !record.ports.is_empty() {
                capabilities::forget(host, record);
            }
            return release(store, record);
        }
    } else {
        // What a daemon that has died since did not get to; nobody else will.
        host.delete_group(DOOMED_GROUP)?;
        return take_apart(host, store, record, detach);
    }
    attachment(host, store, record)
}

/// Removes what belongs to an attachment whose record is damaged: it is recognised by its id.
///
/// # Errors
/// As [`attachment`].
pub fn without_record(host: &mut Socket, store: &Store, id: Id) -> Result<(), UndoError> {
    link_only(host, id)?;
    let mut locked = store.lock()?;
    locked.release_all_of(id)?;
    Ok(locked.forget(id)?)
}

/// Removes the devices of an attachment that has no record, if there are any.
///
/// # Errors
/// [`UndoError::Kernel`].
pub fn link_only(host: &mut Socket, id: Id) -> Result<(), UndoError> {
    pod::detach(host, &id.host_ifname(), &id.alias_start())?;
    Ok(tc::unlimit(host, &id.ifb_name(), &id.alias_start(), Destroy::Now)?)
}

/// Removes what is there of an attachment that has no record: leases of an ADD that was killed
/// before it could write one, or devices whose record was lost.
///
/// # Errors
/// As [`attachment`].
pub fn unrecorded(host: &mut Socket, store: &Store, id: Id) -> Result<(), UndoError> {
    link_only(host, id)?;
    if !store.exists() {
        return Ok(());
    }
    let mut locked = store.lock()?;
    // Unless an ADD came in between, whose leases these are.
    if locked.find(id)?.is_none() {
        locked.release_all_of(id)?;
        // The mark of a record that a killed DEL removed.
        locked.forget(id)?;
    }
    Ok(())
}

/// Says that an attachment is being taken apart. Best effort: a file system that is full must not
/// keep a pod from being removed.
fn mark(store: &Store, record: &Record) {
    let _said = store.mark_leaving(record.key.id());
}

/// Removes the rules of the container, if it is still there. They name no device, so they do not go
/// with one; most attachments have none.
fn unroute(record: &Record) -> Result<(), UndoError> {
    if record.link.source_rules.is_empty() {
        return Ok(());
    }
    match Netns::open(Path::new(&record.netns.path)) {
        Ok(netns) if is_that_of(&netns, &record.netns) => Ok(pod::unroute(&netns, &record.link)?),
        Ok(_) => Ok(()),
        // It may be there: the next attempt will tell. Anything else means that it is not.
        Err(error) if error.is_temporary() || matches!(error.errno(), Some(EIO | EMFILE | ENFILE)) => {
            Err(error.into())
        }
        Err(_) => Ok(()),
    }
}

fn release(store: &Store, record: &Record) -> Result<(), UndoError> {
    let id = record.key.id();
    let mut locked = store.lock()?;
    locked.release(&record.link.addresses, &record.origin, id)?;
    Ok(locked.forget(id)?)
}

/// The namespace of a record, if it is still at its path.
pub(crate) fn open(netns: &NetnsRef) -> Option<Netns> {
    let found = Netns::open(Path::new(&netns.path)).ok()?;
    is_that_of(&found, netns).then_some(found)
}

fn is_that_of(found: &Netns, netns: &NetnsRef) -> bool {
    (found.device(), found.inode()) == (netns.device, netns.inode)
}
