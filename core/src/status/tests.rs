//! Reports and their text, compared with files in `tests/`.
//!
//! After a wanted change, `MINIONET_RENEW=1 cargo test -p minionet-core status::` writes them anew.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

use super::*;
use crate::cni::attachment::{Key, Limits, NetnsRef, PodLink, Record};
use crate::cni::bandwidth::Bucket;
use crate::cni::ipam::{Assigned, Origin};
use crate::cni::portmap::{PortMapping, Protocol};
use crate::overlay::{Observed, ObservedNeighbour, ObservedRoute, fixture};
use crate::state::tests::{NOW, probes, state};
use crate::state::{self, State};

const NARROW: Style = Style { width: 80, colours: false };
const WIDE: Style = Style { width: 140, colours: false };

/// The number of the device in the kernel.
const INDEX: u32 = 7;

/// A kernel that holds exactly what a state needs.
fn kernel(state: &State) -> Observed {
    let (node, device) = (state.node.as_ref().unwrap(), &state.device.as_ref().unwrap().vtep);
    let mut observed = Observed {
        device: Some(fixture::sound(INDEX, device)),
        addresses: node.place.blocks.iter().map(|block| (block.gateway, 32)).collect(),
        ..Observed::default()
    };
    for peer in state.peers.iter().filter(|peer| peer.state.is_peer()) {
        let mac = peer.mac.unwrap();
        observed.fdb.insert((mac, peer.address));
        for block in &peer.blocks {
            let neighbour = ObservedNeighbour { mac: Some(mac), permanent: true, ours: true };
            observed.neighbours.insert(block.gateway, neighbour);
            let (dst, gateway) = (block.cidr, Some(block.gateway));
            observed.routes.insert(ObservedRoute {
                dst,
                gateway,
                device: Some(INDEX),
                object: None,
                metric: 0,
                refuses: false,
            });
        }
    }
    observed
}

fn record(name: Option<&str>, container: &str, addresses: &[(&str, &str)]) -> Record {
    let key = Key { network: "minionet".into(), container: container.into(), ifname: "eth0".into() };
    let id = key.id();
    let assigned = |(address, gateway): &(&str, &str)| Assigned {
        address: address.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
    };
    let mac = "0e:70:0a:00:01:02".parse().unwrap();
    Record {
        schema: crate::cni::attachment::SCHEMA,
        writer: "0.1.0".into(),
        pod: name.map(str::to_owned),
        boot: "boot".into(),
        netns: NetnsRef { path: "/run/netns/x".into(), device: 4, inode: 4_026_532_000 },
        origin: Origin::default(),
        link: PodLink {
            host_ifname: id.host_ifname(),
            alias: id.alias(&key),
            host_mac: mac,
            ifname: key.ifname.clone(),
            mac,
            mtu: 1450,
            addresses: addresses.iter().map(assigned).collect(),
            source_rules: Vec::new(),
        },
        key,
        ports: Vec::new(),
        limits: Limits::default(),
    }
}

fn pods() -> Vec<PodEvidence> {
    let mut web = record(
        Some("default/web-5d78c9869d-x2x7k"),
        "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
        &[("10.0.1.2", "10.0.1.1"), ("fd00:32:0:1::2", "fd00:32:0:1::1")],
    );
    let port = |host_ip: Option<&str>, host_port, container_port| PortMapping {
        protocol: Protocol::Tcp,
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port,
        container_port,
    };
    web.ports = vec![port(None, 8080, 80), port(Some("::"), 8443, 443), port(Some("127.0.0.1"), 9000, 9000)];
    web.limits.egress = Some(Bucket { rate: 1_250_000, burst: 65536, queue: 65536 });
    let bare = record(None, "aaaabbbbccccddddeeeeffff00001111", &[("10.0.1.3", "10.0.1.1")]);
    vec![
        PodEvidence { record: bare, ready: false, linked: Some(false) },
        PodEvidence { record: web, ready: true, linked: Some(true) },
    ]
}

fn evidence(state: Option<(State, Source)>, overlay: Observed) -> Evidence {
    Evidence {
        now: NOW,
        running: Running::Yes,
        last_sign: Some(NOW - 1),
        state,
        probe: None,
        facts: None,
        kernel: Some(KernelEvidence { overlay, table: Some(true) }),
        pods: Ok(Vec::new()),
        unknown: Vec::new(),
    }
}

/// A node with some trouble of every kind.
fn troubled() -> Report {
    let state = state();
    let mut overlay = kernel(&state);
    overlay.routes.retain(|route| route.dst.to_string() != "10.0.2.0/24");
    let stray = "10.0.77.0/24".parse().unwrap();
    overlay.routes.insert(ObservedRoute {
        dst: stray,
        gateway: None,
        device: Some(INDEX),
        object: None,
        metric: 0,
        refuses: false,
    });
    report(Evidence { pods: Ok(pods()), ..evidence(Some((state, Source::Daemon)), overlay) })
}

/// A node on which all is well.
fn healthy() -> Report {
    report(evidence(Some((well(), Source::Daemon)), kernel(&well())))
}

