//! Whether peers are reached, on the underlay and through the tunnel.

use super::facts::{Facts, PeerFacts};
use super::{Findings, some};
use crate::config::Config;
use crate::constants::DEVICE;
use crate::probe::view::{Agreement, PathState};
use crate::words::{choose, count};

/// All checks of this topic that need peers.
const NEED_PEERS: [&str; 4] = ["underlay", "vxlan-filtered", "tunnel", "path-mtu"];

/// Judges the ways to the peers.
pub fn examine(facts: &Facts, findings: &mut Findings) {
    plans(facts, findings);
    let (Ok(peers), Ok(config)) = (&facts.peers, &facts.config) else {
        let why = facts.peers.as_ref().err().map_or("the settings cannot be used", String::as_str);
        NEED_PEERS.iter().for_each(|check| findings.skipped(check, why));
        return;
    };
    if peers.is_empty() {
        NEED_PEERS.iter().for_each(|check| findings.skipped(check, "there are no peers"));
        return;
    }
    underlay(peers, config, findings);
    tunnel(facts, peers, config, findings);
    full_size(facts, peers, findings);
}

fn nodes<'a>(peers: impl Iterator<Item = &'a PeerFacts>) -> Vec<String> {
    peers.map(|peer| peer.node.to_string()).collect()
}

/// `1 of 2 peers does this: 172.20.0.2`
fn of_peers(some_of: &[String], peers: &[PeerFacts], one: &str, several: &str) -> String {
    let what = choose(some_of.len(), one, several);
    format!("{} of {} {what}: {}", some_of.len(), count(peers.len(), "peer"), some(some_of))
}

fn all_answer(peers: &[PeerFacts], how: &str) -> String {
    match peers.len() {
        1 => format!("the peer answers{how}"),
        number => format!("all {number} peers answer{how}"),
    }
}

fn underlay(peers: &[PeerFacts], config: &Config, findings: &mut Findings) {
    let is_silent = |p: &&PeerFacts| !p.ping && p.underlay != Some(true) && !p.tunnel;
    let silent = nodes(peers.iter().filter(is_silent));
    if !silent.is_empty() {
        findings.error(
            "underlay",
            of_peers(&silent, peers, "does not answer on any channel", "do not answer on any channel"),
            "start the node, or take it out of DNS if it is gone; otherwise mend the network between the nodes (ping it)",
        );
    }
    // A node that answers and whose daemon does not.
    let mute = nodes(peers.iter().filter(|p| p.underlay == Some(false) && !is_silent(p)));
    if !mute.is_empty() {
        let port = config.trace_port.map_or("off".to_owned(), |port| port.to_string());
        findings.warning(
            "underlay",
            of_peers(&mute, peers, "has a daemon that does not answer on the underlay", "have daemons that do not answer on the underlay"),
            format!("there: systemctl status minionetd; it must run, know this node, and have trace_port {port}, which must be open between the nodes"),
        );
    }
    findings.otherwise_ok("underlay", all_answer(peers, ""));
}

