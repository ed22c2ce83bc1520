//! `minionetd plan`: what nodes get, as a table or as JSON.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ArgMatches;
use minionet_core::addr::Cidr;
use minionet_core::config::Config;
use minionet_core::constants::{RUN_DIR, STATE_DIR};
use minionet_core::handoff::{self, NodeFacts};
use minionet_core::plan::{AddressPlan, NodePlan};
use minionet_netlink::Socket;
use serde_json::json;

/// Prints the plan of the nodes that were asked for.
///
/// # Errors
/// When the plan cannot hold, or an address has no place in it.
pub fn run(config: &Config, matches: &ArgMatches) -> Result<()> {
    let asked: Vec<IpAddr> = matches.get_many::<IpAddr>("address").into_iter().flatten().copied().collect();
    let own = config.node_ip.or_else(known_address);
    let plan = config.plan(subnet(own.or(asked.first().copied()))?)?;
    let json = matches.get_flag("json");
    let out = io::stdout().lock();
    if matches.get_flag("all") {
        return print(out, &plan, plan.all(), json);
    }
    let asked = if asked.is_empty() { own.into_iter().collect() } else { asked };
    if asked.is_empty() {
        bail!(
            "this node's own address is not known yet: name an address, give --node-ip, or start the daemon"
        );
    }
    let nodes: Vec<NodePlan> = asked.iter().map(|addr| find(&plan, *addr)).collect::<Result<_>>()?;
    print(out, &plan, nodes.into_iter(), json)
}

/// A node by its own address, or by that of one of its pods.
fn find(plan: &AddressPlan, addr: IpAddr) -> Result<NodePlan> {
    let pod_networks = plan.spec().pod_networks.iter();
    if pod_networks.clone().any(|p| p.network.contains(addr)) {
        let owner = plan
            .owner(addr)
            .with_context(|| format!("{addr} is in the pod network, but in no node's block"))?;
        return Ok(plan.node(owner)?);
    }
    Ok(plan.node(addr)?)
}

/// What the daemon found out when it ran last.
fn known_address() -> Option<IpAddr> {
    let read = |dir: &str| std::fs::read_to_string(Path::new(dir).join(handoff::FILE)).ok();
    let text = read(RUN_DIR).or_else(|| read(STATE_DIR))?;
    NodeFacts::parse(&text).ok().map(|facts| facts.node)
}

/// The subnet of an address, if it is one of this host's: the default of `node_networks`.
fn subnet(addr: Option<IpAddr>) -> Result<Option<Cidr>> {
    let Some(addr) = addr else { return Ok(None) };
    let addresses = Socket::open()?.addresses(None)?;
    // The subnet of a local address, or the one that a neighbour of ours is in.
    let of = |len, local| Cidr::containing(local, len).ok().filter(|c| c.contains(addr));
    let host = if addr.is_ipv4() { 32 } else { 128 };
    Ok(addresses.iter().filter(|a| a.prefix_len < host && a.global).find_map(|a| of(a.prefix_len, a.addr)))
}

fn print(
    mut out: impl Write,
    plan: &AddressPlan,
    nodes: impl Iterator<Item = NodePlan>,
    json: bool,
) -> Result<()> {
    let result = if json { print_json(&mut out, plan, nodes) } else { print_table(&mut out, plan, nodes) };
    match result {
        // `minionetd plan --all | head` is no failure.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot print the plan"),
    }
}

fn print_json(
    out: &mut impl Write,
    plan: &AddressPlan,
    nodes: impl Iterator<Item = NodePlan>,
) -> io::Result<()> {
    let pods = plan.spec().pod_networks.iter();
    let pods: Vec<_> = pods.map(|p| json!({"network": p.network, "node_prefix": p.node_prefix})).collect();
    let document = json!({
        "digest": format!("{:016x}", plan.digest()),
        "node_networks": plan.spec().node_networks,
        "pod_networks": pods,
        "nodes": nodes.collect::<Vec<_>>(),
    });
    writeln!(out, "{document:#}")
}

fn print_table(
    out: &mut impl Write,
    plan: &AddressPlan,
    nodes: impl Iterator<Item = NodePlan>,
) -> io::Result<()> {
    let list =
        |cidrs: &mut dyn Iterator<Item = Cidr>| cidrs.map(|c| c.to_string()).collect::<Vec<_>>().join(", ");
    let spec = plan.spec();
    writeln!(out, "node networks  {}", list(&mut spec.node_networks.iter().copied()))?;
    writeln!(out, "pod networks   {}", list(&mut spec.pod_networks.iter().map(|p| p.network)))?;
    writeln!(out, "digest         {:016x}\n", plan.digest())?;
    // As wide as the longest address that can occur.
    let node_width = if spec.node_networks.iter().any(|n| n.network().is_ipv6()) { 39 } else { 15 };
    writeln!(out, "{:node_width$}  {:>7}  {:17}  {:20}  GATEWAY", "NODE", "INDEX", "VTEP MAC", "POD CIDR")?;
    for node in nodes {
        for (i, block) in node.blocks.iter().enumerate() {
            if i == 0 {
                write!(out, "{:node_width$}  {:>7}  {}  ", node.node, node.index, node.mac)?;
            } else {
                write!(out, "{:node_width$}  {:>7}  {:17}  ", "", "", "")?;
            }
            writeln!(out, "{:20}  {}", block.cidr, block.gateway)?;
        }
    }
    Ok(())
}
