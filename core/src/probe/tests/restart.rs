//! A daemon that stops, and the one that starts next.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::view::{PathState, ProbeView};
use super::super::{Event, Kept, Limits, Prober, Way};
use super::network::{Network, at, local, target};
use crate::membership::Liveness;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const WAY: Way = Way { port: 4797, vxlan_port: 4789, vni: 1 };
const NODES: u16 = 20;

fn limits() -> Limits {
    Limits::every(30 * SECOND)
}

/// What a node's daemon writes when it stops.
fn left(prober: &Prober, now: Duration) -> String {
    let view = prober.view(at(now)).unwrap();
    prober.leave(WAY, at(now)).unwrap().to_text(&view)
}

/// A daemon that starts as node 1 and finds this text.
fn started(text: &str, count: u16, limits: &Limits, now: Duration) -> Prober {
    let mut prober = Prober::new(limits.clone(), 77);
    if let Some(kept) = Kept::parse(text) {
        prober.take_over(kept, WAY);
    }
    prober.update(local(1), (1..=count).map(target), at(now));
    prober
}

/// Restarts node 1 of a network; returns what it had left.
fn restart(net: &mut Network, count: u16, limits: &Limits, down: Duration) -> String {
    let text = left(&net.nodes.remove(&1).unwrap(), net.now);
    net.run(down);
    net.nodes.insert(1, started(&text, count, limits, net.now));
    text
}

fn alive(prober: &Prober) -> usize {
    prober.liveness().filter(|(_, liveness)| *liveness == Liveness::Alive).count()
}

#[test]
fn who_answers_is_known_at_once_and_asked_no_sooner() {
    for (share, phase) in [(false, 0), (false, 17), (true, 0), (true, 17), (true, 29)] {
        let limits = Limits { share, ..limits() };
        let mut net = Network::new(NODES, &limits);
        net.run(200 * SECOND + phase * SECOND);
        let before = net.view(1);
        restart(&mut net, NODES, &limits, 300 * MILLISECOND);
        let after = net.view(1);
        for (before, after) in before.peers.iter().zip(&after.peers) {
            // All that is shown of a peer.
            assert_eq!(before, after);
            assert_eq!((after.state, after.path), (Liveness::Alive, PathState::Full));
        }
        // Met anew, 19 peers would get 57 requests within two seconds.
        net.run(2 * SECOND);
        assert!(net.view(1).counters.requests_sent <= 6, "{:?}", net.view(1).counters);
        net.run(33 * SECOND);
        assert_eq!(net.events(1), [], "nothing is new");
        assert_eq!(alive(&net.nodes[&1]), usize::from(NODES) - 1);
        assert!(net.view(1).counters.requests_sent <= 60, "{:?}", net.view(1).counters);
    }
}

/// How long it takes until node 1 has found out that node 2 is dead, which dies with the stop or, if
/// node 1 is not stopped, at the same time; and until it does not take it for alive any more.
fn found(phase: Duration, share: bool, down: Option<Duration>) -> [Duration; 2] {
    let limits = Limits { share, ..limits() };
    let mut net = Network::new(3, &limits);
    net.run(200 * SECOND + phase);
    net.rule = Box::new(|p| (p.from != 2 && p.to != 2).then_some(MILLISECOND));
    let died = net.now;
    if let Some(down) = down {
        restart(&mut net, 3, &limits, down);
    }
    let mut doubted = None;
    while net.opinion(1, 2).state != Liveness::Dead {
        if net.opinion(1, 2).state != Liveness::Alive {
            doubted.get_or_insert(net.now);
        }
        net.run(100 * MILLISECOND);
        assert!(net.now < died + 100 * SECOND, "never");
    }
    [net.now - died, doubted.unwrap_or(net.now) - died]
}

#[test]
fn who_died_meanwhile_is_found_as_soon() {
    for (share, phase) in (0..33).flat_map(|phase| [(false, phase), (true, phase)]) {
        let phase = phase * SECOND;
        let [unstopped, _] = found(phase, share, None);
        for down in [50, 900, 1100, 5_000, 40_000].map(Duration::from_millis) {
            let [dead, doubted] = found(phase, share, Some(down));
            // The jitter of four pauses of a second; and who is met anew is asked within one.
            let latest = (unstopped + SECOND).max(down + 11 * SECOND);
            assert!(dead <= latest, "{phase:?} {down:?}: {dead:?}, {unstopped:?}");
            // Nobody can say anything while no daemon runs.
            assert!(
                doubted <= (unstopped + SECOND).max(down),
                "{phase:?} {down:?}: alive for {doubted:?}, {unstopped:?}"
            );
        }
    }
}

