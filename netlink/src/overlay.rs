//! The whole overlay: read as one state, changed by a list of changes.
//!
//! Reading and changing are in own types (`minionet_core::overlay`); what to change is decided
//! there, not here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use minionet_core::addr::Family;
use minionet_core::constants::ROUTE_PROTOCOL_PEER;
use minionet_core::overlay::object::{Objects, ObservedObject};
use minionet_core::overlay::{
    Change, Device, NextHop, Observed, ObservedDevice, ObservedNeighbour, ObservedRoute, REFUSING_METRIC,
    object,
};

use crate::error::Error;
use crate::link::{Link, LinkChange, Which};
use crate::nexthop::NextHopObject;
use crate::route::Route;
use crate::socket::{Request, Socket};
use crate::{address, neighbour, nexthop, route};

/// A change that the kernel refused, and why.
#[derive(Debug)]
pub struct Failure {
    /// What was to be changed.
    pub change: Change,
    /// Why it was not.
    pub error: Error,
}

/// Reads all that the kernel holds of the overlay whose device has this name.
///
/// # Errors
/// [`Error`] when one of the tables cannot be read.
pub fn read(socket: &mut Socket, name: &str) -> Result<Observed, Error> {
    let mut observed = Observed { objects: objects(socket)?, ..Observed::default() };
    let objects = &observed.objects.found;
    for family in [Family::V4, Family::V6] {
        let routes = socket.routes(family, ROUTE_PROTOCOL_PEER)?;
        observed.routes.extend(routes.iter().map(|r| {
            // What the kernel leaves out (net.ipv4.nexthop_compat_mode) is said by the object.
            let left_out = r.object.filter(|_| r.device.is_none()).and_then(|number| objects.get(&number));
            ObservedRoute {
                dst: r.dst,
                metric: r.metric,
                refuses: r.unreachable,
                gateway: left_out.map_or(r.gateway, |object| object.gateway),
                device: left_out.map_or(r.device, |object| object.device),
                object: r.object,
            }
        }));
    }
    let Some(link) = socket.link(Which::Name(name))? else {
        return Ok(observed);
    };
    let index = link.index;
    observed.device = Some(observed_device(link));
    observed.addresses = addresses(socket, index)?;
    for family in [Family::V4, Family::V6] {
        observed.neighbours.extend(neighbours(socket, index, family)?);
    }
    observed.fdb = socket.fdb(index)?.into_iter().filter_map(|e| Some((e.mac, e.dst?))).collect();
    Ok(observed)
}

/// The next hop objects that matter; where the kernel has none, none are possible.
fn objects(socket: &mut Socket) -> Result<Objects, Error> {
    let Some(all) = socket.next_hop_objects()? else { return Ok(Objects::default()) };
    let ours = |o: &NextHopObject| o.protocol == ROUTE_PROTOCOL_PEER;
    let matters = all.iter().filter(|o| ours(o) || object::could_be_ours(o.number));
    let found = matters.map(|o| {
        let gateway = o.gateway.filter(|_| !o.special);
        // A group cannot be changed into a single one, so it is taken for a stranger's.
        (o.number, ObservedObject { ours: ours(o) && !o.group, gateway, device: o.device })
    });
    Ok(Objects { found: found.collect(), possible: true })
}

fn addresses(socket: &mut Socket, index: u32) -> Result<BTreeSet<(IpAddr, u8)>, Error> {
    let found = socket.addresses(Some(index))?;
    // Link-local addresses are the kernel's own making.
    let ours = found.into_iter().filter(|a| a.index == index && a.global);
    Ok(ours.map(|a| (a.addr, a.prefix_len)).collect())
}

fn neighbours(
    socket: &mut Socket,
    index: u32,
    family: Family,
) -> Result<BTreeMap<IpAddr, ObservedNeighbour>, Error> {
    let found = socket.neighbours(index, family)?;
    Ok(found
        .into_iter()
        .map(|n| {
            let ours = n.protocol == ROUTE_PROTOCOL_PEER;
            (n.addr, ObservedNeighbour { mac: n.mac, permanent: n.permanent, ours })
        })
        .collect())
}

fn observed_device(link: Link) -> ObservedDevice {
    let vxlan = link.vxlan.clone().unwrap_or_default();
    ObservedDevice {
        index: link.index,
        up: link.up,
        is_vxlan: link.vxlan.is_some(),
        vni: vxlan.vni,
        port: vxlan.port,
        local: vxlan.local,
        mac: link.mac,
        mtu: link.mtu,
        foreign_features: vxlan.learning || vxlan.external || vxlan.bound_to.is_some(),
    }
}

