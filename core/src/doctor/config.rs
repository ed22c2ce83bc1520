//! Settings, plan, and room for pods.

use super::facts::Facts;
use super::{Findings, some};

/// The share of addresses in use from which it is told: nine tenths.
const NEARLY: (usize, usize) = (9, 10);

/// Judges the configuration.
pub fn examine(facts: &Facts, findings: &mut Findings) {
    match &facts.config {
        Ok(config) => {
            findings.ok("config", format!("cluster {}, {}", config.cluster_name, config.names().join(" ")))
        }
        Err(problem) => findings.error(
            "config",
            problem,
            "correct it where the finding says it is written; minionetd run --help lists all settings",
        ),
    }
    capacity(facts, findings);
    overlap(facts, findings);
}

fn capacity(facts: &Facts, findings: &mut Findings) {
    let Ok(place) = &facts.place else {
        findings.skipped("capacity", "this node's own address is not known");
        return;
    };
    let blocks: Vec<String> = place.me.blocks.iter().map(|b| b.cidr.to_string()).collect();
    let Ok(pods) = &facts.pods else {
        findings.skipped("capacity", "the leases cannot be read");
        return;
    };
    let (size, free) = pods.room;
    let used = size.saturating_sub(free);
    let remedy =
        "let pods run elsewhere, or choose larger blocks (a smaller node_prefix), which renumbers all pods";
    let text = format!("{used} of {size} addresses of {} are in use", blocks.join(" and "));
    match used {
        _ if size == 0 => findings.skipped("capacity", "no addresses are known"),
        _ if free == 0 => findings.error("capacity", format!("{text}: no pod can be started"), remedy),
        used if used * NEARLY.1 >= size * NEARLY.0 => findings.warning("capacity", text, remedy),
        _ => findings.ok("capacity", text),
    }
}

fn overlap(facts: &Facts, findings: &mut Findings) {
    let Ok(place) = &facts.place else {
        findings.skipped("overlap", "this node's own address is not known");
        return;
    };
    let pods = &place.plan.spec().pod_networks;
    let inside = |(addr, len, name): &(std::net::IpAddr, u8, String)| {
        pods.iter().any(|p| p.network.contains(*addr)).then(|| format!("{addr}/{len} on {name}"))
    };
    let inside: Vec<String> = place.local.iter().filter_map(inside).collect();
    let networks: Vec<String> = pods.iter().map(|p| p.network.to_string()).collect();
    if !inside.is_empty() {
        findings.warning(
            "overlap",
            format!("the pod network {} has addresses of this host in it: {}", networks.join(", "), some(&inside)),
            "choose a pod_network that is not in use, the same on every node, or remove the address; pods and that \
             network do not reach each other",
        );
    }
    findings.otherwise_ok("overlap", format!("nothing else is in {}", networks.join(", ")));
}
