//! DEL: takes an attachment apart, as its record says.
//!
//! Neither the configuration, nor the namespace, nor the daemon is needed, and what is gone
//! already is no error.

use minionet_core::cni::Failure;
use minionet_core::cni::args::Invocation;
use minionet_core::cni::attachment::{Key, RecordError};
use minionet_core::cni::conf::NetConf;
use minionet_netlink::Socket;
use minionet_pods::store::Store;
use minionet_pods::undo::{self, UndoError};

use crate::facts::Directories;

/// Carries out DEL.
pub fn del(invocation: &Invocation, conf: &NetConf, dirs: &Directories) -> Result<(), Failure> {
    let key = Key {
        network: conf.name.clone(),
        container: invocation.container.clone(),
        ifname: invocation.ifname.clone(),
    };
    let store = Store::new(&dirs.run);
    let mut host = Socket::open().map_err(UndoError::Kernel)?;
    let mut found = loop {
        let Some(found) = store.find(key.id())? else {
            return Ok(undo::unrecorded(&mut host, &store, key.id())?);
        };
        if found.claim()? {
            break found;
        }
        // Another DEL was faster, or the ADD that was waited for has replaced its record.
    };
    match found.read()? {
        Ok(record) => {
            record.belongs_to(&key)?;
            Ok(undo::attachment_soon(&mut host, &store, &record)?)
        }
        Err(RecordError::Malformed { .. }) => Ok(undo::without_record(&mut host, &store, key.id())?),
        // A later version knows what it made; it is not for us to guess.
        Err(error) => Err(error.into()),
    }
}
