//! STATUS: whether an ADD would work, and whether pods are connected as they should be.
//!
//! Runtimes ask every few seconds and hold a lock while they wait; so nothing is asked of the
//! daemon, and nothing is waited for.

use minionet_core::cni::conf::NetConf;
use minionet_core::cni::ipam::Space;
use minionet_core::cni::{Code, Failure, Version};
use minionet_netlink::Socket;
use minionet_pods::store::{Store, StoreError};
use minionet_pods::{boot, heartbeat};

use crate::facts::{self, Directories};
use crate::{add, node};

/// Carries out STATUS.
pub fn status(conf: &NetConf, dirs: &Directories) -> Result<(), Failure> {
    crate::require_version(conf, Version::V1_1_0, "STATUS")?;
    let settings = conf.settings()?;
    let unavailable = |failure: Failure| Failure { code: Code::Unavailable, ..failure };
    let facts = facts::load(dirs).map_err(|error| unavailable(error.into()))?;
    add::mtu(settings.mtu, &facts).map_err(|error| unavailable(error.into()))?;
    let store = Store::new(&dirs.run);
    let space = Space::new(&facts.blocks);
    room(&store, &space).map_err(|error| unavailable(error.into()))?;
    let kernel = |error: minionet_netlink::Error| Failure {
        code: Code::Unavailable,
        message: error.to_string(),
        details: None,
    };
    let mut host = Socket::open().map_err(kernel)?;
    let health = node::health(dirs);
    let mut found = node::missing(&mut host, &facts, health.as_ref()).map_err(kernel)?;
    if heartbeat::is_missed(&dirs.run) {
        found.push(
            "minionetd does not run, so changes among peers are not followed: systemctl start minionetd"
                .into(),
        );
    } else if let Some(health) = health {
        found.extend(health.troubles_at(boot::uptime()));
    }
    let mut found = found.into_iter();
    match found.next() {
        None => Ok(()),
        Some(first) => {
            let others: Vec<String> = found.collect();
            Err(Failure {
                code: Code::LimitedConnectivity,
                message: format!("pods may have limited connectivity: {first}"),
                details: (!others.is_empty()).then(|| others.join("; ")),
            })
        }
    }
}

/// Makes sure that another pod could be recorded, and would find an address.
fn room(store: &Store, space: &Space) -> Result<(), StoreError> {
    store.probe()?;
    if store.is_exhausted(space)? {
        return Err(StoreError::Exhausted { blocks: space.describe(), size: space.pool().len() });
    }
    Ok(())
}
