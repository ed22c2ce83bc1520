//! The difference between what should be and what is, as an ordered list of changes.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::object::{self, Objects};
use super::{
    Change, Device, NextHop, Observed, ObservedDevice, ObservedNeighbour, ObservedRoute, Overlay,
    REFUSING_METRIC, default_metric,
};
use crate::addr::Cidr;

/// A device that is no VXLAN device has our name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "a device named {name} exists and is no VXLAN device: rename it or remove it, minionetd does not touch it"
)]
pub struct NameTaken {
    /// The name.
    pub name: String,
}

/// The changes that turn `observed` into `desired`, in the order in which they must be made.
///
/// 1. The device is made, replaced or changed in place; then its addresses.
/// 2. Neighbours and forwarding entries come before the routes that rely on them.
/// 3. So do the next hop objects that they refer to.
/// 4. In the place of a route that leads elsewhere the right one is put before it, and then the
///    other one goes: at no time nothing leads to the peer.
/// 5. Routes that should not be go before the objects they refer to and the entries they rely on, and
///    those go last. (The kernel looks at all routes when an object goes that some refer to.)
/// 6. Refusals rely on nothing, so they come before the routes that lead on.
///
/// # Errors
/// [`NameTaken`] when a stranger's device has our name: it is not ours to delete.
pub fn diff(desired: &Overlay, observed: &Observed) -> Result<Vec<Change>, NameTaken> {
    if observed.device.as_ref().is_some_and(|d| !d.is_vxlan) {
        return Err(NameTaken { name: desired.device.name.clone() });
    }
    let mut changes = Vec::new();
    let nothing = Observed { routes: observed.routes.clone(), ..Observed::default() };
    let kept = device(&desired.device, observed.device.as_ref(), &mut changes);
    // What lay on a device that is deleted is gone with it.
    let base = if kept.is_some() { observed } else { &nothing };
    // A change of the MAC makes the kernel flush all neighbours of the device.
    let flushed = changes.iter().any(|c| matches!(c, Change::UpdateDevice { mac: Some(_), .. }));

    // Routes and objects over a device that is deleted go with it.
    let gone = observed.device.as_ref().filter(|_| kept.is_none()).map(|d| d.index);
    let left = gone.map(|gone| observed.objects.without_device(gone));
    let objects = left.as_ref().unwrap_or(&observed.objects);
    let leading = observed.routes.iter().filter(|route| !route.refuses);
    let leading: Vec<_> = leading.map(|route| (route, is_right(route, desired, objects, kept))).collect();
    let right = leading.iter().filter(|(_, right)| *right).map(|(route, _)| *route);
    let needed = object::needed(desired, objects, right);
    let needs = |via: &NextHop| objects.usable(via).is_some_and(|gateway| needed.contains(&gateway));
    // What leads to the right place without an object is not needed beside one.
    let stays = |route: &ObservedRoute, right: bool| {
        right && (route.object.is_some() || !desired.routes.get(&route.dst).is_some_and(needs))
    };

    addresses(desired, base, &mut changes);
    set_entries(desired, base, flushed, &mut changes);
    object::set(&needed, objects, kept, &mut changes);
    refusals(desired, observed, &mut changes);
    let there = leading.iter().map(|(route, right)| (*route, stays(route, *right)));
    let there = there.filter(|(route, stays)| *stays || gone.is_none() || route.device != gone);
    routes(desired, there, needs, &mut changes);
    object::remove(&needed, objects, &mut changes);
    remove_entries(desired, base, &mut changes);
    Ok(changes)
}

/// What of these changes may be made while it is not known yet who the peers are: what an earlier
/// run programmed may still be right, so nothing goes that leads to a peer. A route that leads
/// elsewhere than the right one, which is put before it, is not needed by anybody.
pub fn keep_peers(changes: &mut Vec<Change>, desired: &Overlay) {
    changes.retain(|change| match change {
        Change::RemoveRoute(route) if desired.routes.contains_key(&route.dst) => true,
        _ => !change.removes_peer(),
    });
}

/// Plans what happens to the device; returns its number if it stays.
fn device(desired: &Device, observed: Option<&ObservedDevice>, changes: &mut Vec<Change>) -> Option<u32> {
    let Some(found) = observed else {
        changes.push(Change::CreateDevice(desired.clone()));
        return None;
    };
    if let Some(reason) = obstacle(desired, found) {
        changes.push(Change::DeleteDevice { index: found.index, reason });
        changes.push(Change::CreateDevice(desired.clone()));
        return None;
    }
    let local = (found.local != Some(desired.local)).then_some(desired.local);
    let mac = (found.mac != Some(desired.mac)).then_some(desired.mac);
    let mtu = (found.mtu != desired.mtu).then_some(desired.mtu);
    let up = !found.up;
    if local.is_some() || mac.is_some() || mtu.is_some() || up {
        changes.push(Change::UpdateDevice { index: found.index, local, mac, mtu, up });
    }
    Some(found.index)
}

