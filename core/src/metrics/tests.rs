use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::membership::Liveness;
use crate::state::tests::{journal, probes, state};
use crate::state::{Journal, State, merge_probe};

fn all(state: &State, every_peer: bool) -> Vec<Family> {
    let journal = journal();
    let times = Times::default();
    families(state, &facts(&journal, &times, every_peer))
}

fn facts<'a>(journal: &'a Journal, times: &'a Times, every_peer: bool) -> Facts<'a> {
    static COLLECTED: LazyLock<BTreeMap<&'static str, u64>> =
        LazyLock::new(|| [("dead", 2), ("route", 0)].into());
    static RULES: LazyLock<Tally> =
        LazyLock::new(|| Tally { dropped: [("loopback", 4), ("not_a_member", 7)].into(), foreign: 9 });
    Facts {
        meters: journal.meters(),
        times,
        pods: 3,
        pods_most: 253,
        collected: &COLLECTED,
        collect_failures: 1,
        rules: Some(&RULES),
        every_peer,
    }
}

fn number(families: &[Family], name: &str, label: Option<&str>) -> Option<f64> {
    let family = families.iter().find(|family| family.name == name)?;
    let fits = |sample: &&Sample| label.is_none_or(|label| sample.labels.iter().any(|(_, v)| v == label));
    match family.samples.iter().find(fits)?.value {
        Value::Number(number) => Some(number),
        Value::Buckets { count, .. } => Some(count as f64),
    }
}

#[test]
fn values_are_those_of_the_state() {
    let all = all(&state(), false);
    let expected = [
        ("minionet_ready", None, 1.0),
        ("minionet_troubles", None, 1.0),
        ("minionet_pods", None, 3.0),
        ("minionet_pods_max", None, 253.0),
        ("minionet_peers", Some("active"), 2.0),
        ("minionet_peers", Some("missing"), 1.0),
        ("minionet_peers", Some("refused"), 1.0),
        ("minionet_peers", Some("ignored"), 1.0),
        ("minionet_probe_peers", Some("alive"), 2.0),
        ("minionet_probe_peers", Some("dead"), 1.0),
        ("minionet_probe_peers_path_limited", None, 1.0),
        ("minionet_probe_path_mtu_min_bytes", None, 1350.0),
        ("minionet_probe_loss_ratio", None, 40.0 / 96.0),
        ("minionet_kernel_repairs_total", Some("route"), 1.0),
        ("minionet_kernel_repairs_total", Some("nft"), 0.0),
        ("minionet_rounds_total", Some("ok"), 2.0),
        ("minionet_round_duration_seconds", None, 2.0),
        ("minionet_dns_failures", None, 1.0),
        ("minionet_collector_removals_total", Some("dead"), 2.0),
        ("minionet_collector_removals_total", Some("route"), 0.0),
        ("minionet_collector_failures_total", None, 1.0),
        ("minionet_packets_dropped_total", Some("not_a_member"), 7.0),
        ("minionet_packets_of_other_networks_total", None, 9.0),
        ("minionet_registered", None, 1.0),
        ("minionet_registration_failures", None, 2.0),
        ("minionet_registration_attempts_total", Some("ok"), 5.0),
        ("minionet_registration_attempts_total", Some("failed"), 3.0),
        ("minionet_registration_suspects", None, 1.0),
        ("minionet_registration_removals_total", None, 1.0),
        ("minionet_peer_up", Some("172.20.0.13"), 0.0),
        ("minionet_peer_up", Some("172.20.0.12"), 1.0),
        ("minionet_peer_rtt_seconds", Some("172.20.0.12"), 0.0004),
    ];
    for (name, label, value) in expected {
        assert_eq!(number(&all, name, label), Some(value), "{name} {label:?}");
    }
    assert_eq!(number(&all, "minionet_peer_up", Some("172.20.0.2")), None, "a peer that is well");
}

#[test]
fn names_follow_the_conventions_and_occur_once() {
    let all = all(&state(), true);
    let names: BTreeSet<&str> = all.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), all.len());
    for family in &all {
        assert!(family.name.starts_with("minionet_"), "{}", family.name);
        assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
        assert!(family.help.ends_with('.'), "{}", family.name);
        let series: BTreeSet<_> = family.samples.iter().map(|sample| &sample.labels).collect();
        assert_eq!(series.len(), family.samples.len(), "{}", family.name);
    }
}

#[test]
fn a_thousand_dead_peers_have_few_series_and_the_worst_ones() {
    let mut state = state();
    let mut view = probes();
    let (sample, template) = (state.peers[0].clone(), view.peers[0].clone());
    (state.peers, view.peers) = (Vec::new(), Vec::new());
    for n in 0..1000_u16 {
        let [high, low] = n.to_be_bytes();
        let address = IpAddr::from([172, 20, 1 + high, low]);
        state.peers.push(crate::state::Peer { address, ..sample.clone() });
        let state = if n >= 995 { Liveness::Dead } else { Liveness::Alive };
        view.peers.push(crate::probe::view::PeerProbe { address, state, lost: 1, ..template.clone() });
    }
    merge_probe(&mut state.peers, &view);
    let few = all(&state, false);
    let series: usize = few.iter().map(|family| family.samples.len()).sum();
    assert!(series < 120, "{series} series");
    let up = few.iter().find(|family| family.name == "minionet_peer_up").unwrap();
    assert_eq!(up.samples.len(), WORST);
    let dead = up.samples.iter().filter(|sample| sample.value == Value::Number(0.0)).count();
    assert_eq!(dead, 5, "all of the dead ones are among the worst");
    let every = all(&state, true);
    let up = every.iter().find(|family| family.name == "minionet_peer_up").unwrap();
    assert_eq!(up.samples.len(), 1000);
}

#[test]
fn before_anything_is_known_there_are_no_values_for_it() {
    let mut fresh = state();
    (fresh.node, fresh.device, fresh.probe) = (None, None, None);
    (fresh.registration, fresh.dns.last_complete) = (None, None);
    fresh.peers.clear();
    let (journal, times) = (journal(), Times::default());
    let all = families(&fresh, &Facts { rules: None, ..facts(&journal, &times, false) });
    for absent in [
        "minionet_dns_last_complete_timestamp_seconds",
        "minionet_device_mtu_bytes",
        "minionet_packets_dropped_total",
        "minionet_peer_up",
        "minionet_registered",
    ] {
        assert!(all.iter().all(|family| family.name != absent), "{absent}");
    }
    assert_eq!(number(&all, "minionet_peers", Some("active")), Some(0.0));
}

#[test]
fn the_probes_times_are_counted() {
    let mut times = Times::default();
    times.round_trips.push(Duration::from_micros(300));
    let (state, journal) = (state(), journal());
    let all = families(&state, &facts(&journal, &times, false));
    assert_eq!(number(&all, "minionet_probe_rtt_seconds", None), Some(1.0));
}
