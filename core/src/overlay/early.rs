//! What may be added before the kernel's tables are read.

use super::object::Objects;
use super::{Change, Overlay};

impl Overlay {
    /// Takes in what leads to more peers.
    pub fn extend(&mut self, more: Overlay) {
        self.neighbours.extend(more.neighbours);
        self.fdb.extend(more.fdb);
        self.routes.extend(more.routes);
    }
}

/// What one state has and an earlier one has not, in the order in which it is to be made: nothing is
/// changed that is there, and nothing removed. Nothing at all where the device itself is another.
/// `objects` are the next hop objects that were there when the kernel was last looked at, at least
/// those of strangers.
pub fn additions(wanted: &Overlay, before: &Overlay, objects: &Objects) -> Vec<Change> {
    if wanted.device != before.device {
        return Vec::new();
    }
    let neighbours = wanted.neighbours.iter().filter(|(addr, _)| !before.neighbours.contains_key(addr));
    let fdb = wanted.fdb.iter().filter(|(mac, _)| !before.fdb.contains_key(mac));
    let routes: Vec<_> = wanted.routes.iter().filter(|(dst, _)| !before.routes.contains_key(dst)).collect();
    let underlay = wanted.underlay;
    let mut changes: Vec<Change> = neighbours.map(|(addr, mac)| Change::SetNeighbour(*addr, *mac)).collect();
    changes.extend(fdb.map(|(mac, node)| Change::SetFdb(*mac, *node)));
    changes.extend(routes.iter().filter_map(|(_, via)| objects.usable(via)).map(Change::AddObject));
    changes.extend(routes.iter().map(|(dst, via)| Change::AddRoute {
        dst: **dst,
        via: **via,
        underlay,
        object: objects.usable(via).is_some(),
        beside: false,
    }));
    changes
}
