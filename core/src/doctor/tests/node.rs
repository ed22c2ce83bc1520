//! A healthy node: what there is to see of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::facts::*;
use crate::addr::Cidr;
use crate::config::{Config, Layer};
use crate::health::Health;
use crate::identity::{Basis, Identity};
use crate::membership::Liveness;
use crate::overlay::object::Objects;
use crate::overlay::{self, Device, Local, Observed, ObservedNeighbour, ObservedRoute, fixture};
use crate::plan::NodePlan;
use crate::probe::view::{Agreement, Counters, PathState, PeerProbe, ProbeView};

pub(super) const NOW: u64 = 1_800_000_000;

pub(super) fn ip(text: &str) -> IpAddr {
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
        device: Some(fixture::sound(3, &wanted.device)),
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

pub(super) fn healthy_with(settings: &str) -> Facts {
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

pub(super) fn file(name: &str, types: &[&str]) -> CniFile {
    CniFile { name: name.into(), types: Ok(types.iter().map(|t| (*t).to_owned()).collect()) }
}

pub(in crate::doctor) fn healthy() -> Facts {
    healthy_with("")
}
