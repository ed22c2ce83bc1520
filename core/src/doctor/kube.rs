//! Kubernetes' own ideas of the addresses of pods and nodes.

use std::net::IpAddr;

use super::Findings;
use super::facts::Facts;
use crate::addr::Cidr;

/// Judges them.
pub fn examine(facts: &Facts, findings: &mut Findings) {
    let Ok(place) = &facts.place else {
        findings.skipped("kube-proxy", "this node's own address is not known");
        findings.skipped("kubelet", "this node's own address is not known");
        return;
    };
    let networks: Vec<Cidr> = place.plan.spec().pod_networks.iter().map(|p| p.network).collect();
    match &facts.kube.proxy {
        None => findings.skipped("kube-proxy", "kube-proxy is not seen here"),
        Some((text, _)) if same(text, &networks) => findings.ok("kube-proxy", format!("its cluster CIDR is {text}")),
        Some((text, whence)) if text.is_empty() => findings.ok("kube-proxy", format!("{whence} sets no cluster CIDR")),
        Some((text, whence)) => findings.warning(
            "kube-proxy",
            format!("its cluster CIDR is {text} ({whence}), the pod network is {}: it masquerades pods' connections to services", join(&networks)),
            format!("set its cluster CIDR to {}, or leave it out", join(&networks)),
        ),
    }
    kubelet(facts, findings);
}

fn kubelet(facts: &Facts, findings: &mut Findings) {
    let Ok(place) = &facts.place else { return };
    if facts.kube.kubelet.is_none() && facts.kube.node_ip.is_none() {
        findings.skipped("kubelet", "kubelet is not seen here");
        return;
    }
    let blocks: Vec<Cidr> = place.me.blocks.iter().map(|b| b.cidr).collect();
    if let Some((text, whence)) = &facts.kube.kubelet
        && !text.is_empty()
        && !same(text, &blocks)
    {
        findings.warning(
            "kubelet",
            format!(
                "its pod CIDR is {text} ({whence}), the pods of this node get addresses of {}",
                join(&blocks)
            ),
            format!("leave it out, or set it to {}", join(&blocks)),
        );
    }
    let own = place.identity.address;
    if let Some(text) = &facts.kube.node_ip {
        let named: Vec<IpAddr> = text.split(',').filter_map(|a| a.trim().parse().ok()).collect();
        if !named.is_empty() && !named.iter().any(|a| *a == own || a.is_unspecified()) {
            findings.warning(
                "kubelet",
                format!("it says that this node is {text}, minionet that it is {own}"),
                format!("set --node-ip={own} for kubelet, or node_ip for minionetd"),
            );
        }
    }
    findings.otherwise_ok("kubelet", "it does not contradict");
}

/// Whether a list of networks, as written, is exactly these.
fn same(text: &str, networks: &[Cidr]) -> bool {
    let mut named: Vec<Option<Cidr>> = text.split(',').map(|cidr| cidr.trim().parse().ok()).collect();
    let mut wanted: Vec<Option<Cidr>> = networks.iter().copied().map(Some).collect();
    named.sort();
    wanted.sort();
    named == wanted
}

fn join(networks: &[Cidr]) -> String {
    networks.iter().map(Cidr::to_string).collect::<Vec<_>>().join(",")
}