#[test]
fn a_request_that_was_due_in_between_counts_as_lost() {
    let mut net = Network::new(2, &limits());
    net.run(200 * SECOND);
    let mut changed: Value = serde_json::from_str(&left(&net.nodes[&1], net.now)).unwrap();
    let mut requests = |late: u64| {
        changed["kept"]["peers"][0]["next"] = json!(net.now.as_millis() as u64 - late);
        net.nodes.insert(1, started(&changed.to_string(), 2, &limits(), net.now));
        net.rule = Box::new(|_| None);
        while net.opinion(1, 2).state != Liveness::Dead {
            net.run(100 * MILLISECOND);
        }
        assert!(matches!(net.events(1)[..], [Event::Dead { losses: 5, .. }]));
        net.view(1).counters.requests_sent
    };
    assert_eq!([0, 1, 900, 1000, 1001].map(&mut requests), [5, 4, 4, 4, 5]);
}

#[test]
fn after_a_long_stop_everybody_is_new() {
    let mut net = Network::new(NODES, &limits());
    net.run(200 * SECOND);
    restart(&mut net, NODES, &limits(), 40 * SECOND);
    assert_eq!(alive(&net.nodes[&1]), 0);
    assert!(net.view(1).peers.iter().all(|peer| peer.state == Liveness::Unknown));
    net.run(2 * SECOND);
    assert_eq!(alive(&net.nodes[&1]), usize::from(NODES) - 1);
}

#[test]
fn a_path_that_shrank_meanwhile_is_found_as_soon() {
    let mut net = Network::new(2, &limits());
    net.run(200 * SECOND);
    restart(&mut net, 2, &limits(), 100 * MILLISECOND);
    net.rule = Box::new(|p| (p.size <= 1200).then_some(MILLISECOND));
    net.run(160 * SECOND);
    assert_eq!(net.opinion(1, 2).path_mtu, Some(1200));
    assert!(net.events(1).iter().any(|event| matches!(event, Event::PathMtu { size: 1200, .. })));
    // What is known of it survives as well.
    restart(&mut net, 2, &limits(), 100 * MILLISECOND);
    assert_eq!((net.opinion(1, 2).path_mtu, net.opinion(1, 2).path), (Some(1200), PathState::Limited));
}

#[test]
fn who_does_not_answer_is_not_kept() {
    let mut net = Network::new(4, &limits());
    net.run(200 * SECOND);
    net.rule = Box::new(|p| (p.from != 2 && p.to != 2).then_some(MILLISECOND));
    net.run(60 * SECOND);
    assert_eq!(net.opinion(1, 2).state, Liveness::Dead);
    restart(&mut net, 4, &limits(), 100 * MILLISECOND);
    assert_eq!(net.opinion(1, 2).state, Liveness::Unknown);
    assert_eq!(alive(&net.nodes[&1]), 2);
}

#[test]
fn the_results_are_read_as_always() {
    let mut net = Network::new(3, &limits());
    net.run(200 * SECOND);
    let text = left(&net.nodes[&1], net.now);
    assert_eq!(ProbeView::parse(&text).unwrap(), net.view(1));
    assert_eq!(Kept::parse(&text).unwrap().len(), 2);
    // Those of a daemon that runs, and of an older one.
    assert_eq!(Kept::parse(&net.view(1).to_text()), None);
    let mut later: Value = serde_json::from_str(&text).unwrap();
    later["kept"] = json!({"schema": 2, "peers": "another format"});
    assert_eq!(ProbeView::parse(&later.to_string()).unwrap(), net.view(1));
    assert_eq!(Kept::parse(&later.to_string()), None);
}

