//! Which address is this node's own, and everything that follows from it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use minionet_core::addr::Cidr;
use minionet_core::identity::{self, Evidence, Identity, Overrides};
use minionet_core::membership::Scope;
use minionet_core::plan::{AddressPlan, NodePlan};
use tracing::info;

use super::Node;
use crate::{keep, local};

/// What follows from this node's own address.
#[derive(Clone, PartialEq)]
pub struct Own {
    pub identity: Identity,
    pub plan: AddressPlan,
    pub me: NodePlan,
    /// Who is in it is a neighbour on the underlay.
    pub subnet: Cidr,
}

impl Node {
    /// Finds this node's own address among the local ones, and everything that follows from it.
    /// The candidates are what the membership lists and what was heard just now.
    pub(super) fn identify(&mut self, heard: BTreeSet<IpAddr>) -> Result<()> {
        let local = local::addresses(&mut self.socket)?;
        let mut answered = self.membership.addresses();
        answered.extend(heard);
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
}
