//! This node's own addresses, and the node that they make it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Result, bail};
use minionet_core::addr::Cidr;
use minionet_core::config::Config;
use minionet_core::constants::DEVICE;
use minionet_core::identity::{self, Evidence, Identity, LocalAddress, Overrides};
use minionet_core::overlay::{self, Device, Local, Overlay};
use minionet_core::plan::{AddressPlan, NodePlan};
use minionet_netlink::Socket;
use minionet_netlink::link::Link;

use crate::keep;

/// The addresses by which other nodes could reach this one.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn addresses(socket: &mut Socket) -> Result<Vec<LocalAddress>> {
    let links = socket.links()?;
    // What is on our own device, or on loopback, is never what other nodes reach us by.
    let outward =
        |index: u32| links.iter().find(|l: &&Link| l.index == index && !l.loopback && l.name != DEVICE);
    let addresses = socket.addresses(None)?;
    let local = |a: &minionet_netlink::address::Address| {
        let link = outward(a.index).filter(|_| a.global)?;
        Some(LocalAddress {
            address: a.addr,
            prefix_len: a.prefix_len,
            interface: link.name.clone(),
            tentative: a.tentative,
            deprecated: a.deprecated,
            secondary: a.secondary,
        })
    };
    Ok(addresses.iter().filter_map(local).collect())
}

/// This node, as a command of the operator finds it.
pub struct Place {
    /// Its address.
    pub identity: Identity,
    /// The plan of the cluster.
    pub plan: AddressPlan,
    /// Its place in the plan.
    pub me: NodePlan,
    /// The subnet of its address.
    pub subnet: Cidr,
    /// The interface with its address.
    pub interface: Link,
    /// All addresses by which other nodes could reach it.
    pub local: Vec<LocalAddress>,
}

impl Place {
    /// Finds out which node this is, from the addresses that DNS lists, where they are known, and
    /// what the daemon found when it ran last.
    ///
    /// # Errors
    /// When it cannot be told, or the plan cannot hold.
    pub fn find(config: &Config, socket: &mut Socket, answered: &BTreeSet<IpAddr>) -> Result<Self> {
        let local = addresses(socket)?;
        let overrides = Overrides { node_ip: config.node_ip, interface: config.interface.clone() };
        let identity = identity::choose(&Evidence {
            local: &local,
            answered,
            node_networks: &config.node_networks,
            overrides: &overrides,
            current: keep::last_address(),
        })?;
        let configured = !config.node_networks.is_empty();
        let plan = config.plan(if configured { None } else { Some(identity.default_node_network()?) })?;
        let me = plan.node(identity.address)?;
        let subnet = Cidr::containing(identity.address, identity.prefix_len)?;
        let links = socket.links()?;
        let Some(interface) = links.into_iter().find(|link| link.name == identity.interface) else {
            bail!("the interface {} went away", identity.interface);
        };
        Ok(Place { identity, plan, me, subnet, interface, local })
    }

    /// What the kernel should hold with these peers.
    pub fn desired(&self, config: &Config, peers: &[NodePlan]) -> Overlay {
        let device = Device {
            name: DEVICE.to_owned(),
            vni: config.vni,
            port: config.port,
            local: self.identity.address,
            mac: self.me.mac,
            mtu: overlay::overlay_mtu(
                self.plan.underlay(),
                config.underlay_mtu.unwrap_or(self.interface.mtu),
            ),
        };
        let assigned = self.plan.assigned();
        let local = Local {
            me: &self.me,
            subnet: self.subnet,
            underlay: Some(self.interface.index),
            encapsulation: config.encapsulation,
            assigned: &assigned,
        };
        overlay::desired(device, &local, peers)
    }
}
