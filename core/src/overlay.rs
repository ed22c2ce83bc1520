//! The overlay in the kernel: what it should be, what it is, and the changes between the two.
//!
//! [`desired`] computes what the kernel should hold from the plan and the peers, [`diff`]
//! compares it with what was read back. Nothing that is remembered is trusted: the kernel is the
//! only record of what the kernel holds. [`additions`] tells what is new against an earlier state,
//! for those who cannot wait for the reading.
//!
//! Architecture invariants:
//! * Applying `diff(desired, observed)` makes the observed state equal to the desired one, and
//!   the difference of equal states is empty.
//! * A peer's route is added last and removed first, so that the kernel never sends a packet to
//!   a peer whose MAC or node it does not know.
//! * Only what carries our marks is removed: our device, routes, next hop objects and neighbours of
//!   the protocol number 109, forwarding entries whose MAC has our prefix.
//! * No route of ours refers to a stranger's next hop object.

mod diff;
mod early;
#[cfg(test)]
pub(crate) mod fixture;
mod mtu;
pub mod object;
pub mod patience;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

pub use self::diff::{NameTaken, diff, keep_peers};
pub use self::early::additions;
pub use self::mtu::{overlay_mtu, pod_mtu};
use self::object::Objects;
use crate::addr::{Cidr, Family, MacAddr};
use crate::plan::{Block, NodePlan};

/// What the VTEP should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Device {
    /// Its name, at most 15 octets.
    pub name: String,
    /// The VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// The UDP port of VXLAN.
    pub port: u16,
    /// The source address of its packets: the node's address.
    pub local: IpAddr,
    /// Its MAC.
    pub mac: MacAddr,
    /// Its MTU in octets.
    pub mtu: u32,
}

/// What the overlay should be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Overlay {
    /// The VTEP.
    pub device: Device,
    /// The addresses on the VTEP: the gateways of this node's blocks.
    pub addresses: BTreeSet<IpAddr>,
    /// Permanent neighbours on the VTEP: address of a peer's VTEP to its MAC.
    pub neighbours: BTreeMap<IpAddr, MacAddr>,
    /// Forwarding entries of the VTEP: MAC of a peer's VTEP to the peer's address.
    pub fdb: BTreeMap<MacAddr, IpAddr>,
    /// Routes: a peer's pod CIDR to where its packets go.
    pub routes: BTreeMap<Cidr, NextHop>,
    /// Where no packet goes unless a route to something smaller leads on: it is refused with an
    /// ICMP error, and does not leave by the node's default route with a pod's address.
    pub refused: BTreeSet<Cidr>,
    /// The kernel's number of the interface below the overlay; none while it is gone.
    pub underlay: Option<u32>,
}

/// Where the packets to a peer's pods go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// Into the overlay, to the address of the peer's VTEP.
    Vtep(IpAddr),
    /// Straight to the peer, which is a neighbour on the underlay.
    Direct(IpAddr),
}

impl NextHop {
    /// The address of the next hop.
    pub fn address(&self) -> IpAddr {
        match self {
            NextHop::Vtep(addr) | NextHop::Direct(addr) => *addr,
        }
    }
}

/// Which peers' packets are encapsulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encapsulation {
    /// All.
    #[default]
    Always,
    /// Those to peers beyond this node's own subnet.
    CrossSubnet,
    /// None: peers beyond the own subnet are left to the routers of the underlay.
    Never,
}

/// The VTEP as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedDevice {
    /// The kernel's number for it.
    pub index: u32,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is a VXLAN device at all.
    pub is_vxlan: bool,
    /// VNI.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Source address of its packets.
    pub local: Option<IpAddr>,
    /// MAC.
    pub mac: Option<MacAddr>,
    /// MTU in octets.
    pub mtu: u32,
    /// Whether it learns, is bound to a device, or takes tunnels from routes: what ours never
    /// does, and what cannot be changed in place.
    pub foreign_features: bool,
}

/// A neighbour as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedNeighbour {
    /// Its MAC, if it is known.
    pub mac: Option<MacAddr>,
    /// Whether it was set for good.
    pub permanent: bool,
    /// Whether it carries our protocol number.
    pub ours: bool,
}

/// The metric of the routes that refuse packets: one that loses against every other route to the
/// same network (the number is that of Documentation/networking/vrf.rst, and lets routing daemons
/// keep the highest octet for themselves).
pub const REFUSING_METRIC: u32 = 4_278_198_272;

/// The metric of a route that was added without one: `IP6_RT_PRIO_USER` of
/// linux/ipv6_route.h over IPv6.
pub fn default_metric(family: Family) -> u32 {
    match family {
        Family::V4 => 0,
        Family::V6 => 1024,
    }
}

