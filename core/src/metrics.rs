//! Metrics: which there are, and their values, computed from the daemon's state when somebody
//! asks.
//!
//! Names and units follow Prometheus' conventions. The number of series is bounded whatever the
//! number of peers: peers are counted by state, and only the worst [`WORST`] of those that have a
//! problem get series of their own, which vanish with the problem or the peer; all get them where
//! that is configured. `docs/metrics.md` says what each metric means.

mod family;
mod peers;
mod register;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use self::family::{Family, Kind, Sample, Value};
use self::family::{counter, gauge, histogram};
use crate::nft::Tally;
use crate::probe::Times;
use crate::state::{Meters, State};

/// For how many peers with a problem there are series by default.
pub const WORST: usize = 10;

/// What metrics are computed from, besides the state.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Durations of the daemon's own work.
    pub meters: &'a Meters,
    /// Durations that the probe measured.
    pub times: &'a Times,
    /// How many attachments of pods this node has.
    pub pods: usize,
    /// For how many pods it has addresses.
    pub pods_most: usize,
    /// What the collector has removed since the start, by kind.
    pub collected: &'a BTreeMap<&'static str, u64>,
    /// How often it failed since then.
    pub collect_failures: u64,
    /// What the rules of the firewall have counted; none where they cannot be read.
    pub rules: Option<&'a Tally>,
    /// Whether every peer gets series of its own.
    pub every_peer: bool,
}

/// All metrics that have a value, in the order of the documentation.
pub fn families(state: &State, facts: &Facts<'_>) -> Vec<Family> {
    let mut all = daemon(state, facts);
    all.extend(dns(state));
    all.extend(register::families(state));
    all.extend(kernel(state, facts.meters));
    all.extend(rules(facts));
    all.extend(peers::totals(state, facts.times));
    all.extend(peers::each(state, if facts.every_peer { usize::MAX } else { WORST }));
    // A family without samples would be an announcement of nothing.
    all.retain(|family| !family.samples.is_empty());
    all
}

fn daemon(state: &State, facts: &Facts<'_>) -> Vec<Family> {
    let info = [("version", state.daemon.version.as_str()), ("cluster", state.cluster.as_str())];
    vec![
        gauge("minionet_build_info", "The daemon; always 1.").sample(&info, 1.0),
        gauge("minionet_ready", "1 if the overlay is formed, as /readyz tells.")
            .value(f64::from(u8::from(state.readiness.ready))),
        gauge("minionet_troubles", "How many things are wrong; `minionetd status` names them.")
            .value(state.troubles.len() as f64),
        gauge("minionet_pods", "Interfaces of pods that are attached to this node.").value(facts.pods as f64),
        gauge("minionet_pods_max", "Interfaces of pods for which this node has addresses.")
            .value(facts.pods_most as f64),
        facts.collected.iter().fold(
            counter(
                "minionet_collector_removals_total",
                "What the collector has removed because nobody else would have, by kind.",
            ),
            |family, (kind, count)| family.sample(&[("kind", kind)], *count as f64),
        ),
        counter(
            "minionet_collector_failures_total",
            "How often the collector could not remove something, or not look after it.",
        )
        .value(facts.collect_failures as f64),
    ]
}

fn dns(state: &State) -> Vec<Family> {
    let dns = &state.dns;
    let mut replies = counter(
        "minionet_dns_replies_total",
        "Replies of resolvers to this node's questions, by result; all but `answer` leave the peers as they are.",
    );
    for (result, count) in &dns.replies {
        replies = replies.sample(&[("result", result)], *count as f64);
    }
    let mut records = gauge("minionet_dns_records", "Addresses that a name lists, all resolvers together.");
    let mut ttl = gauge("minionet_dns_ttl_seconds", "The lowest TTL of a name's last answer.");
    let mut failures =
        gauge("minionet_dns_failures", "Rounds in a row in which no resolver answered for a name.");
    for name in &dns.names {
        let labels = [("name", name.name.as_str())];
        records = records.sample(&labels, name.records as f64);
        ttl = ttl.sample(&labels, name.ttl as f64);
        failures = failures.sample(&labels, f64::from(name.failures));
    }
    let flag = |name, help, set: bool| gauge(name, help).value(f64::from(u8::from(set)));
    let answered = gauge(
        "minionet_dns_last_complete_timestamp_seconds",
        "When all names were last answered completely; absent before the first time since the start.",
    );
    vec![
        replies,
        match dns.last_complete {
            Some(at) => answered.value(at as f64),
            None => answered,
        },
        records,
        ttl,
        failures,
        flag(
            "minionet_dns_sampling",
            "1 while a resolver is taken to answer with random samples.",
            dns.sampling,
        ),
        flag(
            "minionet_dns_own_missing",
            "1 while complete answers do not list this node: others will forget it.",
            dns.own_missing_since.is_some(),
        ),
    ]
}

/// What the rules of the firewall have counted.
fn rules(facts: &Facts<'_>) -> Vec<Family> {
    let Some(tally) = facts.rules else { return Vec::new() };
    let mut dropped = counter(
        "minionet_packets_dropped_total",
        "Packets that the rules of the nft table have dropped, by reason.",
    );
    for (reason, packets) in &tally.dropped {
        dropped = dropped.sample(&[("reason", reason)], *packets as f64);
    }
    let foreign = counter(
        "minionet_packets_of_other_networks_total",
        "VXLAN packets with other network identifiers that came to the port of the overlay.",
    );
    vec![dropped, foreign.value(tally.foreign as f64)]
}

fn kernel(state: &State, meters: &Meters) -> Vec<Family> {
    let mut changes = counter(
        "minionet_kernel_changes_total",
        "Changes made in the kernel because the plan, the peers or the configuration changed, by object.",
    );
    for (object, count) in &state.rounds.changes {
        changes = changes.sample(&[("object", object)], *count as f64);
    }
    let mut repairs = counter(
        "minionet_kernel_repairs_total",
        "Changes made in the kernel because somebody else had changed something, by object.",
    );
    // Always all of them: an increase from nothing is not seen by rate().
    for object in ["address", "device", "fdb", "neighbour", "nexthop", "nft", "route", "sysctl"] {
        let count = state.repairs.counts.get(object).copied().unwrap_or_default();
        repairs = repairs.sample(&[("object", object)], count as f64);
    }
    let mut routes = gauge("minionet_peer_routes", "Routes to peers that the kernel should hold.");
    let mut refused = gauge("minionet_kernel_refused", "Changes that the kernel refused in the last round.");
    let mut mtu = gauge("minionet_device_mtu_bytes", "MTU of the overlay.");
    if let Some(device) = &state.device {
        routes = routes.value(device.peer_routes as f64);
        refused = refused.value(device.refused as f64);
        mtu = mtu.value(f64::from(device.vtep.mtu));
    }
    vec![
        counter(
            "minionet_rounds_total",
            "Comparisons of the kernel with what it should hold, by whether they ended well.",
        )
        .sample(&[("result", "ok")], (state.rounds.count - state.rounds.failed) as f64)
        .sample(&[("result", "failed")], state.rounds.failed as f64),
        histogram("minionet_round_duration_seconds", "How long such a comparison took.", &meters.rounds),
        histogram(
            "minionet_convergence_seconds",
            "From an answer of DNS with other peers until the kernel held them.",
            &meters.convergence,
        ),
        changes,
        repairs,
        refused,
        routes,
        mtu,
    ]
}
