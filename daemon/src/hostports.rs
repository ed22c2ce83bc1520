//! The maps of host ports: made to follow the records of this node's pods.
//!
//! The plugin writes a record before it adds elements, and removes it after it deleted them. So
//! the maps are read first: what is in them and in no record read afterwards belongs to nobody.

use std::path::Path;

use anyhow::{Context, Result};
use minionet_core::constants::RUN_DIR;
use minionet_core::nft::{MapContents, TABLE, host_port_maps, map_changes};
use minionet_netlink::nft::Nft;
use minionet_pods::Store;
use minionet_pods::capabilities::recorded_elements;
use tracing::info;

/// How often it is tried again because a pod came or went meanwhile. Beyond that, the notification
/// of the change that was in the way leads here again.
const ATTEMPTS: usize = 8;

/// Adds what records tell of and the maps lack, and deletes what no record tells of.
///
/// # Errors
/// When the kernel or the records cannot be read, or the kernel refuses.
pub fn reconcile(nft: &mut Nft) -> Result<()> {
    let store = Store::new(Path::new(RUN_DIR));
    let specs = host_port_maps();
    for _ in 0..ATTEMPTS {
        let found = nft.read_maps(TABLE, &specs)?;
        let wanted = recorded_elements(&store).context("the host ports are not compared")?;
        let (unexpected, missing) = map_changes(&wanted, &found.maps);
        if unexpected.is_empty() && missing.is_empty() {
            return Ok(());
        }
        match nft.change_maps(TABLE, &unexpected, &missing, Some(found.generation)) {
            Err(error) if error.is_race() => {}
            Err(error) => return Err(error.into()),
            Ok(()) => {
                info!("host ports: {} elements added, {} removed", count(&missing), count(&unexpected));
                return Ok(());
            }
        }
    }
    Ok(())
}

fn count(maps: &[MapContents]) -> usize {
    maps.iter().map(|map| map.elements.len()).sum()
}