/// A route of our protocol as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObservedRoute {
    /// What it leads to.
    pub dst: Cidr,
    /// Its metric; of two routes to the same network the one with the lower metric counts.
    pub metric: u32,
    /// Whether it refuses packets with an ICMP error (`RTN_UNREACHABLE`). It leads nowhere then,
    /// whatever `gateway` and `device` say.
    pub refuses: bool,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The device it leaves by.
    pub device: Option<u32>,
    /// The number of the next hop object that it refers to, if it does.
    pub object: Option<u32>,
}

/// What the kernel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The device with our name.
    pub device: Option<ObservedDevice>,
    /// Addresses on it, with their prefix lengths; not those that the kernel makes (link-local).
    pub addresses: BTreeSet<(IpAddr, u8)>,
    /// Neighbours on it.
    pub neighbours: BTreeMap<IpAddr, ObservedNeighbour>,
    /// Its forwarding entries; several for one MAC are possible.
    pub fdb: BTreeSet<(MacAddr, IpAddr)>,
    /// All routes of our protocol number, on whatever device.
    pub routes: BTreeSet<ObservedRoute>,
    /// The next hop objects.
    pub objects: Objects,
}

impl Observed {
    /// The nodes that forwarding entries of ours lead to: the peers of whoever made them.
    pub fn nodes(&self) -> BTreeSet<IpAddr> {
        self.fdb.iter().filter(|(mac, _)| mac.is_vtep()).map(|(_, node)| *node).collect()
    }
}

/// One change to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Delete the device with our name, which cannot be changed into what it should be.
    DeleteDevice {
        /// Its number.
        index: u32,
        /// Why.
        reason: String,
    },
    /// Make the VTEP and set it up.
    CreateDevice(Device),
    /// Change the VTEP in place, and set it up.
    UpdateDevice {
        /// Its number.
        index: u32,
        /// The source address of its packets, if that differs.
        local: Option<IpAddr>,
        /// Its MAC, if that differs.
        mac: Option<MacAddr>,
        /// Its MTU, if that differs.
        mtu: Option<u32>,
        /// Whether it has to be set up.
        up: bool,
    },
    /// Put an address on the VTEP.
    AddAddress(IpAddr),
    /// Take an address off the VTEP.
    RemoveAddress(IpAddr, u8),
    /// Set a permanent neighbour.
    SetNeighbour(IpAddr, MacAddr),
    /// Remove a neighbour.
    RemoveNeighbour(IpAddr),
    /// Set a forwarding entry.
    SetFdb(MacAddr, IpAddr),
    /// Remove a forwarding entry.
    RemoveFdb(MacAddr, IpAddr),
    /// Make the next hop object for an address on the VTEP.
    AddObject(Ipv4Addr),
    /// Change our next hop object for this address into what it should be, in place.
    CorrectObject(Ipv4Addr),
    /// Remove a next hop object, by its number.
    RemoveObject(u32),
    /// Add a route.
    AddRoute {
        /// What it leads to.
        dst: Cidr,
        /// Where its packets go.
        via: NextHop,
        /// The number of the interface below the overlay, for a direct route.
        underlay: Option<u32>,
        /// Whether it refers to the next hop object for that address.
        object: bool,
        /// Whether a wrong route of ours leads there as well, and goes right after: the new one
        /// comes before it, so that there is always a way.
        beside: bool,
    },
    /// Add a route that refuses packets, with [`REFUSING_METRIC`].
    AddRefusal(Cidr),
    /// Remove a route.
    RemoveRoute(ObservedRoute),
}

impl Change {
    /// Whether something that leads to a peer is taken away.
    pub fn removes_peer(&self) -> bool {
        match self {
            Change::RemoveRoute(route) => !route.refuses,
            Change::RemoveObject(_) | Change::RemoveNeighbour(_) | Change::RemoveFdb(..) => true,
            _ => false,
        }
    }

