//! Metrics about the peers: in total, and one by one for the worst.

use std::cmp::Reverse;

use super::family::{Family, counter, gauge, histogram};
use crate::membership::Liveness;
use crate::probe::Times;
use crate::probe::view::{Agreement, PathState, PeerProbe};
use crate::state::{Standing, State};

/// Peers by state, and what the probe says about all of them together.
pub(super) fn totals(state: &State, times: &Times) -> Vec<Family> {
    let mut peers = gauge(
        "minionet_peers",
        "Addresses that DNS lists or listed, by state: active, missing and held ones are peers.",
    );
    for (standing, name) in Standing::TOLD {
        let count = state.peers.iter().filter(|peer| peer.state == standing).count();
        // Of those, some are not remembered one by one.
        let more = if standing == Standing::Ignored { state.ignored_more } else { 0 };
        peers = peers.sample(&[("state", name)], (count + more) as f64);
    }
    let mut all = vec![peers];
    let Some(probe) = &state.probe else { return all };
    let probes: Vec<&PeerProbe> = state.peers.iter().filter_map(|peer| peer.probe.as_ref()).collect();
    let count = |is: &dyn Fn(&PeerProbe) -> bool| probes.iter().filter(|p| is(p)).count() as f64;
    let (sent, lost) = probes
        .iter()
        .fold((0, 0), |(sent, lost), p| (sent + u64::from(p.requests), lost + u64::from(p.lost)));
    let mut loss = gauge(
        "minionet_probe_loss_ratio",
        "Share of the latest requests to all peers (up to 32 each) that got no reply.",
    );
    if sent > 0 {
        loss = loss.value(lost as f64 / sent as f64);
    }
    let mut path = gauge(
        "minionet_probe_path_mtu_min_bytes",
        "The largest packet that passes to every peer whose path is known.",
    );
    if let Some(least) = probes.iter().filter_map(|p| p.path_mtu).min() {
        path = path.value(f64::from(least));
    }
    let counters = &probe.counters;
    let total = |name, help, count: u64| counter(name, help).value(count as f64);
    all.extend([
        gauge("minionet_probe_peers", "Peers by what the probe through the tunnel says.")
            .sample(&[("state", "alive")], count(&|p| p.state == Liveness::Alive))
            .sample(&[("state", "dead")], count(&|p| p.state == Liveness::Dead))
            .sample(&[("state", "unknown")], count(&|p| p.state == Liveness::Unknown)),
        gauge("minionet_probe_peers_other_plan", "Peers whose address plan is another than this node's.")
            .value(count(&|p| p.plan == Agreement::Different)),
        gauge("minionet_probe_peers_path_limited", "Peers to which packets of the full MTU do not pass.")
            .value(count(&|p| p.path == PathState::Limited)),
        path,
        loss,
        histogram("minionet_probe_rtt_seconds", "Round-trip times to peers.", &times.round_trips),
        histogram(
            "minionet_probe_first_reply_seconds",
            "From when a peer was first programmed until it first answered.",
            &times.first_replies,
        ),
        total("minionet_probe_requests_total", "Requests sent to peers.", counters.requests_sent),
        total("minionet_probe_replies_total", "Replies that came in time.", counters.replies_received),
        total(
            "minionet_probe_requests_answered_total",
            "Requests of peers that were answered.",
            counters.requests_answered,
        ),
        total("minionet_probe_hellos_total", "Hellos received of silent peers.", counters.hellos_received),
        total(
            "minionet_probe_strangers_total",
            "Messages to the probe's port from addresses that are no peer's.",
            counters.strangers,
        ),
        total(
            "minionet_probe_ignored_total",
            "What came to the probe's port and was not understood, or not waited for.",
            counters.ignored,
        ),
    ]);
    all
}

/// Series of single peers: so many of those with a problem, the worst first, or of all peers where
/// there is no limit.
pub(super) fn each(state: &State, limit: usize) -> Vec<Family> {
    let mut probes: Vec<&PeerProbe> = state.peers.iter().filter_map(|peer| peer.probe.as_ref()).collect();
    if limit < usize::MAX {
        probes.retain(|probe| has_problem(probe));
        probes.sort_by_key(|probe| Reverse(badness(probe)));
        probes.truncate(limit);
    }
    let mut up = gauge("minionet_peer_up", "1 if a peer answers the probe, 0 if it does not.");
    let mut loss =
        gauge("minionet_peer_loss_ratio", "Share of a peer's latest requests (up to 32) without a reply.");
    let mut rtt = gauge("minionet_peer_rtt_seconds", "Smoothed round-trip time to a peer.");
    let mut path = gauge("minionet_peer_path_mtu_bytes", "The largest packet that passes to a peer.");
    for probe in probes {
        let address = probe.address.to_string();
        let labels = [("peer", address.as_str())];
        up = up.sample(&labels, f64::from(u8::from(probe.state == Liveness::Alive)));
        if let Some(ratio) = probe.loss() {
            loss = loss.sample(&labels, ratio);
        }
        if let Some(times) = &probe.rtt {
            rtt = rtt.sample(&labels, f64::from(times.smoothed) / 1e6);
        }
        if let Some(size) = probe.path_mtu {
            path = path.sample(&labels, f64::from(size));
        }
    }
    vec![up, loss, rtt, path]
}

fn has_problem(probe: &PeerProbe) -> bool {
    probe.state == Liveness::Dead
        || probe.lost > 0
        || probe.path == PathState::Limited
        || probe.plan == Agreement::Different
}

/// The larger, the worse; the address makes the order a total one.
fn badness(probe: &PeerProbe) -> impl Ord + use<> {
    let dead = probe.state == Liveness::Dead;
    // In per mille, as a ratio of whole numbers has no order of its own.
    let lost = probe.lost * 1000 / probe.requests.max(1);
    let (other, limited) = (probe.plan == Agreement::Different, probe.path == PathState::Limited);
    (dead, other, limited, lost, Reverse(probe.address))
}
