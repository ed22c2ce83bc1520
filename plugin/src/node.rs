//! What pods of this node depend on, looked at from outside the daemon.

use minionet_core::addr::Family;
use minionet_core::constants::{DEVICE, NFT_TABLE, ROUTE_PROTOCOL_PEER};
use minionet_core::handoff::NodeFacts;
use minionet_core::health::{FILE, Health};
use minionet_netlink::link::Which;
use minionet_netlink::nft::Nft;
use minionet_netlink::{Error, Socket};
use std::fs;

use crate::facts::Directories;

/// What the daemon said last, if it said anything that is understood.
pub fn health(dirs: &Directories) -> Option<Health> {
    fs::read_to_string(dirs.run.join(FILE)).ok().as_deref().and_then(Health::parse)
}

/// What is missing in the kernel that every pod needs: the overlay's device with the gateways'
/// addresses, the nft table, the routes to peers.
///
/// # Errors
/// [`Error`] when the kernel cannot be asked.
pub fn missing(host: &mut Socket, facts: &NodeFacts, health: Option<&Health>) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    match host.link(Which::Name(DEVICE))? {
        None => found.push(format!("the device {DEVICE} is gone: is minionetd running?")),
        Some(device) => {
            if !device.up {
                found.push(format!("the device {DEVICE} is down: ip link set {DEVICE} up"));
            }
            let addresses = host.addresses(Some(device.index))?;
            for block in &facts.blocks {
                if !addresses.iter().any(|a| a.index == device.index && a.addr == block.gateway) {
                    found.push(format!("the gateway's address {} is not on {DEVICE}", block.gateway));
                }
            }
        }
    }
    if let Some(wanted) = health.and_then(|health| health.peer_routes) {
        let mut routes = 0;
        for family in [Family::V4, Family::V6] {
            routes += host.routes(family, ROUTE_PROTOCOL_PEER)?.len();
        }
        if routes < wanted {
            found.push(format!("{} of {wanted} routes to peers are missing", wanted - routes));
        }
    }
    let rules = health.and_then(|health| health.rules);
    // As long as the daemon never made a table, none is missed.
    if let Some(wanted) = rules.filter(|wanted| *wanted > 0) {
        match Nft::open().and_then(|mut nft| nft.rule_count(NFT_TABLE)) {
            Ok(Some(rules)) if rules >= wanted => {}
            Ok(Some(rules)) => found.push(format!(
                "{} of {wanted} rules of the nft table {NFT_TABLE} are missing",
                wanted - rules
            )),
            Ok(None) => found.push(format!("the nft table {NFT_TABLE} is gone (nft flush ruleset?)")),
            Err(error) => found.push(format!("the nft table {NFT_TABLE} cannot be looked at: {error}")),
        }
    }
    Ok(found)
}
