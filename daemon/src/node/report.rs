//! What is done, in words.

use minionet_core::membership::Event;
use minionet_core::overlay::Change;
use tracing::{info, warn};

/// Says what became known about peers.
pub fn log(events: &[Event]) {
    for event in events {
        if event.is_problem() {
            warn!("{event}");
        } else {
            info!("{event}");
        }
    }
}

/// Says what is about to be changed: one by one when it is little, in sum when it is much.
pub fn report(changes: &[Change]) {
    const LITTLE: usize = 20;
    if changes.len() <= LITTLE {
        for change in changes {
            info!("kernel: {change}");
        }
        return;
    }
    let count = |object: &str| changes.iter().filter(|c| c.object() == object).count();
    let objects = ["device", "address", "neighbour", "fdb", "nexthop", "route"];
    let sums: Vec<String> = objects.iter().map(|o| format!("{o} {}", count(o))).collect();
    info!("kernel: {} changes ({})", changes.len(), sums.join(", "));
}