#[test]
fn what_does_not_fit_is_not_believed() {
    let mut net = Network::new(4, &limits());
    net.run(200 * SECOND);
    let text = left(&net.nodes[&1], net.now);
    let now = net.now;
    let believed = |path: &str, value: Value| {
        let mut changed: Value = serde_json::from_str(&text).unwrap();
        let place = changed.pointer_mut(&format!("/kept/{path}")).expect(path);
        assert_ne!(*place, value, "{path}");
        *place = value;
        alive(&started(&changed.to_string(), 4, &limits(), now))
    };
    assert_eq!(alive(&started(&text, 4, &limits(), now)), 3);
    let far = u64::try_from((now + 34 * SECOND).as_millis()).unwrap();
    let whole = [
        ("schema", json!(2)),
        ("boot", json!("02".repeat(16))),
        ("boot", json!("")),
        ("way/port", json!(4798)),
        ("way/vxlan_port", json!(8472)),
        ("way/vni", json!(2)),
        ("vtep", json!("10.32.9.1")),
        ("plan", json!("0000000000000abd")),
        ("mtu", json!(1400)),
        ("written", json!(far)),
        ("peers", json!({})),
    ];
    for (path, value) in whole {
        assert_eq!(believed(path, value.clone()), 0, "{path} {value}");
    }
    let single = [
        ("node", json!("172.20.0.9")),
        ("vtep", json!("10.32.9.1")),
        ("replied", json!([far, 0])),
        ("next", json!(far)),
        ("next", json!(u64::MAX)),
        ("next", json!(0)),
        ("window", json!({"bits": 4, "len": 1})),
        ("rtt/current/sum", json!(u64::MAX)),
        ("path", json!([1450, far])),
        ("boot", json!("not a number")),
        ("version", json!("\u{1b}[31m")),
    ];
    for (path, value) in single {
        assert_eq!(believed(&format!("peers/1/{path}"), value.clone()), 2, "{path} {value}");
    }
    // A node that the kernel tells no number of its boot.
    let mut nameless = local(1);
    nameless.about.boot = [0; 16];
    let mut prober = Prober::new(limits(), 1);
    let zeros = text.replace(
        &format!("\"boot\":\"{}\",\"way\"", "01".repeat(16)),
        &format!("\"boot\":\"{}\",\"way\"", "00".repeat(16)),
    );
    assert_ne!(zeros, text);
    prober.take_over(Kept::parse(&zeros).unwrap(), WAY);
    prober.update(nameless, (1..=4).map(target), at(now));
    assert_eq!(alive(&prober), 0);
}

/// What a file can say of a peer's times and counts, sensible or not.
fn claims() -> impl Strategy<Value = Value> {
    let number = prop_oneof![Just(0), Just(u64::MAX), 0u64..600_000, any::<u64>()];
    let span = (any::<u32>(), number.clone(), any::<u32>(), any::<u32>()).prop_map(
        |(count, sum, least, most)| json!({"count": count % 40, "sum": sum, "least": least, "most": most}),
    );
    let rtt = (any::<u32>(), any::<u32>(), any::<u32>(), span.clone(), span).prop_map(|(last, smoothed, variation, a, b)| {
        json!({"last": last, "smoothed": smoothed, "variation": variation, "current": a, "previous": b})
    });
    let path = prop::option::of((any::<u16>(), number.clone()));
    (number.clone(), number.clone(), number, rtt, path).prop_map(|(since, replied, next, rtt, path)| {
        json!({"since": since, "replied": [replied, since], "next": next, "rtt": rtt, "path": path})
    })
}

proptest! {
    #[test]
    fn no_file_makes_the_dead_look_alive_for_longer_than_an_interval(
        claims in prop::collection::vec(claims(), 3),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut net = Network::new(4, &limits());
        net.run(200 * SECOND);
        let text = left(&net.nodes[&1], net.now);
        let mut changed: Value = serde_json::from_str(&text).unwrap();
        for (number, claims) in claims.into_iter().enumerate() {
            for (key, value) in claims.as_object().unwrap() {
                // Some of the peers keep their round trips, or none would ever be sound.
                if key != "rtt" || number == 0 {
                    changed["kept"]["peers"][number][key] = value.clone();
                }
            }
        }
        prop_assert_eq!(Kept::parse(&text[..cut.index(text.len() - 2)]), None);
        let prober = started(&changed.to_string(), 4, &limits(), net.now);
        net.nodes.insert(1, prober);
        net.rule = Box::new(|_| None);
        net.run(33 * SECOND + 20 * SECOND);
        prop_assert!(net.view(1).peers.iter().all(|peer| peer.state == Liveness::Dead));
        // And the living are found to be so.
        net.rule = Box::new(|_| Some(MILLISECOND));
        net.run(10 * SECOND);
        prop_assert_eq!(alive(&net.nodes[&1]), 3);
    }

    #[test]
    fn noise_is_nothing_that_was_left(noise in "\\PC{0,200}") {
        prop_assert_eq!(Kept::parse(&noise), None);
    }
}