fn well() -> State {
    let mut state = state();
    state.troubles.clear();
    state.peers.retain(|peer| peer.address == IpAddr::from([172, 20, 0, 2]));
    (state.dns.names[0].failures, state.dns.names[0].complete) = (0, true);
    state.device.as_mut().unwrap().peer_routes = 2;
    let registration = state.registration.as_mut().unwrap();
    (registration.trouble, registration.failures, registration.removed) = (None, 0, 0);
    registration.suspects.clear();
    state
}

/// Compares with a file, or writes it where that is asked for.
fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/status/tests").join(name);
    if std::env::var_os("MINIONET_RENEW").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{name} is not what it was; found:\n{found}");
}

fn fits(text: &str, width: usize) {
    for line in text.lines() {
        assert!(line.chars().count() <= width, "wider than {width}: {line}");
        assert_eq!(line, line.trim_end(), "blanks at the end");
    }
}

#[test]
fn a_healthy_node_reads_well() {
    let report = healthy();
    assert_eq!((report.verdict, report.warnings.len()), (Verdict::Well, 0), "{:?}", report.warnings);
    let text = status(&report, NARROW);
    fits(&text, 80);
    golden("healthy.txt", &text);
}

#[test]
fn pods_that_are_not_known_are_no_empty_list() {
    let pods = Err("the pods can only be seen by root".to_owned());
    let report = report(Evidence { pods, ..evidence(Some((well(), Source::Daemon)), kernel(&well())) });
    assert_eq!(report.verdict, Verdict::Warnings);
    assert_eq!(report.warnings[0].text, "the pods can only be seen by root");
    assert_eq!(super::pods(&report, NARROW), "the pods can only be seen by root\n");
}

#[test]
fn troubles_are_on_top_and_80_columns_are_enough() {
    let report = troubled();
    assert_eq!(report.verdict, Verdict::Warnings);
    let text = status(&report, NARROW);
    fits(&text, 80);
    golden("troubled.txt", &text);
}

#[test]
fn more_columns_are_made_use_of() {
    let text = status(&troubled(), WIDE);
    fits(&text, 140);
    assert!(text.lines().count() < status(&troubled(), NARROW).lines().count());
    golden("wide.txt", &text);
}

#[test]
fn few_columns_are_enough_too() {
    fits(&status(&healthy(), Style { width: 40, colours: false }), 40);
}

#[test]
fn what_a_dead_daemon_left_is_shown_with_its_age() {
    let mut state = state();
    state.written = NOW - 600;
    let overlay = kernel(&state);
    let evidence = evidence(Some((state, Source::File)), overlay);
    let evidence = Evidence { running: Running::No, last_sign: Some(NOW - 300), ..evidence };
    let report = report(evidence);
    assert_eq!(report.verdict, Verdict::Failed);
    let text = status(&report, NARROW);
    fits(&text, 80);
    golden("dead.txt", &text);
}

#[test]
fn newer_results_of_the_probe_take_the_place_of_older_ones() {
    let mut old = state();
    old.written = NOW - 600;
    let mut newer = probes();
    newer.written = NOW - 10;
    newer.peers[0].lost = 16;
    let overlay = kernel(&old);
    let evidence = Evidence { probe: Some(newer), ..evidence(Some((old, Source::File)), overlay) };
    let report = report(evidence);
    assert_eq!(report.peers[0].peer.probe.as_ref().unwrap().lost, 16);
}

#[test]
fn without_any_state_the_kernel_tells_what_it_knows() {
    let state = state();
    let mut overlay = kernel(&state);
    overlay.routes.retain(|route| route.dst.to_string() != "10.0.2.0/24");
    overlay.device.as_mut().unwrap().up = false;
    let evidence = Evidence { running: Running::Never, last_sign: None, ..evidence(None, overlay) };
    let report = report(evidence);
    assert_eq!(report.verdict, Verdict::Failed);
    let first = &report.peers[0];
    assert_eq!(first.peer.blocks.len(), 1, "the IPv6 route is left");
    assert_eq!(first.peer.state, state::Standing::Unknown);
    let text = status(&report, NARROW);
    fits(&text, 80);
    golden("never.txt", &text);
}

#[test]
fn nothing_at_all_is_said_plainly() {
    let evidence = Evidence {
        running: Running::Never,
        last_sign: None,
        kernel: Some(KernelEvidence { overlay: Observed::default(), table: None }),
        ..evidence(None, Observed::default())
    };
    let text = status(&report(evidence), NARROW);
    assert!(text.starts_with("FAILED   minionetd has never run"), "{text}");
    assert!(text.contains("no device minionet"), "{text}");
}

