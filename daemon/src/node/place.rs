//! Which node this is, what follows from that, and who is new beside it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use minionet_core::addr::Cidr;
use minionet_core::constants::DEVICE;
use minionet_core::identity::{self, Evidence, Identity, Overrides};
use minionet_core::membership::{Outcome, Round, Scope};
use minionet_core::overlay::{self, Device, Local};
use minionet_core::plan::NodePlan;
use minionet_netlink::link::Which;
use tracing::info;

use super::{Node, Own};
use crate::{keep, local};

impl Node {
    /// Finds this node's own address among the local ones, and everything that follows from it.
    /// The candidates are what the membership lists and what was heard just now.
    pub(super) fn identify(&mut self, heard: Option<&Round>) -> Result<()> {
        let local = local::addresses(&mut self.socket)?;
        let heard = || {
            heard.iter().flat_map(|round| &round.replies).filter_map(|reply| match &reply.outcome {
                Outcome::Answer { addresses, .. } => Some(addresses),
                Outcome::Failure { .. } => None,
            })
        };
        let is_listed =
            |a: &IpAddr| self.membership.knows(*a) || heard().any(|addresses| addresses.contains(a));
        let mut answered: BTreeSet<IpAddr> = local.iter().map(|l| l.address).filter(is_listed).collect();
        if answered.is_empty() {
            // Only how many others there are matters, for whoever reads why nothing was chosen.
            answered = self.membership.addresses();
            answered.extend(heard().flat_map(|addresses| addresses.iter()));
        }
        let mut overrides =
            Overrides { node_ip: self.config.node_ip, interface: self.config.interface.clone() };
        if self.config.register.enabled && overrides.interface.is_none() {
            // Nobody lists a node that has yet to register.
            overrides.interface = identity::sole_interface(&local);
        }
        let identity = identity::choose(&Evidence {
            local: &local,
            answered: &answered,
            node_networks: &self.config.node_networks,
            overrides: &overrides,
            current: self.own.as_ref().map(|own| own.identity.address).or_else(keep::last_address),
        })?;
        let own = match self.own.clone().filter(|own| own.identity.is_same_place(&identity)) {
            Some(own) => Own { identity, ..own },
            None => self.become_node(identity)?,
        };
        let scope = Scope {
            plan: Some(own.plan.clone()),
            own: Some(own.identity.address),
            local: local.iter().map(|l| l.address).collect(),
        };
        self.own = Some(own);
        let events = self.membership.set_scope(scope, self.clock.now());
        self.note(&events);
        Ok(())
    }

    /// Everything that follows from an own address that is new.
    pub(super) fn become_node(&self, identity: Identity) -> Result<Own> {
        let networks = &self.config.node_networks;
        let subnet = if networks.is_empty() { Some(identity.default_node_network()?) } else { None };
        let plan = self.config.plan(subnet)?;
        let me = plan.node(identity.address)?;
        let blocks: Vec<String> = me.blocks.iter().map(|b| b.cidr.to_string()).collect();
        info!(node = %me.node, interface = identity.interface, pods = blocks.join(" "), mac = %me.mac, "this node");
        let subnet = Cidr::containing(identity.address, identity.prefix_len)?;
        Ok(Own { identity, plan, me, subnet })
    }

    /// What the VTEP should be, and the number of the interface below it and whether it is up, if
    /// it is there.
    pub(super) fn device(&mut self, own: &Own) -> Result<(Device, Option<(u32, bool)>)> {
        let link = self.socket.link(Which::Name(&own.identity.interface))?;
        let underlay = own.plan.underlay();
        let mtu = self.config.underlay_mtu.or(link.as_ref().map(|l| l.mtu));
        // While the interface is gone, what it was.
        self.underlay_mtu = mtu.unwrap_or(self.underlay_mtu);
        let device = Device {
            name: DEVICE.to_owned(),
            vni: self.config.vni,
            port: self.config.port,
            local: own.identity.address,
            mac: own.me.mac,
            mtu: overlay::overlay_mtu(underlay, self.underlay_mtu),
        };
        Ok((device, link.map(|l| (l.index, l.up))))
    }

    /// Adds peers that are listed for the first time, before anything else is done about the answer.
    pub(super) fn welcome(&mut self, round: &Round) -> Result<()> {
        let (Some(own), true) = (&self.own, self.settler.is_settled()) else { return Ok(()) };
        let mut newcomers = self.membership.newcomers(round);
        if newcomers.is_empty() {
            return Ok(());
        }
        // Which addresses are this node's own may have changed a moment ago, and none of them is a peer's.
        let local: BTreeSet<IpAddr> = self.socket.addresses(None)?.iter().map(|a| a.addr).collect();
        if !local.contains(&own.identity.address) {
            return Ok(());
        }
        newcomers.retain(|addr| !local.contains(addr));
        let peers: Vec<NodePlan> = newcomers.iter().filter_map(|addr| own.plan.node(*addr).ok()).collect();
        let encapsulation = self.config.encapsulation;
        let local = Local { me: &own.me, subnet: own.subnet, underlay: None, encapsulation, assigned: &[] };
        self.settler.welcome(&mut self.socket, &local, &peers, &mut self.journal)?;
        let members: Vec<IpAddr> = newcomers.into_iter().collect();
        self.firewall.as_mut().map_or(Ok(()), |firewall| firewall.welcome(&members))
    }
}