fn tunnel(facts: &Facts, peers: &[PeerFacts], config: &Config, findings: &mut Findings) {
    let lives = |p: &PeerFacts| p.underlay == Some(true) || (p.underlay.is_none() && p.ping);
    let cut = nodes(peers.iter().filter(|p| !p.tunnel && lives(p)));
    if cut.is_empty() {
        findings.ok("vxlan-filtered", "VXLAN passes wherever other UDP does");
        let silent = nodes(peers.iter().filter(|p| !p.tunnel));
        match silent.is_empty() {
            true => findings.ok("tunnel", all_answer(peers, " through the tunnel")),
            false => findings.warning(
                "tunnel",
                of_peers(
                    &silent,
                    peers,
                    "does not answer through the tunnel",
                    "do not answer through the tunnel",
                ),
                "see the check underlay: the daemons there have to run for an answer",
            ),
        }
        return;
    }
    // Tables that are wrong here explain it better than the network.
    let explained = ["device", "peer-tables", "peer-routes", "vxlan-port", "nft-table"]
        .iter()
        .any(|c| findings.is_bad(c));
    let first = &cut[0];
    let trace = format!("minionetd trace {first} names the hop that loses the packets");
    if explained || facts.kernel.as_ref().is_ok_and(|k| k.observed.device.is_none()) {
        findings.skipped("vxlan-filtered", format!("{DEVICE} or its tables are not right on this node"));
    } else if cut.iter().any(|node| different_plan(facts, node)) {
        findings.skipped("vxlan-filtered", "a peer has another plan");
    } else {
        findings.error(
            "vxlan-filtered",
            of_peers(
                &cut,
                peers,
                "answers beside the tunnel and not through it",
                "answer beside the tunnel and not through it",
            ) + ": VXLAN is dropped on the way, or by a rule on either node",
            format!(
                "open UDP port {} between all nodes: security groups, network ACLs, firewalls; {trace}",
                config.port
            ),
        );
    }
    findings.error(
        "tunnel",
        of_peers(&cut, peers, "is not reached through the tunnel", "are not reached through the tunnel"),
        trace,
    );
}

fn different_plan(facts: &Facts, node: &str) -> bool {
    let peers = facts.daemon.probe.iter().flat_map(|view| &view.peers);
    peers.filter(|p| p.plan == Agreement::Different).any(|p| p.address.to_string() == node)
}

fn full_size(facts: &Facts, peers: &[PeerFacts], findings: &mut Findings) {
    let Ok(place) = &facts.place else { return };
    let mtu = place.wanted.device.mtu;
    let narrow = peers.iter().filter(|p| p.tunnel && p.full_size == Some(false));
    let narrow: Vec<String> = narrow
        .map(|peer| {
            let known =
                facts.daemon.probe.iter().flat_map(|view| &view.peers).find(|p| p.address == peer.node);
            match known.filter(|p| p.path == PathState::Limited).and_then(|p| p.path_mtu) {
                Some(passes) => format!("{} ({passes} passes)", peer.node),
                None => peer.node.to_string(),
            }
        })
        .collect();
    if !narrow.is_empty() {
        findings.error(
            "path-mtu",
            format!("packets of {mtu} octets do not pass through the tunnel to {}", some(&narrow)),
            "raise the MTU on the way, or set underlay_mtu to what it carries, on every node, and restart the pods",
        );
        return;
    }
    match peers.iter().any(|p| p.full_size == Some(true)) {
        true => findings.ok("path-mtu", format!("{mtu} octets pass")),
        false => findings.skipped("path-mtu", "no peer answers through the tunnel"),
    }
}

fn plans(facts: &Facts, findings: &mut Findings) {
    let Some(view) = &facts.daemon.probe else {
        findings.skipped("plans", "there are no results of the probe");
        return;
    };
    let of = |agreement| view.peers.iter().filter(move |p| p.plan == agreement);
    let different: Vec<String> = of(Agreement::Different).map(|p| p.address.to_string()).collect();
    if !different.is_empty() {
        findings.error(
            "plans",
            format!(
                "{} {} another plan: no pod there and none here reach each other",
                some(&different),
                choose(different.len(), "has", "have")
            ),
            "give every node the same node_networks, pod_network and node_prefix (minionetd plan prints the digest)",
        );
    }
    let others = view.peers.iter().filter_map(|p| {
        let version = p.version.as_ref().filter(|version| **version != facts.version)?;
        Some(format!("{} {version}", p.address))
    });
    let others: Vec<String> = others.collect();
    if !others.is_empty() {
        findings.note("plans", format!("other versions run: {}", some(&others)));
    }
    findings.otherwise_ok("plans", {
        let same = of(Agreement::Same).count();
        format!("{same} of {} {} the same plan", count(view.peers.len(), "peer"), choose(same, "has", "have"))
    });
}
