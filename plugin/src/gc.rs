//! GC: removes what the runtime no longer wants.

use minionet_core::cni::conf::NetConf;
use minionet_core::cni::{Coded, Failure, Version};
use minionet_netlink::Socket;
use minionet_pods::collector::{Collector, Scope};
use minionet_pods::store::Store;
use minionet_pods::undo::UndoError;
use std::time::{Duration, Instant};

use crate::facts::Directories;

/// Carries out GC.
///
/// With a list, every attachment of this network that is not on it goes, unless its ADD is at
/// work. Without one, only what is certainly dead: killed ADDs, and attachments whose interface
/// and namespace are gone.
pub fn gc(conf: &NetConf, dirs: &Directories) -> Result<(), Failure> {
    crate::require_version(conf, Version::V1_1_0, "GC")?;
    let scope = Scope { network: Some(conf.name.clone()), wanted: conf.valid_attachments()? };
    let mut host = Socket::open().map_err(UndoError::Kernel)?;
    // Whether something is gone for good cannot be found out by looking once.
    let mut collector = Collector::new(Store::new(&dirs.run), Duration::MAX);
    let outcome = collector.pass(&mut host, &scope, Instant::now());
    let mut errors = outcome.failed.iter();
    let Some(first) = errors.next() else { return Ok(()) };
    let others: Vec<String> = errors.map(ToString::to_string).collect();
    Err(Failure {
        code: first.code(),
        message: format!("{} of what is no longer wanted stays: {first}", outcome.failed.len()),
        details: (!others.is_empty()).then(|| others.join("; ")),
    })
}