    /// What kind of object is changed, in one word for counters.
    pub fn object(&self) -> &'static str {
        match self {
            Change::DeleteDevice { .. } | Change::CreateDevice(_) | Change::UpdateDevice { .. } => "device",
            Change::AddAddress(_) | Change::RemoveAddress(..) => "address",
            Change::SetNeighbour(..) | Change::RemoveNeighbour(_) => "neighbour",
            Change::SetFdb(..) | Change::RemoveFdb(..) => "fdb",
            Change::AddObject(_) | Change::CorrectObject(_) | Change::RemoveObject(_) => "nexthop",
            Change::AddRoute { .. } | Change::AddRefusal(_) | Change::RemoveRoute(_) => "route",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::DeleteDevice { reason, .. } => write!(f, "delete the device ({reason})"),
            Change::CreateDevice(d) => {
                write!(
                    f,
                    "make the VXLAN device {} (VNI {}, port {}, local {})",
                    d.name, d.vni, d.port, d.local
                )
            }
            Change::UpdateDevice { local, mac, mtu, up, .. } => {
                write!(f, "change the VXLAN device:")?;
                local.map_or(Ok(()), |x| write!(f, " local {x}"))?;
                mac.map_or(Ok(()), |x| write!(f, " MAC {x}"))?;
                mtu.map_or(Ok(()), |x| write!(f, " MTU {x}"))?;
                if *up { write!(f, " up") } else { Ok(()) }
            }
            Change::AddAddress(addr) => write!(f, "add the address {addr}"),
            Change::RemoveAddress(addr, len) => write!(f, "remove the address {addr}/{len}"),
            Change::SetNeighbour(addr, mac) => write!(f, "set the neighbour {addr} to {mac}"),
            Change::RemoveNeighbour(addr) => write!(f, "remove the neighbour {addr}"),
            Change::SetFdb(mac, dst) => write!(f, "set the forwarding entry {mac} to {dst}"),
            Change::RemoveFdb(mac, dst) => write!(f, "remove the forwarding entry {mac} to {dst}"),
            Change::AddObject(addr) => {
                write!(f, "make the next hop object {} for {addr}", object::number(*addr))
            }
            Change::CorrectObject(addr) => {
                write!(f, "correct the next hop object {} for {addr}", object::number(*addr))
            }
            Change::RemoveObject(number) => write!(f, "remove the next hop object {number}"),
            Change::AddRoute { dst, via: NextHop::Vtep(addr), .. } => {
                write!(f, "add the route {dst} via {addr}")
            }
            Change::AddRoute { dst, via: NextHop::Direct(addr), .. } => {
                write!(f, "add the route {dst} via {addr}, not encapsulated")
            }
            Change::AddRefusal(dst) => write!(f, "add the route {dst}, unreachable"),
            Change::RemoveRoute(route) if route.refuses => {
                write!(f, "remove the route {}, unreachable", route.dst)
            }
            Change::RemoveRoute(route) => write!(f, "remove the route {}", route.dst),
        }
    }
}

/// This node and how it sends, as far as the kernel's tables depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// This node's place in the plan.
    pub me: &'a NodePlan,
    /// The subnet of its address: who is in it is a neighbour on the underlay.
    pub subnet: Cidr,
    /// The number of the interface with that address; none while it is gone.
    pub underlay: Option<u32>,
    /// Which peers' packets are encapsulated.
    pub encapsulation: Encapsulation,
    /// The networks that the pod CIDRs of all possible nodes make up ([`AddressPlan::assigned`]).
    ///
    /// [`AddressPlan::assigned`]: crate::plan::AddressPlan::assigned
    pub assigned: &'a [Cidr],
}

/// What the kernel should hold on a node with these peers.
///
/// Neighbours and forwarding entries are there for every peer, also for those that are reached
/// without encapsulation: a change of the mode is then a change of routes alone.
pub fn desired<'a>(
    device: Device,
    local: &Local<'_>,
    peers: impl IntoIterator<Item = &'a NodePlan>,
) -> Overlay {
    let mut overlay = Overlay {
        device,
        addresses: local.me.blocks.iter().map(|b| b.gateway).collect(),
        neighbours: BTreeMap::new(),
        fdb: BTreeMap::new(),
        routes: BTreeMap::new(),
        refused: local.assigned.iter().copied().filter(|pods| !left_to_routers(local, pods)).collect(),
        underlay: local.underlay,
    };
    for peer in peers.into_iter().filter(|p| p.node != local.me.node) {
        overlay.fdb.insert(peer.mac, peer.node);
        for block in &peer.blocks {
            overlay.neighbours.insert(block.gateway, peer.mac);
            overlay.routes.extend(next_hop(local, peer, block).map(|via| (block.cidr, via)));
        }
    }
    overlay
}

/// Whether packets to pods may have to leave by whatever route the host has: the underlay's
/// routers know where the peers' pods are.
fn left_to_routers(local: &Local<'_>, pods: &Cidr) -> bool {
    local.encapsulation == Encapsulation::Never && pods.family() == Family::of(local.me.node)
}

/// Where the packets to one block of a peer go; nowhere where the underlay's routers know.
///
/// A block of the other family than the underlay's is always encapsulated: an IPv6 route has no
/// IPv4 next hop.
fn next_hop(local: &Local<'_>, peer: &NodePlan, block: &Block) -> Option<NextHop> {
    let same_family = block.cidr.family() == Family::of(peer.node);
    match local.encapsulation {
        Encapsulation::Always => Some(NextHop::Vtep(block.gateway)),
        _ if !same_family => Some(NextHop::Vtep(block.gateway)),
        _ if local.subnet.contains(peer.node) => Some(NextHop::Direct(peer.node)),
        Encapsulation::CrossSubnet => Some(NextHop::Vtep(block.gateway)),
        Encapsulation::Never => None,
    }
}
