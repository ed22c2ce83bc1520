//! What the kernel holds, compared with what it should hold: for every peer, and for the device.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Kernel, KernelDevice, KernelEvidence, PeerReport};
use crate::addr::{Cidr, MacAddr};
use crate::overlay::{self, Local, NextHop, Observed, ObservedRoute, Overlay};
use crate::plan::{Block, NodePlan};
use crate::state::{Peer, Standing, State};

/// What is said of a device that is not set up.
const DOWN: &str = "it is down";

/// Every peer with what the kernel lacks of it. Where the daemon has left nothing, those that the
/// kernel still knows.
pub(super) fn peers(state: Option<&State>, observed: Option<&Observed>) -> Vec<PeerReport> {
    let Some(state) = state else { return observed.map(left_behind).unwrap_or_default() };
    let wanted = wanted(state);
    let routes = observed.map(routes).unwrap_or_default();
    let judged = |peer: &Peer| {
        let known = observed.zip(wanted.as_ref()).filter(|_| peer.state.is_peer());
        let lacks = known.map(|(observed, wanted)| lacks(peer, wanted, observed, &routes));
        PeerReport {
            peer: peer.clone(),
            programmed: lacks.as_ref().map(BTreeSet::is_empty),
            lacks: lacks.into_iter().flatten().map(str::to_owned).collect(),
        }
    };
    state.peers.iter().map(judged).collect()
}

/// What the kernel should hold.
fn wanted(state: &State) -> Option<Overlay> {
    let (node, device) = (state.node.as_ref()?, state.device.as_ref()?);
    let local = Local {
        me: &node.place,
        subnet: node.subnet,
        // By which interface a direct route leaves is not compared.
        underlay: None,
        // Nor are the routes that refuse packets to nobody: they lead to no peer.
        assigned: &[],
        encapsulation: device.encapsulation,
    };
    let peers: Vec<NodePlan> = state.peers.iter().filter_map(place).collect();
    Some(overlay::desired(device.vtep.clone(), &local, &peers))
}

fn place(peer: &Peer) -> Option<NodePlan> {
    // The index follows from the address as all else does, and nothing here needs it.
    Some(NodePlan { node: peer.address, index: 0, mac: peer.mac?, blocks: peer.blocks.clone() })
}

type Routes<'a> = BTreeMap<Cidr, Vec<(Option<IpAddr>, Option<u32>)>>;

/// The routes that lead somewhere.
fn leading(observed: &Observed) -> impl Iterator<Item = &ObservedRoute> {
    observed.routes.iter().filter(|route| !route.refuses)
}

fn routes(observed: &Observed) -> Routes<'_> {
    let mut routes = Routes::new();
    for route in leading(observed) {
        routes.entry(route.dst).or_default().push((route.gateway, route.device));
    }
    routes
}

