//! Facts in, findings out: a healthy node, and what is changed in it.

mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::facts::*;
use super::*;
use crate::addr::Cidr;
use crate::config::{Config, Layer};
use crate::forward::{Backend, ForwardPolicy, TableFamily};
use crate::health::Health;
use crate::identity::{Basis, Identity};
use crate::membership::{FailureKind, Liveness};
use crate::overlay::object::Objects;
use crate::overlay::{self, Device, Local, Observed, ObservedDevice, ObservedNeighbour, ObservedRoute};
use crate::plan::NodePlan;
use crate::probe::view::{Agreement, Counters, PathState, PeerProbe, ProbeView};

const NOW: u64 = 1_800_000_000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn config(text: &str) -> Config {
    Config::from_layers(&[Layer::from_toml("file", &format!("cluster_name = \"c\"\n{text}"))]).unwrap()
}

fn place(config: &Config) -> (PlaceFacts, Vec<NodePlan>) {
    let plan = config.plan(Some("172.20.0.0/24".parse().unwrap())).unwrap();
    let me = plan.node(ip("172.20.0.1")).unwrap();
    let peers = vec![plan.node(ip("172.20.0.2")).unwrap(), plan.node(ip("172.20.0.3")).unwrap()];
    let device = Device {
        name: "minionet".into(),
        vni: config.vni,
        port: config.port,
        local: me.node,
        mac: me.mac,
        mtu: 1450,
    };
    let assigned = plan.assigned();
    let subnet: Cidr = "172.20.0.0/24".parse().unwrap();
    let encapsulation = config.encapsulation;
    let local = Local { me: &me, subnet, underlay: Some(2), encapsulation, assigned: &assigned };
    let wanted = overlay::desired(device, &local, &peers);
    let identity = Identity {
        address: me.node,
        prefix_len: 24,
        interface: "eth0".into(),
        basis: Basis::Listed,
        listed: true,
        also_listed: Vec::new(),
    };
    let local = vec![(me.node, 24, "eth0".to_owned())];
    (PlaceFacts { identity, plan, me, local, mtu: 1500, running: true, bridged: false, wanted }, peers)
}

/// The kernel as it should be: every change that would be made is made.
fn kernel(wanted: &crate::overlay::Overlay, peers: &[NodePlan]) -> KernelFacts {
    let device = &wanted.device;
    let observed_device = ObservedDevice {
        index: 3,
        up: true,
        is_vxlan: true,
        vni: device.vni,
        port: device.port,
        local: Some(device.local),
        mac: Some(device.mac),
        mtu: device.mtu,
        foreign_features: false,
    };
    let neighbour = |mac| ObservedNeighbour { mac: Some(mac), permanent: true, ours: true };
    let route = |dst, gateway, device, metric, refuses| ObservedRoute {
        dst,
        gateway,
        device,
        object: None,
        metric,
        refuses,
    };
    let leading = wanted.routes.iter().map(|(dst, via)| route(*dst, Some(via.address()), Some(3), 0, false));
    let refusing = wanted.refused.iter().map(|dst| route(*dst, None, None, overlay::REFUSING_METRIC, true));
    let routes: BTreeSet<ObservedRoute> = leading.chain(refusing).collect();
    let observed = Observed {
        device: Some(observed_device),
        addresses: wanted.addresses.iter().map(|a| (*a, 32)).collect(),
        neighbours: wanted.neighbours.iter().map(|(a, mac)| (*a, neighbour(*mac))).collect(),
        fdb: wanted.fdb.iter().map(|(mac, dst)| (*mac, *dst)).collect(),
        routes,
        objects: Objects::default(),
    };
    KernelFacts {
        observed,
        tunnels: vec![("flannel.1".into(), 1, 8472)],
        port_owners: Vec::new(),
        leads: peers.iter().flat_map(|p| &p.blocks).map(|b| (b.cidr, Some(3))).collect(),
        names: BTreeMap::from([(2, "eth0".to_owned()), (3, "minionet".to_owned())]),
    }
}

fn resolver(server: &str) -> ResolverFacts {
    let nodes: BTreeSet<IpAddr> = ["172.20.0.1", "172.20.0.2", "172.20.0.3"].map(ip).into();
    ResolverFacts {
        name: "minions.c.k8s.".into(),
        server: server.parse().unwrap(),
        udp: vec![Ok((nodes.clone(), 30)); 3],
        truncated: false,
        tcp: Ok((nodes, 30)),
    }
}

fn probed(node: &str) -> PeerProbe {
    PeerProbe {
        address: ip(node),
        vtep: ip("10.32.2.1"),
        state: Liveness::Alive,
        since: 0,
        last_reply: None,
        requests: 0,
        lost: 0,
        rtt: None,
        path_mtu: Some(1450),
        path: PathState::Full,
        mtu: Some(1450),
        plan: Agreement::Same,
        version: Some("1.0.0".into()),
        boot: None,
    }
}

fn healthy_with(settings: &str) -> Facts {
    let config = config(settings);
    let (place, peers) = place(&config);
    let answers = |peer: &NodePlan| PeerFacts {
        node: peer.node,
        ping: true,
        underlay: Some(true),
        tunnel: true,
        full_size: Some(true),
    };
    let probe = ProbeView {
        schema: 1,
        written: NOW,
        mtu: 1450,
        plan: String::new(),
        peers: vec![probed("172.20.0.2"), probed("172.20.0.3")],
        counters: Counters::default(),
    };
    let health = Health {
        schema: crate::health::SCHEMA,
        uptime: 100,
        again: 30,
        peer_routes: Some(2),
        rules: None,
        forward_policies: Vec::new(),
        troubles: Vec::new(),
    };
    let setting = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    Facts {
        version: "1.0.0".into(),
        now: NOW,
        daemon: DaemonFacts {
            ever: true,
            lives: true,
            version: Some("1.0.0".into()),
            health: Some(health),
            uptime: 110,
            written: vec![("peers.json".into(), NOW)],
            probe: Some(probe),
            registration: None,
            saved: peers.iter().map(|p| p.node).collect(),
        },
        resolvers: Ok(vec![resolver("172.20.0.253:53"), resolver("172.20.0.252:53")]),
        kernel: Ok(kernel(&place.wanted, &peers)),
        peers: Ok(peers.iter().map(answers).collect()),
        settings: [("ipv4/ip_forward", "1"), ("ipv4/conf/all/rp_filter", "1")].map(setting).into(),
        rules: Ok(Vec::new()),
        forward: Ok(Vec::new()),
        host: HostFacts::default(),
        cni: CniFacts {
            directory: "/etc/cni/net.d".into(),
            files: Ok(vec![
                file("10-minionet.conflist", &["minionet"]),
                file("99-loopback.conf", &["loopback"]),
            ]),
            plugin: PluginFacts {
                path: "/opt/cni/bin/minionet".into(),
                present: true,
                executable: true,
                interpreter: Ok(None),
                version: Ok("1.0.0".into()),
            },
        },
        pods: Ok(PodFacts {
            room: (253, 250),
            attachments: vec![("web".into(), true)],
            ..PodFacts::default()
        }),
        kube: KubeFacts::default(),
        place: Ok(place),
        config: Ok(config),
    }
}

fn file(name: &str, types: &[&str]) -> CniFile {
    CniFile { name: name.into(), types: Ok(types.iter().map(|t| (*t).to_owned()).collect()) }
}

pub(super) fn healthy() -> Facts {
    healthy_with("")
}

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
