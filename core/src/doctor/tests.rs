//! Facts in, findings out: a healthy node, and what is changed in it.

mod cases;
mod node;

use std::collections::BTreeSet;

pub(super) use self::node::healthy;
use self::node::{NOW, file, healthy_with, ip};
use super::facts::*;
use super::*;
use crate::forward::{Backend, ForwardPolicy, TableFamily};
use crate::membership::FailureKind;
use crate::overlay::{Observed, ObservedRoute};
use crate::probe::view::Agreement;

/// What is worse than `ok` after a change of a healthy node.
fn found(change: impl FnOnce(&mut Facts)) -> Vec<(&'static str, Verdict)> {
    let mut facts = healthy();
    change(&mut facts);
    of(&facts)
}

fn of(facts: &Facts) -> Vec<(&'static str, Verdict)> {
    let report = examine(facts);
    let bad = report.findings.iter().filter(|f| f.verdict > Verdict::Ok);
    bad.map(|f| (f.check, f.verdict)).collect()
}

fn place_of(facts: &mut Facts) -> &mut PlaceFacts {
    facts.place.as_mut().unwrap()
}

fn kernel_of(facts: &mut Facts) -> &mut KernelFacts {
    facts.kernel.as_mut().unwrap()
}

fn first_peer(facts: &mut Facts) -> &mut PeerFacts {
    &mut facts.peers.as_mut().unwrap()[0]
}

fn first_resolver(facts: &mut Facts) -> &mut ResolverFacts {
    &mut facts.resolvers.as_mut().unwrap()[0]
}

#[test]
fn a_healthy_node_has_nothing() {
    let report = examine(&healthy());
    assert_eq!(report.verdict, Verdict::Ok, "{report:#?}");
    for check in CHECKS {
        assert!(report.findings.iter().any(|f| f.check == check.id), "{} says nothing", check.id);
    }
}

#[test]
fn ids_are_unique_and_every_bad_finding_has_a_remedy() {
    let ids: BTreeSet<&str> = CHECKS.iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), CHECKS.len());
    // Everything that can be missing is.
    let mut facts = healthy();
    facts.config = Err("bad".into());
    facts.place = Err("unknown".into());
    facts.kernel = Err("unreadable".into());
    facts.resolvers = Err("none".into());
    facts.peers = Err("unknown".into());
    facts.rules = Err("unreadable".into());
    facts.forward = Err("unreadable".into());
    facts.pods = Err("unreadable".into());
    facts.cni.files = Err("unreadable".into());
    facts.daemon = DaemonFacts::default();
    let report = examine(&facts);
    for finding in &report.findings {
        assert!(ids.contains(finding.check), "{finding:?}");
        assert_eq!(finding.remedy.is_some(), finding.verdict >= Verdict::Warning, "{finding:?}");
    }
    let bad: Vec<&str> =
        report.findings.iter().filter(|f| f.verdict > Verdict::Ok).map(|f| f.check).collect();
    assert_eq!(bad, ["config", "daemon"], "one cause is not told ten times");
}

#[test]
fn what_does_not_matter_is_not_found() {
    assert!(found(|f| f.kube.proxy = Some((String::new(), "kube-proxy".into()))).is_empty());
    assert!(found(|f| f.kube.proxy = Some(("10.32.0.0/12".into(), "x".into()))).is_empty());
    assert!(found(|f| f.kube.kubelet = Some(("10.32.1.0/24".into(), "x".into()))).is_empty());
    assert!(found(|f| f.kube.node_ip = Some("172.20.0.1".into())).is_empty());
    assert!(found(|f| f.host.network_manager = Some([true, true])).is_empty());
    assert!(found(|f| drop(f.settings.insert("ipv4/conf/eth0/rp_filter".into(), "1".into()))).is_empty());
    assert!(
        found(|f| drop(f.settings.insert("bridge/bridge-nf-call-iptables".into(), "1".into()))).is_empty()
    );
    // Truncation with TCP to fall back to is how it is meant.
    assert!(found(|f| (first_resolver(f).truncated, first_resolver(f).udp) = (true, vec![])).is_empty());
    // A cluster of one.
    let alone = found(|f| f.peers = Ok(Vec::new()));
    assert!(alone.is_empty(), "{alone:?}");
}