#[test]
fn a_peer_is_programmed_when_all_three_objects_are_right() {
    let state = well();
    let whole = kernel(&state);
    let lacks = |overlay: Observed| {
        let report = report(evidence(Some((state.clone(), Source::Daemon)), overlay));
        (report.peers[0].programmed, report.peers[0].lacks.clone())
    };
    assert_eq!(lacks(whole.clone()), (Some(true), Vec::new()));
    let mut fdb = whole.clone();
    fdb.fdb.clear();
    assert_eq!(lacks(fdb), (Some(false), vec!["fdb".to_owned()]));
    let mut neighbour = whole.clone();
    neighbour.neighbours.values_mut().for_each(|n| n.permanent = false);
    assert_eq!(lacks(neighbour), (Some(false), vec!["neighbour".to_owned()]));
    let mut elsewhere = whole.clone();
    elsewhere.routes = whole.routes.iter().map(|r| ObservedRoute { device: Some(INDEX + 1), ..*r }).collect();
    assert_eq!(lacks(elsewhere), (Some(false), vec!["route".to_owned()]));
    let mut beside = whole;
    let wrong = ObservedRoute { gateway: None, ..*beside.routes.first().unwrap() };
    beside.routes.insert(wrong);
    assert_eq!(lacks(beside), (Some(true), Vec::new()), "another route beside the right one");
}

#[test]
fn many_peers_are_cut_in_the_overview_and_the_bad_ones_come_first() {
    let mut state = well();
    let sample = state.peers[0].clone();
    for n in 3..=60 {
        let address = IpAddr::from([172, 20, 0, n]);
        state.peers.push(state::Peer { address, ..sample.clone() });
    }
    let dead = state.peers[40].probe.as_mut().unwrap();
    dead.state = crate::membership::Liveness::Dead;
    let report = report(evidence(Some((state.clone(), Source::Daemon)), kernel(&state)));
    let text = status(&report, NARROW);
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("172.20.0.")).collect();
    assert_eq!(rows.len(), 20);
    assert!(rows[0].starts_with("172.20.0.42") && rows[0].contains("dead"), "{}", rows[0]);
    assert!(text.contains("and 39 more: minionetd peers"), "{text}");
    let all = super::peers(&report, NARROW);
    assert_eq!(all.lines().filter(|line| line.starts_with("172.20.0.")).count(), 59);
}

#[test]
fn colours_add_nothing_but_colours() {
    let plain = status(&troubled(), NARROW);
    let coloured = status(&troubled(), Style { colours: true, ..NARROW });
    assert_ne!(plain, coloured);
    let mut stripped = String::new();
    let mut parts = coloured.split("\x1b[");
    stripped += parts.next().unwrap();
    for part in parts {
        stripped += part.split_once('m').unwrap().1;
    }
    let trimmed: Vec<&str> = stripped.lines().map(str::trim_end).collect();
    assert_eq!(trimmed, plain.lines().collect::<Vec<_>>());
}

#[test]
fn only_what_is_wrong_changes_the_verdict() {
    let mut state = well();
    state.peers[0].probe.as_mut().unwrap().version = Some("0.0.9".into());
    let report = report(evidence(Some((state.clone(), Source::Daemon)), kernel(&state)));
    assert_eq!(report.verdict, Verdict::Well);
    assert_eq!(report.warnings[0].severity, Severity::Note);
    let statuses = [Verdict::Well, Verdict::Warnings, Verdict::Failed].map(Verdict::exit_status);
    assert_eq!(statuses, [0, 3, 4]);
}

#[test]
fn somebody_who_undoes_everything_again_and_again_is_noticed() {
    let mut state = well();
    let repair = state.repairs.last[0].clone();
    state.repairs.last = vec![state::Repair { at: NOW - 10, ..repair }; 6];
    let report = report(evidence(Some((state.clone(), Source::Daemon)), kernel(&state)));
    assert!(report.warnings[0].text.starts_with("somebody else changes"), "{:?}", report.warnings);
}

/// Every key of the document with the kind of its value; elements of lists are `[]`, and the names
/// in maps whose keys are data are `*`.
fn keys(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    const MAPS: [&str; 3] = [".dns.replies", ".repairs.counts", ".rounds.changes"];
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = if MAPS.contains(&path) { "*" } else { key };
                keys(value, &format!("{path}.{key}"), into);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| keys(value, &format!("{path}[]"), into)),
        Value::Null => into.extend([format!("{path} null")]),
        Value::Bool(_) => into.extend([format!("{path} boolean")]),
        Value::Number(_) => into.extend([format!("{path} number")]),
        Value::String(_) => into.extend([format!("{path} string")]),
    }
}

#[test]
fn the_keys_of_the_document_stay() {
    let document: Value = serde_json::from_str(&troubled().to_text()).unwrap();
    let mut found = BTreeSet::new();
    keys(&document, "", &mut found);
    let text: String = found.iter().map(|key| format!("{key}\n")).collect();
    golden("keys.txt", &text);
    let read: Report = serde_json::from_str(&troubled().to_line()).unwrap();
    assert_eq!(read, troubled());
}

#[test]
fn every_key_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/status.md");
    let documentation = std::fs::read_to_string(path).unwrap();
    let document: Value = serde_json::from_str(&troubled().to_text()).unwrap();
    let mut found = BTreeSet::new();
    keys(&document, "", &mut found);
    for key in found {
        let (path, _) = key.split_once(' ').unwrap();
        let name = path.rsplit('.').next().unwrap().trim_end_matches("[]");
        assert!(name == "*" || documentation.contains(&format!("`{name}`")), "docs/status.md lacks {path}");
    }
}
