//! Next hop objects: where routes lead, said once, by a number that routes refer to.
//!
//! The kernel compares each new route with all before that have device, metric and protocol in
//! common, but not where these refer to objects (`fib_info_hashfn` and `fib_find_info` in
//! net/ipv4/fib_semantics.c): so with objects the routes to thousands of peers do not become dearer
//! with each. IPv6 compares nothing, and a route to a peer's own address is one of few: their routes
//! stay without.
//!
//! They are for clusters that are large enough to gain by it ([`pay`]): a few plain routes are what
//! people expect to see, and can flush.
//!
//! A route without an object that leads to the right place is as right as one with it, and stays: one
//! that an earlier version made, or one that was made where the number was taken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::{Change, NextHop, ObservedRoute, Overlay};
use crate::addr::Cidr;

/// From how many IPv4 routes into the overlay on the next ones refer to objects. With 1000 peers
/// neither way is measurably faster, with 5000 plain routes take seven times as long.
const MANY: usize = 256;

/// Whether all of these together have so many routes that objects are worth their while. Routes that
/// are there already stay as they are, whichever way they were made.
pub fn pay<'a>(desired: impl IntoIterator<Item = &'a Overlay>) -> bool {
    let all = desired.into_iter().flat_map(|overlay| overlay.routes.values());
    // Whether there are thousands more is of no interest, and counting them takes its time.
    all.filter(|via| matches!(via, NextHop::Vtep(IpAddr::V4(_)))).nth(MANY - 1).is_some()
}

/// A next hop object as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObservedObject {
    /// Whether it carries our protocol number, and is one that can be changed in place into any of ours.
    pub ours: bool,
    /// The next hop; none where it is something else than one.
    pub gateway: Option<IpAddr>,
    /// The device that it is reached by.
    pub device: Option<u32>,
}

/// The next hop objects of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Those that are there, by their numbers: ours, and a stranger's where its number could be one of
    /// ours.
    pub found: BTreeMap<u32, ObservedObject>,
    /// Whether more are to be made: where they [`pay`], and the kernel has them (since version 5.3).
    pub possible: bool,
}

impl Objects {
    /// The same, but no more of them where they do not [`pay`].
    pub fn if_they(self, pay: bool) -> Objects {
        Objects { possible: self.possible && pay, ..self }
    }

    /// The same without ours: which numbers are taken.
    pub fn taken(&self) -> Objects {
        let strangers = self.found.iter().filter(|(_, object)| !object.ours);
        Objects { found: strangers.map(|(number, object)| (*number, *object)).collect(), ..*self }
    }

    /// The next hop, if routes to it are to refer to an object: not where a stranger has its number.
    pub fn usable(&self, via: &NextHop) -> Option<Ipv4Addr> {
        let NextHop::Vtep(IpAddr::V4(gateway)) = via else { return None };
        let usable = self.found.get(&number(*gateway)).map_or(self.possible, |object| object.ours);
        usable.then_some(*gateway)
    }

    /// Those that are left when a device is gone.
    pub(super) fn without_device(&self, gone: u32) -> Objects {
        let found = self.found.iter().filter(|(_, object)| object.device != Some(gone));
        Objects { found: found.map(|(number, object)| (*number, *object)).collect(), ..*self }
    }
}

/// The number of the object for a next hop: its address, so that no two have the same.
///
/// Who makes objects by hand or lets the kernel choose counts from one, as routing daemons do, and
/// would have to come to 2^24 to meet one of ours.
pub fn number(gateway: Ipv4Addr) -> u32 {
    gateway.into()
}

/// Whether the number of an object is one that ours could have: no address begins with a zero
/// (RFC 1122 section 3.2.1.3).
pub fn could_be_ours(number: u32) -> bool {
    number >> 24 != 0
}

/// Whether a route leads into the overlay to this next hop, with an object or without: `device` is the
/// number of the VTEP.
pub(super) fn leads(route: &ObservedRoute, via: &NextHop, objects: &Objects, device: Option<u32>) -> bool {
    match route.object {
        // The object is put right before, if it is not.
        Some(found) => objects.usable(via).map(number) == Some(found) && objects.found.contains_key(&found),
        None => device.is_some() && route.device == device && route.gateway == Some(via.address()),
    }
}

/// The next hops that need an object: all but those to which a right route leads without one, and
/// none with one. `right` are the routes that are right.
pub(super) fn needed<'a>(
    desired: &Overlay,
    objects: &Objects,
    right: impl Iterator<Item = &'a ObservedRoute> + Clone,
) -> BTreeSet<Ipv4Addr> {
    let without = right.clone().filter(|route| route.object.is_none());
    let mut plain: BTreeSet<Cidr> = without.map(|route| route.dst).collect();
    for route in right.filter(|route| route.object.is_some()) {
        plain.remove(&route.dst);
    }
    let routes = desired.routes.iter().filter(|(dst, _)| !plain.contains(dst));
    routes.filter_map(|(_, via)| objects.usable(via)).collect()
}

/// Makes the objects that routes need.
pub(super) fn set(
    needed: &BTreeSet<Ipv4Addr>,
    found: &Objects,
    kept: Option<u32>,
    changes: &mut Vec<Change>,
) {
    for gateway in needed {
        match found.found.get(&number(*gateway)) {
            None => changes.push(Change::AddObject(*gateway)),
            Some(object) if object.device == kept && object.gateway == Some((*gateway).into()) => {}
            Some(_) => changes.push(Change::CorrectObject(*gateway)),
        }
    }
}

/// Removes ours that no route needs.
pub(super) fn remove(needed: &BTreeSet<Ipv4Addr>, found: &Objects, changes: &mut Vec<Change>) {
    let needless = |number: &u32| !needed.contains(&Ipv4Addr::from(*number));
    let ours = found.found.iter().filter(|(_, object)| object.ours).map(|(number, _)| *number);
    changes.extend(ours.filter(needless).map(Change::RemoveObject));
}
