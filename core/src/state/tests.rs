//! The document, from a membership that has seen something.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::membership::{
    Complete, FailureKind, Liveness, Membership, Now, Outcome, Reply, Round, Scope, Thresholds,
};
use crate::overlay::{Change, NextHop};
use crate::plan::{AddressPlan, PlanSpec};
use crate::probe::view::{Agreement, PathState, ProbeView, RttView};

/// When the documents of the tests are written: 2026-01-01T00:00:00Z.
pub(crate) const NOW: u64 = 1_767_225_600;

const NAME: &str = "minions.cncfdemo.k8s.";

pub(crate) fn at(seconds: u64) -> Now {
    Now { monotonic: Duration::from_secs(1000 + seconds), unix: NOW - 100 + seconds }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn plan() -> AddressPlan {
    let network = |network: &str, node_prefix| crate::plan::PodNetwork {
        network: network.parse().unwrap(),
        node_prefix,
    };
    AddressPlan::new(PlanSpec {
        node_networks: vec!["172.20.0.0/16".parse().unwrap()],
        pod_networks: vec![network("10.0.0.0/8", 24), network("fd00:32::/48", 64)],
    })
    .unwrap()
}

fn round(addresses: &[&str]) -> Round {
    let addresses = addresses.iter().map(|a| ip(a)).collect();
    let outcome = Outcome::Answer {
        addresses: Arc::new(addresses),
        ttl: Duration::from_secs(5),
        complete: Complete::BOTH,
    };
    Round { replies: vec![Reply { name: NAME.into(), resolver: "172.20.0.253:53".into(), outcome }] }
}

fn failure() -> Round {
    let outcome = Outcome::Failure { kind: FailureKind::ServFail, text: "server failure".into() };
    Round { replies: vec![Reply { name: NAME.into(), resolver: "172.20.0.253:53".into(), outcome }] }
}

fn probe(address: &str, vtep: &str, lost: u32) -> PeerProbe {
    PeerProbe {
        address: ip(address),
        vtep: ip(vtep),
        state: Liveness::Alive,
        since: NOW - 90,
        last_reply: Some(NOW - 3),
        requests: 32,
        lost,
        rtt: Some(RttView { last: 420, smoothed: 400, min: 310, avg: 405, max: 990 }),
        path_mtu: Some(1450),
        path: PathState::Full,
        mtu: Some(1450),
        plan: Agreement::Same,
        version: Some("0.1.0".into()),
        boot: Some("0".repeat(32)),
    }
}

/// What the probe of the sample has found: one peer well, one lossy with a short path, one dead.
pub(crate) fn probes() -> ProbeView {
    let lossy =
        PeerProbe { path: PathState::Limited, path_mtu: Some(1350), ..probe("172.20.0.12", "10.0.12.1", 8) };
    let dead = PeerProbe {
        state: Liveness::Dead,
        rtt: None,
        path_mtu: None,
        path: PathState::Unknown,
        mtu: None,
        plan: Agreement::Unknown,
        version: None,
        boot: None,
        last_reply: None,
        ..probe("172.20.0.13", "10.0.13.1", 32)
    };
    ProbeView {
        schema: crate::probe::view::SCHEMA,
        written: NOW,
        mtu: 1450,
        plan: format!("{:016x}", plan().digest()),
        peers: vec![probe("172.20.0.2", "10.0.2.1", 0), lossy, dead],
        counters: Counters { requests_sent: 96, replies_received: 56, ..Counters::default() },
    }
}

/// A journal of a daemon that formed its overlay and repaired a route.
pub(crate) fn journal() -> Journal {
    let mut journal = Journal::default();
    journal.heard(&round(&["172.20.0.1"]));
    journal.complete(at(0));
    journal.compare(&1, 6);
    let route = Change::AddRoute {
        dst: "10.0.2.0/24".parse().unwrap(),
        via: NextHop::Vtep(ip("10.0.2.1")),
        underlay: None,
        object: false,
        beside: false,
    };
    journal.changed(std::slice::from_ref(&route), [].into_iter(), at(0));
    journal.round(Duration::from_millis(7), None, at(0));
    journal.compare(&1, 6);
    journal.changed(&[route], [].into_iter(), at(60));
    journal.round(Duration::from_millis(2), None, at(60));
    journal.set_device(true);
    journal.set_rules(true);
    journal.next_refresh(Duration::from_millis(4500), at(100));
    journal
}

/// Registration of a node that has just failed to renew its lease, and watches that of a dead one.
fn registration() -> Registration {
    Registration {
        name: NAME.into(),
        zone: Some("cncfdemo.k8s.".into()),
        server: Some("172.20.0.253:53".into()),
        address: Some(ip("172.20.0.1")),
        renewed: Some(NOW - 1300),
        left: false,
        suspects: vec![ip("172.20.0.13")],
        trouble: Some("172.20.0.253:53 failed (SERVFAIL): see its log".into()),
        acknowledged: 5,
        failed: 3,
        failures: 2,
        removed: 1,
    }
}

/// A document in which there is some of everything: peers that are well, missing, refused and
/// ignored, lossy and dead.
pub(crate) fn state() -> State {
    let (plan, names) = (plan(), [NAME.to_owned()]);
    let limits = Thresholds { mass_floor: 3, ..Thresholds::default() };
    let mut membership = Membership::new("cncfdemo", &names, limits).unwrap();
    let own = ip("172.20.0.1");
    let scope = Scope { plan: Some(plan.clone()), own: Some(own), local: BTreeSet::from([own]) };
    membership.set_scope(scope, at(0));
    let all = ["172.20.0.1", "172.20.0.2", "172.20.0.12", "172.20.0.13", "172.21.0.9", "fd00:20::1"];
    membership.apply(&round(&all), at(0));
    // 172.20.0.12 is missing from now on.
    let fewer: Vec<&str> = all.into_iter().filter(|a| *a != "172.20.0.12").collect();
    membership.apply(&round(&fewer), at(90));
    membership.apply(&failure(), at(95));
    let me = plan.node(own).unwrap();
    let node = Node {
        place: me.clone(),
        interface: "eth0".into(),
        subnet: "172.20.0.0/24".parse().unwrap(),
        basis: Basis::Listed,
        listed: true,
        also_listed: Vec::new(),
        underlay_mtu: 1500,
        pod_mtu: 1450,
    };
    let vtep = crate::overlay::Device {
        name: "minionet".into(),
        vni: 4097,
        port: 4789,
        local: own,
        mac: me.mac,
        mtu: 1450,
    };
    let device = Device { vtep, encapsulation: Encapsulation::Always, peer_routes: 6, refused: 0 };
    let facts = Facts {
        daemon: Daemon { version: "0.1.0".into(), pid: 4711, started: NOW - 7300 },
        membership: membership.view(),
        node: Some(node),
        plan: Some(&plan),
        device: Some(device),
        probe: Some(probes()),
        registration: Some(registration()),
        troubles: vec!["metrics and health cannot be asked for: Address already in use".into()],
        journal: &journal(),
    };
    describe(facts, at(100))
}

#[test]
fn the_document_survives_the_round_trip() {
    let state = state();
    assert_eq!(State::parse(&state.to_text()).unwrap(), state);
}

#[test]
fn another_format_is_named_even_with_other_fields() {
    let error = State::parse(r#"{"schema": 9, "anything": true}"#).unwrap_err();
    assert!(matches!(error, StateError::Schema { found: 9 }), "{error}");
    assert!(error.to_string().contains("restart minionetd"), "{error}");
    assert!(matches!(State::parse("{"), Err(StateError::Malformed { .. })));
}

#[test]
fn every_address_has_its_standing_and_this_nodes_own_is_not_among_them() {
    let standing: Vec<(String, Standing)> =
        state().peers.iter().map(|p| (p.address.to_string(), p.state)).collect();
    let expected = [
        ("172.20.0.2", Standing::Active),
        ("172.20.0.12", Standing::Missing),
        ("172.20.0.13", Standing::Active),
        ("172.21.0.9", Standing::Refused),
        ("fd00:20::1", Standing::Ignored),
    ];
    assert_eq!(standing, expected.map(|(address, state)| (address.to_owned(), state)));
}

#[test]
fn what_others_changed_is_a_repair_and_the_first_programming_is_none() {
    let state = state();
    assert_eq!(state.repairs.counts, BTreeMap::from([("route".to_owned(), 1)]));
    assert_eq!(state.repairs.last.len(), 1);
    assert_eq!(state.repairs.last[0].at, at(60).unix);
    assert_eq!(state.rounds.changes, BTreeMap::from([("route".to_owned(), 1)]));
    assert_eq!((state.rounds.count, state.rounds.longest_duration), (2, 0.007));
}

#[test]
fn a_change_that_is_refused_again_and_again_is_never_counted() {
    let mut journal = Journal::default();
    let remove = Change::RemoveNeighbour(ip("10.0.2.1"));
    let add = Change::AddAddress(ip("10.0.1.1"));
    for seconds in 0..5 {
        journal.compare(&1, 6);
        journal.changed(&[add.clone(), remove.clone()], [&remove].into_iter(), at(seconds));
    }
    let repairs = journal.repairs();
    assert_eq!(repairs.counts, BTreeMap::from([("address".to_owned(), 4)]));
    assert_eq!(journal.refused(), 1);
    journal.unchanged();
    assert_eq!(journal.refused(), 0);
}

#[test]
fn other_settings_make_no_repairs() {
    let mut journal = Journal::default();
    journal.compare(&1, 6);
    journal.reconfigured();
    journal.compare(&1, 6);
    journal.mended("sysctl", ["one".to_owned()], at(0));
    assert!(journal.repairs().counts.is_empty());
}

#[test]
fn memory_is_bounded_whatever_happens() {
    let mut journal = Journal::default();
    let changes: Vec<Change> = (0..100).map(|n| Change::AddAddress(IpAddr::from([10, 0, 0, n]))).collect();
    for seconds in 0..50 {
        journal.compare(&1, 6);
        journal.changed(&changes, [].into_iter(), at(seconds));
    }
    let repairs = journal.repairs();
    assert_eq!(repairs.counts["address"], 4900);
    assert_eq!(repairs.last.len(), 20);
    assert_eq!(repairs.last[0].at, at(49).unix, "the newest first");
}

#[test]
fn what_happens_in_every_round_is_no_news() {
    let mut journal = journal();
    let before = journal.version();
    journal.heard(&round(&["172.20.0.1"]));
    journal.complete(at(101));
    journal.compare(&1, 6);
    journal.unchanged();
    journal.set_device(true);
    journal.round(Duration::from_millis(3), None, at(101));
    journal.next_refresh(Duration::from_secs(5), at(101));
    assert_eq!(journal.version(), before);
    journal.round(Duration::from_millis(3), Some("trouble"), at(102));
    journal.round(Duration::from_millis(3), Some("trouble"), at(103));
    assert_eq!(journal.version(), before + 1);
}

#[test]
fn an_overlay_is_formed_when_nothing_is_lacking() {
    let fresh = Journal::default();
    let nothing = Readiness::judge(false, false, &fresh);
    assert_eq!((nothing.ready, nothing.lacks.len()), (false, 4), "{nothing:?}");
    let journal = journal();
    assert_eq!(Readiness::judge(true, false, &journal), Readiness { ready: true, lacks: Vec::new() });
    // Without DNS, the peers of an earlier run are enough.
    let mut unheard = Journal::default();
    unheard.set_device(true);
    unheard.set_rules(true);
    assert!(!Readiness::judge(true, false, &unheard).ready);
    assert!(Readiness::judge(true, true, &unheard).ready);
    unheard.set_rules(false);
    assert!(Readiness::judge(true, true, &unheard).lacks[0].contains("nft"));
}