fn lacks(peer: &Peer, wanted: &Overlay, observed: &Observed, routes: &Routes<'_>) -> BTreeSet<&'static str> {
    let mut lacks = BTreeSet::new();
    let vtep = observed.device.as_ref().map(|d| d.index);
    let Some(mac) = peer.mac else { return lacks };
    if !observed.fdb.contains(&(mac, peer.address)) {
        lacks.insert("fdb");
    }
    for block in &peer.blocks {
        let neighbour = observed.neighbours.get(&block.gateway);
        if !neighbour.is_some_and(|n| n.permanent && n.mac == Some(mac)) {
            lacks.insert("neighbour");
        }
        let Some(via) = wanted.routes.get(&block.cidr) else { continue };
        let right = |(gateway, device): &(Option<IpAddr>, Option<u32>)| {
            *gateway == Some(via.address()) && (matches!(via, NextHop::Direct(_)) || *device == vtep)
        };
        if !routes.get(&block.cidr).is_some_and(|found| found.iter().any(right)) {
            lacks.insert("route");
        }
    }
    lacks
}

/// The peers that only the kernel knows.
fn left_behind(observed: &Observed) -> Vec<PeerReport> {
    let fdb = observed.fdb.iter().filter(|(mac, _)| mac.is_vtep());
    fdb.map(|(mac, node)| known_by_kernel(observed, *mac, *node)).collect()
}

fn known_by_kernel(observed: &Observed, mac: MacAddr, address: IpAddr) -> PeerReport {
    let neighbours: Vec<IpAddr> =
        observed.neighbours.iter().filter(|(_, n)| n.mac == Some(mac)).map(|(vtep, _)| *vtep).collect();
    let via = |hop: &IpAddr| *hop == address || neighbours.contains(hop);
    let routes = observed.routes.iter().filter_map(|route| Some((route.dst, route.gateway.filter(via)?)));
    let blocks: Vec<Block> = routes.map(|(cidr, gateway)| Block { cidr, gateway }).collect();
    let lacks = [("neighbour", neighbours.is_empty()), ("route", blocks.is_empty())];
    let lacks: Vec<String> =
        lacks.into_iter().filter(|(_, lacking)| *lacking).map(|(what, _)| what.to_owned()).collect();
    PeerReport {
        peer: Peer {
            address,
            state: Standing::Unknown,
            reason: None,
            since: None,
            first_seen: None,
            last_seen: None,
            confirmed: false,
            absent_answers: 0,
            flaps: 0,
            names: Vec::new(),
            mac: Some(mac),
            blocks,
            probe: None,
        },
        programmed: Some(lacks.is_empty()),
        lacks,
    }
}

/// The device, the table, and the number of routes.
pub(super) fn summary(evidence: &KernelEvidence, state: Option<&State>) -> Kernel {
    let observed = &evidence.overlay;
    let wanted = state.and_then(wanted);
    let strays = wanted.as_ref().map_or(0, |wanted| {
        leading(observed).filter(|route| !wanted.routes.contains_key(&route.dst)).count()
    });
    let device = observed.device.as_ref().map(|device| KernelDevice {
        up: device.up,
        vni: device.vni,
        port: device.port,
        local: device.local,
        mac: device.mac,
        mtu: device.mtu,
        addresses: observed.addresses.iter().map(|(address, _)| *address).collect(),
    });
    Kernel {
        differences: match &wanted {
            Some(wanted) => differences(wanted, observed),
            // Without knowing more: a device that is down is of no use.
            None => observed.device.iter().filter(|d| !d.up).map(|_| DOWN.to_owned()).collect(),
        },
        device,
        table: evidence.table,
        routes: leading(observed).count(),
        stray_routes: strays,
    }
}

/// In what the device differs from what it should be.
fn differences(wanted: &Overlay, observed: &Observed) -> Vec<String> {
    let Some(found) = &observed.device else { return vec!["there is none".to_owned()] };
    if !found.is_vxlan {
        return vec!["it is no VXLAN device".to_owned()];
    }
    let device = &wanted.device;
    let mut differences = Vec::new();
    let mut compare = |what: &str, found: String, wanted: String| {
        if found != wanted {
            differences.push(format!("{what} {found} instead of {wanted}"));
        }
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    compare("VNI", found.vni.to_string(), device.vni.to_string());
    compare("port", found.port.to_string(), device.port.to_string());
    compare("local address", or_none(found.local.map(|a| a.to_string())), device.local.to_string());
    compare("MAC", or_none(found.mac.map(|m| m.to_string())), device.mac.to_string());
    compare("MTU", found.mtu.to_string(), device.mtu.to_string());
    if !found.up {
        differences.push(DOWN.to_owned());
    }
    if found.foreign_features {
        differences.push("it learns, or is bound to an interface".to_owned());
    }
    let addresses: BTreeSet<IpAddr> = observed.addresses.iter().map(|(address, _)| *address).collect();
    for lacking in wanted.addresses.difference(&addresses) {
        differences.push(format!("the address {lacking} is lacking"));
    }
    differences
}
