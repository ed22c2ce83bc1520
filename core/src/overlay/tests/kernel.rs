//! The kernel's tables as a model: what they hold after a change, as far as the kernel's rules
//! are known and matter here. A change that the kernel would refuse is a failed assertion.
//!
//! Also used by the simulation in `core/tests/simulation`.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    Change, NextHop, Observed, ObservedDevice, ObservedNeighbour, ObservedObject, ObservedRoute,
    REFUSING_METRIC, default_metric, object,
};

/// The number of our device, before and after it is made anew.
pub(super) const INDEX: u32 = 7;

/// The number of the loopback interface.
const LOOPBACK: u32 = 1;

/// The lowest of all addresses, where a range of forwarding entries begins.
const LOWEST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

pub(super) fn apply(state: &mut Observed, change: &Change) {
    match change {
        Change::DeleteDevice { index, .. } => {
            let routes = state.routes.iter().filter(|r| r.device != Some(*index)).copied().collect();
            let mut objects = state.objects.clone();
            objects.found.retain(|_, object| object.device != Some(*index));
            *state = Observed { routes, objects, ..Observed::default() };
        }
        Change::CreateDevice(d) => {
            assert!(state.device.is_none(), "the name is taken");
            state.device = Some(ObservedDevice {
                index: INDEX,
                up: true,
                is_vxlan: true,
                vni: d.vni,
                port: d.port,
                local: Some(d.local),
                mac: Some(d.mac),
                mtu: d.mtu,
                foreign_features: false,
            });
        }
        Change::UpdateDevice { index, local, mac, mtu, up } => {
            let device = state.device.as_mut().unwrap();
            assert_eq!(device.index, *index);
            device.local = local.or(device.local);
            device.mtu = mtu.unwrap_or(device.mtu);
            device.up |= up;
            if mac.is_some() {
                device.mac = *mac;
                state.neighbours.clear();
            }
        }
        Change::AddAddress(addr) => {
            assert!(state.addresses.insert((*addr, if addr.is_ipv4() { 32 } else { 128 })));
        }
        Change::RemoveAddress(addr, len) => assert!(state.addresses.remove(&(*addr, *len))),
        Change::SetNeighbour(addr, mac) => {
            let entry = ObservedNeighbour { mac: Some(*mac), permanent: true, ours: true };
            state.neighbours.insert(*addr, entry);
        }
        Change::RemoveNeighbour(addr) => {
            let relies = |r: &ObservedRoute| r.gateway == Some(*addr) && r.device == Some(INDEX);
            assert!(!state.routes.iter().any(relies), "a route still relies on {addr}");
            state.neighbours.remove(addr);
        }
        Change::SetFdb(mac, dst) => {
            let same = state.fdb.range((*mac, LOWEST)..).take_while(|(m, _)| m == mac);
            for old in same.copied().collect::<Vec<_>>() {
                state.fdb.remove(&old);
            }
            state.fdb.insert((*mac, *dst));
        }
        Change::RemoveFdb(mac, dst) => {
            // The entry may have been replaced by the right one just before.
            state.fdb.remove(&(*mac, *dst));
        }
        Change::AddObject(gateway) => {
            assert!(state.objects.possible, "this kernel has no objects");
            let device = state.device.as_ref().filter(|d| d.up).map(|d| d.index);
            assert!(device.is_some(), "an object for a device that is not there");
            let object = ObservedObject { ours: true, gateway: Some((*gateway).into()), device };
            let before = state.objects.found.insert(object::number(*gateway), object);
            assert_eq!(before, None, "the number is taken");
        }
        Change::CorrectObject(gateway) => {
            let device = state.device.as_ref().filter(|d| d.up).map(|d| d.index);
            let number = object::number(*gateway);
            let object = state.objects.found.get_mut(&number).unwrap();
            assert!(object.ours, "a stranger's object is changed");
            *object = ObservedObject { ours: true, gateway: Some((*gateway).into()), device };
            let refers = |route: &ObservedRoute| route.object == Some(number);
            let follow = |route| match refers(&route) {
                true => ObservedRoute { gateway: Some((*gateway).into()), device, ..route },
                false => route,
            };
            state.routes = state.routes.iter().copied().map(follow).collect();
        }
        Change::RemoveObject(number) => {
            let relies = |r: &ObservedRoute| r.object == Some(*number);
            assert!(!state.routes.iter().any(relies), "a route still refers to {number}");
            assert!(state.objects.found.remove(number).unwrap().ours, "a stranger's object is removed");
        }
        Change::AddRoute { dst, via, underlay, object, beside } => {
            let first = ObservedRoute {
                dst: *dst,
                metric: 0,
                refuses: false,
                gateway: None,
                device: None,
                object: None,
            };
            let number = object.then(|| via.address()).map(|address| match address {
                IpAddr::V4(gateway) => object::number(gateway),
                IpAddr::V6(_) => panic!("an object for {address}"),
            });
            if let Some(number) = number {
                let found = state.objects.found[&number];
                assert!(found.ours && found.gateway == Some(via.address()), "{found:?} for {via:?}");
            }
            let mut same = state.routes.range(first..).take_while(|r| r.dst == *dst);
            let taken = same.any(|r| !r.refuses);
            assert_eq!(taken, *beside, "whether {dst} has a route already");
            let device = match via {
                NextHop::Direct(_) => *underlay,
                NextHop::Vtep(gateway) => {
                    let mac = state.neighbours.get(gateway).and_then(|n| n.mac);
                    let known = |mac| state.fdb.range((mac, LOWEST)..).next().is_some_and(|(m, _)| *m == mac);
                    assert!(mac.is_some_and(known), "a route before its entries");
                    state.device.as_ref().filter(|d| d.up).map(|d| d.index)
                }
            };
            assert!(device.is_some(), "a route over a device that is not there");
            let (gateway, metric) = (Some(via.address()), default_metric(dst.family()));
            let route = ObservedRoute { dst: *dst, metric, refuses: false, gateway, device, object: number };
            assert!(state.routes.insert(route), "the very same route to {dst} is there already");
        }
        Change::AddRefusal(dst) => {
            // IPv6 binds such a route to the loopback interface.
            let device = (!dst.network().is_ipv4()).then_some(LOOPBACK);
            let (metric, gateway) = (REFUSING_METRIC, None);
            let route = ObservedRoute { dst: *dst, metric, refuses: true, gateway, device, object: None };
            assert!(state.routes.insert(route), "{dst} is refused already");
        }
        Change::RemoveRoute(route) => {
            // One with an object is told by its number: where that leads may have changed just before.
            let same = |r: &ObservedRoute| match route.object {
                Some(_) => (r.dst, r.metric, r.object) == (route.dst, route.metric, route.object),
                None => r == route,
            };
            let before = state.routes.len();
            state.routes.retain(|r| !same(r));
            assert_eq!(state.routes.len() + 1, before, "{route:?} is not there, or not alone");
        }
    }
}
