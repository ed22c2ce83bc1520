//! What is traced: which node has the address, and by which way it is reached.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use minionet_core::addr::Family;
use minionet_core::config::Config;
use minionet_core::constants::DEVICE;
use minionet_core::overlay::{self, Change, NextHop};
use minionet_core::plan::NodePlan;
use minionet_core::trace::{Evidence, Way};
use minionet_netlink::{Socket, overlay as kernel};

use crate::keep;
use crate::local::Place;

/// A trace that is about to be made.
pub struct Journey {
    /// The address that was asked for.
    pub asked: IpAddr,
    /// The address that packets are sent to: for a node, that of its VTEP.
    pub destination: IpAddr,
    /// Where it is.
    pub target: Target,
    /// This node's address.
    pub node: IpAddr,
    /// The first address of this node's VTEP.
    pub vtep: IpAddr,
    /// The port of the tunnel.
    pub port: u16,
    /// The port of the other daemons, if there is one.
    pub trace_port: Option<u16>,
    gateway: IpAddr,
    vni: u32,
}

/// Where the target is.
pub enum Target {
    /// It is an address of this node.
    Here,
    /// It is a pod on this node.
    Local,
    /// It is on another node.
    Remote(Remote),
}

/// The other node.
pub struct Remote {
    /// Its address.
    pub node: IpAddr,
    /// The first address of its VTEP.
    pub vtep: IpAddr,
    /// Whether a pod is traced; otherwise the node.
    pub pod: bool,
    /// By which way it is reached.
    pub way: Way,
    /// Whether it is a peer, as far as the kernel and the saved peers tell.
    pub known: bool,
    /// What this node's tables lack for it.
    pub tables: Vec<String>,
}

impl Journey {
    /// Finds out where an address is.
    ///
    /// # Errors
    /// When it is in no node's share, or this node is not known.
    pub fn plan(config: &Config, socket: &mut Socket, asked: IpAddr) -> Result<Self> {
        let observed = kernel::read(socket, DEVICE)?;
        let saved = keep::saved_peers();
        let mut peers = observed.nodes();
        peers.extend(&saved);
        let place = Place::find(config, socket, &peers).context(
            "which node this is cannot be told: start the daemon (systemctl start minionetd), or give --node-ip",
        )?;
        let vtep = place.me.blocks.first().map(|block| block.gateway);
        let mut journey = Journey {
            asked,
            destination: asked,
            target: Target::Here,
            node: place.me.node,
            vtep: vtep.context("the plan has no pod network")?,
            port: config.port,
            trace_port: config.trace_port,
            gateway: asked,
            vni: config.vni,
        };
        if socket.leads(asked)?.is_some_and(|lead| lead.here) {
            return Ok(journey);
        }
        let owner = owner(&place, asked)?;
        let peer = place.plan.node(owner)?;
        let block = peer.block(Family::of(asked)).or(peer.blocks.first()).context("the plan has no pods")?;
        let pod = asked != owner && asked != block.gateway;
        journey.destination = if pod { asked } else { block.gateway };
        let own = place.me.block(Family::of(journey.destination)).context("this node has no such block")?;
        journey.gateway = own.gateway;
        if owner == place.me.node {
            journey.target = Target::Local;
            return Ok(journey);
        }
        let wanted = place.desired(config, std::slice::from_ref(&peer));
        let way = match wanted.routes.get(&block.cidr) {
            Some(NextHop::Vtep(_)) => Way::Tunnel,
            Some(NextHop::Direct(_)) | None => Way::Direct,
        };
        let tables = overlay::diff(&wanted, &observed)?;
        let tables = tables.iter().filter(|change| concerns(change, &peer)).map(Change::to_string).collect();
        let vtep = peer.blocks.first().map_or(block.gateway, |block| block.gateway);
        let known = peers.contains(&owner);
        journey.target = Target::Remote(Remote { node: owner, vtep, pod, way, known, tables });
        Ok(journey)
    }

    /// The address that packets are sent from: the gateway of this node's pods.
    pub fn source(&self) -> IpAddr {
        self.gateway
    }

    /// The evidence before anything was sent.
    pub fn evidence(&self) -> Evidence {
        let (node, pod, way, known, tables) = match &self.target {
            Target::Here => (self.node, false, Way::Here, true, Vec::new()),
            Target::Local => (self.node, true, Way::Local, true, Vec::new()),
            Target::Remote(r) => (r.node, r.pod, r.way, r.known, r.tables.clone()),
        };
        Evidence {
            target: self.asked,
            node,
            pod,
            way,
            vni: self.vni,
            port: self.port,
            sent: 0,
            refused: None,
            near: std::collections::BTreeMap::new(),
            astray: None,
            far: None,
            underlay: false,
            tunnel: false,
            ping: false,
            tables,
            known,
        }
    }
}

/// The node that has an address, its own or a pod's.
fn owner(place: &Place, asked: IpAddr) -> Result<IpAddr> {
    let spec = place.plan.spec();
    if spec.pod_networks.iter().any(|pods| pods.network.contains(asked)) {
        return place
            .plan
            .owner(asked)
            .with_context(|| format!("{asked} is in the pod network, but in no node's block"));
    }
    if place.plan.node(asked).is_ok() {
        return Ok(asked);
    }
    let list = |cidrs: Vec<String>| cidrs.join(", ");
    bail!(
        "{asked} is neither a node's address nor a pod's: nodes live in {}, pods in {}; services and addresses \
         outside of the cluster are not traced",
        list(spec.node_networks.iter().map(ToString::to_string).collect()),
        list(spec.pod_networks.iter().map(|pods| pods.network.to_string()).collect()),
    )
}

/// Whether a change of the tables has to do with the way to a peer.
fn concerns(change: &Change, peer: &NodePlan) -> bool {
    match change {
        Change::RemoveFdb(mac, _) => *mac == peer.mac,
        Change::RemoveRoute(route) => peer.blocks.iter().any(|block| block.cidr == route.dst),
        Change::RemoveNeighbour(_) | Change::AddRefusal(..) => false,
        _ => true,
    }
}