/// Why a device cannot be changed into what it should be: VNI, port and features are fixed when
/// it is made (`vxlan_changelink` in drivers/net/vxlan/vxlan_core.c).
fn obstacle(desired: &Device, found: &ObservedDevice) -> Option<String> {
    if found.vni != desired.vni {
        return Some(format!("its VNI is {} instead of {}", found.vni, desired.vni));
    }
    if found.port != desired.port {
        return Some(format!("its port is {} instead of {}", found.port, desired.port));
    }
    if found.foreign_features {
        return Some("it learns, is bound to a device or takes tunnels from routes".to_owned());
    }
    // The socket of a device is made for one family.
    if found.local.is_some_and(|l| l.is_ipv4() != desired.local.is_ipv4()) {
        return Some("its underlay is of the other address family".to_owned());
    }
    None
}

fn addresses(desired: &Overlay, observed: &Observed, changes: &mut Vec<Change>) {
    let host_len = |addr: std::net::IpAddr| if addr.is_ipv4() { 32 } else { 128 };
    for (addr, len) in &observed.addresses {
        if !desired.addresses.contains(addr) || *len != host_len(*addr) {
            changes.push(Change::RemoveAddress(*addr, *len));
        }
    }
    for addr in &desired.addresses {
        if !observed.addresses.contains(&(*addr, host_len(*addr))) {
            changes.push(Change::AddAddress(*addr));
        }
    }
}

fn refusals(desired: &Overlay, observed: &Observed, changes: &mut Vec<Change>) {
    let found = || observed.routes.iter().filter(|route| route.refuses);
    let is_right =
        |route: &ObservedRoute| route.metric == REFUSING_METRIC && desired.refused.contains(&route.dst);
    let right: BTreeSet<Cidr> = found().filter(|route| is_right(route)).map(|route| route.dst).collect();
    changes.extend(desired.refused.difference(&right).copied().map(Change::AddRefusal));
    changes.extend(found().filter(|route| !is_right(route)).copied().map(Change::RemoveRoute));
}

/// Whether a route leads to a peer as it should.
fn is_right(route: &ObservedRoute, desired: &Overlay, objects: &Objects, kept: Option<u32>) -> bool {
    match desired.routes.get(&route.dst) {
        _ if route.metric != default_metric(route.dst.family()) => false,
        Some(via @ NextHop::Vtep(_)) => object::leads(route, via, objects, kept),
        Some(via @ NextHop::Direct(_)) => {
            let plain = route.object.is_none();
            plain && route.device == desired.underlay && route.gateway == Some(via.address())
        }
        None => false,
    }
}

/// Plans what happens to the routes that are there, of which it is known whether they stay; `needs`
/// says of a next hop whether routes to it are to refer to an object.
fn routes<'a>(
    desired: &Overlay,
    there: impl Iterator<Item = (&'a ObservedRoute, bool)>,
    needs: impl Fn(&NextHop) -> bool,
    changes: &mut Vec<Change>,
) {
    let mut right = BTreeSet::new();
    let mut wrong: BTreeMap<_, Vec<ObservedRoute>> = BTreeMap::new();
    for (route, stays) in there {
        if stays {
            right.insert(route.dst);
        } else {
            wrong.entry(route.dst).or_default().push(*route);
        }
    }
    let underlay = desired.underlay;
    for (dst, via) in &desired.routes {
        let impossible = matches!(via, NextHop::Direct(_)) && underlay.is_none();
        if right.contains(dst) || impossible {
            continue;
        }
        let old = wrong.remove(dst).unwrap_or_default();
        let (beside, object) = (!old.is_empty(), needs(via));
        changes.push(Change::AddRoute { dst: *dst, via: *via, underlay, object, beside });
        changes.extend(old.into_iter().map(Change::RemoveRoute));
    }
    changes.extend(wrong.into_values().flatten().map(Change::RemoveRoute));
}

fn set_entries(desired: &Overlay, observed: &Observed, flushed: bool, changes: &mut Vec<Change>) {
    for (addr, mac) in &desired.neighbours {
        let right = |n: &ObservedNeighbour| n.mac == Some(*mac) && n.permanent && n.ours;
        if flushed || !observed.neighbours.get(addr).is_some_and(right) {
            changes.push(Change::SetNeighbour(*addr, *mac));
        }
    }
    for (mac, dst) in &desired.fdb {
        if !observed.fdb.contains(&(*mac, *dst)) {
            changes.push(Change::SetFdb(*mac, *dst));
        }
    }
}

fn remove_entries(desired: &Overlay, observed: &Observed, changes: &mut Vec<Change>) {
    for (addr, found) in &observed.neighbours {
        // Someone else's entry for an address that is none of ours is left alone.
        if found.ours && !desired.neighbours.contains_key(addr) {
            changes.push(Change::RemoveNeighbour(*addr));
        }
    }
    for (mac, dst) in &observed.fdb {
        // A second destination for a MAC makes the kernel choose one of them.
        if mac.is_vtep() && desired.fdb.get(mac) != Some(dst) {
            changes.push(Change::RemoveFdb(*mac, *dst));
        }
    }
}