#[test]
fn dns_is_judged_by_what_it_says() {
    use Verdict::{Error, Warning};
    let truncated = found(|f| {
        let resolver = first_resolver(f);
        (resolver.truncated, resolver.udp) = (true, vec![]);
        resolver.tcp = Err((FailureKind::Timeout, "x".into()));
    });
    assert_eq!(truncated, [("dns-tcp", Warning), ("dns-truncation", Error)]);
    // A server without the name says so by both; it is told once.
    let unknown = found(|f| {
        let no: Reply = Err((FailureKind::NxDomain, "x".into()));
        (first_resolver(f).udp, first_resolver(f).tcp) = (vec![no.clone()], no);
    });
    assert_eq!(unknown, [("dns-udp", Error)]);
    let lacking = found(|f| {
        for reply in first_resolver(f).udp.clone().iter_mut() {
            reply.as_mut().unwrap().0.remove(&ip("172.20.0.3"));
            first_resolver(f).udp = vec![reply.clone()];
            first_resolver(f).tcp = reply.clone();
        }
    });
    assert_eq!(lacking, [("dns-agreement", Warning)]);
    let sample = |nodes: [&str; 2]| -> Reply { Ok((nodes.map(ip).into(), 30)) };
    let sampling = found(|f| {
        first_resolver(f).udp =
            vec![sample(["172.20.0.1", "172.20.0.2"]), sample(["172.20.0.2", "172.20.0.3"])];
    });
    assert_eq!(sampling, [("dns-sampling", Warning)]);
    let unlisted = found(|f| place_of(f).identity.address = ip("172.20.0.77"));
    assert_eq!(unlisted, [("dns-self", Error)]);
    let new = found(|f| assert!(f.daemon.saved.pop_first().is_some()));
    assert_eq!(new, [("members", Verdict::Note)], "listed, and no peer yet");
    let old = found(|f| assert!(f.daemon.saved.insert(ip("172.20.0.9"))));
    assert_eq!(old, [("members", Verdict::Note)], "a peer, and not listed any more");
    let none = found(|f| f.resolvers = Err("no server".into()));
    assert_eq!(none, [("resolvers", Error)]);
}

#[test]
fn the_tunnel_is_blamed_only_when_nothing_else_is() {
    use Verdict::{Error, Warning};
    let cut = |f: &mut Facts| {
        for peer in f.peers.as_mut().unwrap() {
            (peer.tunnel, peer.full_size) = (false, None);
        }
    };
    assert_eq!(found(cut), [("vxlan-filtered", Error), ("tunnel", Error)]);
    let with_device_down = found(|f| {
        cut(f);
        kernel_of(f).observed.device.as_mut().unwrap().up = false;
    });
    assert_eq!(with_device_down, [("device", Error), ("tunnel", Error)]);
    let with_another_plan = found(|f| {
        cut(f);
        f.daemon.probe.as_mut().unwrap().peers[0].plan = Agreement::Different;
    });
    assert_eq!(with_another_plan, [("tunnel", Error), ("plans", Error)]);
    let gone = found(|f| {
        let node = first_peer(f).node;
        *first_peer(f) =
            PeerFacts { node, ping: false, underlay: Some(false), tunnel: false, full_size: None };
    });
    assert_eq!(gone, [("underlay", Error), ("tunnel", Warning)]);
}

#[test]
fn without_the_device_one_thing_is_said() {
    let gone = found(|f| {
        let kernel = kernel_of(f);
        (kernel.observed, kernel.leads) =
            (Observed::default(), kernel.leads.iter().map(|l| (l.0, None)).collect());
    });
    assert_eq!(gone, [("device", Verdict::Error)]);
}

#[test]
fn rules_of_other_programs_count_unless_they_help() {
    let chain = |open| ForwardPolicy {
        backend: Backend::Nft,
        family: TableFamily::Ip,
        table: "filter".into(),
        chain: "FORWARD".into(),
        open,
        remedy: vec!["iptables -I FORWARD -s 10.32.0.0/12 -j ACCEPT".into()],
    };
    assert!(found(|f| f.forward = Ok(vec![chain(true)])).is_empty());
    assert_eq!(found(|f| f.forward = Ok(vec![chain(false)])), [("forward-policy", Verdict::Warning)]);
    let bridged = found(|f| {
        f.forward = Ok(vec![chain(false)]);
        place_of(f).bridged = true;
        f.settings.insert("bridge/bridge-nf-call-iptables".into(), "1".into());
    });
    assert_eq!(bridged, [("bridge-netfilter", Verdict::Warning), ("forward-policy", Verdict::Warning)]);
}

#[test]
fn the_filter_of_sources_matters_where_there_are_two_ways() {
    let mut facts = healthy_with("encapsulation = \"cross-subnet\"");
    for route in &mut kernel_of(&mut facts).leads {
        route.1 = Some(2);
    }
    let observed = &mut kernel_of(&mut facts).observed;
    let routes = std::mem::take(&mut observed.routes);
    let on_nic = |r: ObservedRoute| ObservedRoute { device: r.device.map(|_| 2), ..r };
    observed.routes = routes.into_iter().map(on_nic).collect();
    assert!(of(&facts).is_empty(), "{:?}", examine(&facts));
    facts.settings.insert("ipv4/conf/eth0/rp_filter".into(), "0".into());
    assert_eq!(of(&facts), [("rp-filter", Verdict::Warning)], "the higher of `all` and the interface counts");
    facts.settings.insert("ipv4/conf/eth0/rp_filter".into(), "2".into());
    assert!(of(&facts).is_empty());
}