/// Carries out changes in their order; what the kernel refuses is reported, the rest goes on.
///
/// Changes of the device come first and are made one by one; when one of them fails nothing
/// else is tried, since everything lies on the device. The rest goes in batches.
///
/// # Errors
/// [`Error`] when the conversation with the kernel breaks down.
pub fn apply(socket: &mut Socket, device: &Device, changes: &[Change]) -> Result<Vec<Failure>, Error> {
    let on_device = |c: &Change| c.object() == "device";
    let split = changes.iter().position(|c| !on_device(c)).unwrap_or(changes.len());
    let (first, rest) = changes.split_at(split);
    for change in first {
        if let Err(error) = change_device(socket, device, change) {
            return Ok(vec![Failure { change: change.clone(), error }]);
        }
    }
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let Some(link) = socket.link(Which::Name(&device.name))? else {
        // It was deleted under our hands; the next round makes it again.
        return Ok(Vec::new());
    };
    let refusals = socket.carry_out(rest.iter().filter_map(|change| request(link.index, change)))?;
    let refused = |(position, refusal): (usize, crate::error::Refusal)| {
        let change = &rest[position];
        let error = Error::Refused { operation: change.to_string(), refusal };
        // What should be gone and is gone is no failure.
        let gone = error.is_absent()
            && matches!(
                change,
                Change::RemoveAddress(..)
                    | Change::RemoveNeighbour(_)
                    | Change::RemoveFdb(..)
                    | Change::RemoveObject(_)
                    | Change::RemoveRoute(_)
            );
        (!gone).then(|| Failure { change: change.clone(), error })
    };
    Ok(refusals.into_iter().filter_map(refused).collect())
}

fn change_device(socket: &mut Socket, device: &Device, change: &Change) -> Result<(), Error> {
    match change {
        Change::DeleteDevice { index, .. } => match socket.delete_link(*index, &device.name) {
            Err(error) if error.is_absent() => Ok(()),
            other => other,
        },
        Change::CreateDevice(wanted) => {
            socket.create_vtep(wanted)?;
            let Some(link) = socket.link(Which::Name(&wanted.name))? else {
                return Ok(());
            };
            if has_ipv6() {
                // No link-local address: nothing is announced, nothing probed. In a request of its
                // own, because the kernel sets a device up before it looks at this.
                let silent = LinkChange { no_link_local: true, ..LinkChange::default() };
                socket.set_link(link.index, &wanted.name, &silent)?;
            }
            let up = LinkChange { up: Some(true), ..LinkChange::default() };
            socket.set_link(link.index, &wanted.name, &up)
        }
        Change::UpdateDevice { index, local, mac, mtu, up } => {
            if local.is_some() {
                socket.set_vtep_local(*index, device)?;
            }
            let change = LinkChange { up: up.then_some(true), mac: *mac, mtu: *mtu, ..LinkChange::default() };
            if change == LinkChange::default() {
                Ok(())
            } else {
                socket.set_link(*index, &device.name, &change)
            }
        }
        _ => Ok(()),
    }
}

/// Whether the kernel has IPv6; without it (`ipv6.disable=1`) its attributes are refused.
fn has_ipv6() -> bool {
    matches!(crate::sysctl::read("ipv6/conf/all/disable_ipv6"), Ok(Some(_)))
}

fn request(index: u32, change: &Change) -> Option<Request> {
    let host_len = |addr: &IpAddr| if addr.is_ipv4() { 32 } else { 128 };
    let (protocol, metric, unreachable) = (ROUTE_PROTOCOL_PEER, 0, false);
    let made =
        |dst, gateway, device| Route { dst, gateway, device, object: None, protocol, metric, unreachable };
    Some(match change {
        Change::AddAddress(addr) => address::add(index, *addr, host_len(addr)),
        Change::RemoveAddress(addr, len) => address::remove(index, *addr, *len),
        Change::SetNeighbour(addr, mac) => neighbour::set(index, *addr, *mac, ROUTE_PROTOCOL_PEER),
        Change::RemoveNeighbour(addr) => neighbour::remove(index, *addr),
        Change::SetFdb(mac, dst) => neighbour::set_fdb(index, *mac, *dst),
        Change::RemoveFdb(mac, dst) => neighbour::remove_fdb(index, *mac, *dst),
        Change::AddObject(gateway) => nexthop::add(object::number(*gateway), *gateway, index, protocol),
        Change::CorrectObject(gateway) => {
            nexthop::replace(object::number(*gateway), *gateway, index, protocol)
        }
        Change::RemoveObject(number) => nexthop::remove(*number),
        Change::AddRoute { dst, via, underlay, object, beside } => {
            let device = match via {
                NextHop::Vtep(_) => Some(index),
                NextHop::Direct(_) => *underlay,
            };
            let number = match via.address() {
                IpAddr::V4(gateway) if *object => Some(object::number(gateway)),
                _ => None,
            };
            let route = Route { object: number, ..made(*dst, Some(via.address()), device) };
            if *beside { route::add_before(&route) } else { route::add(&route) }
        }
        Change::AddRefusal(dst) => {
            route::add(&Route { metric: REFUSING_METRIC, unreachable: true, ..made(*dst, None, None) })
        }
        Change::RemoveRoute(r) => {
            let found = made(r.dst, r.gateway, r.device);
            route::remove(&Route { metric: r.metric, unreachable: r.refuses, object: r.object, ..found })
        }
        Change::DeleteDevice { .. } | Change::CreateDevice(_) | Change::UpdateDevice { .. } => return None,
    })
}
