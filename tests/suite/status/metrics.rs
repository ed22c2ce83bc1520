//! Metrics as they are served, compared with everything that speaks of them.

use std::collections::BTreeSet;
use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::{Namespace, Node, eventually};
use serde_json::Value;

use super::{PATIENT, cluster, get};

pub const DASHBOARD: &str = include_str!("../../../packaging/prometheus/minionet-dashboard.json");
pub const RULES: &str = include_str!("../../../packaging/prometheus/minionet.rules.yml");
const DOCUMENTATION: &str = include_str!("../../../docs/metrics.md");

pub fn trials() -> Vec<Trial> {
    trials![
        metrics_pass_the_check_and_are_what_is_spoken_of => [Need::Program("promtool")],
        what_is_dropped_and_what_is_cleaned_up_is_counted => [Need::Program("nft")],
        series_of_a_peer_vanish_with_it,
    ]
}

/// What a node with two peers and a pod serves in the end, when nobody takes its registration.
const SERIES: [(&str, f64); 15] = [
    ("minionet_ready", 1.0),
    ("minionet_troubles", 1.0),
    ("minionet_pods", 1.0),
    ("minionet_pods_max", 253.0),
    ("minionet_peers{state=\"active\"}", 2.0),
    ("minionet_peer_routes", 2.0),
    ("minionet_device_mtu_bytes", 1450.0),
    ("minionet_dns_records{name=\"minions.cncfdemo.k8s.\"}", 3.0),
    ("minionet_kernel_repairs_total{object=\"route\"}", 0.0),
    ("minionet_kernel_changes_total{object=\"fdb\"}", 2.0),
    ("minionet_peer_up{peer=\"172.20.0.3\"}", 1.0),
    ("minionet_registered", 0.0),
    ("minionet_packets_dropped_total{reason=\"not_a_member\"}", 0.0),
    ("minionet_collector_removals_total{kind=\"dead\"}", 0.0),
    ("minionet_collector_failures_total", 0.0),
];

/// What a daemon serves.
pub fn metrics(node: &Node) -> Result<String> {
    let (status, body) = get(node, "/metrics")?;
    ensure!(status == 200, "{status} {body}");
    Ok(body)
}

/// The value of a series.
pub fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// The metrics that are there, as `# TYPE` names them.
fn families(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

/// Every name of ours in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("minionet_")).collect()
}

fn metrics_pass_the_check_and_are_what_is_spoken_of() -> Result<()> {
    // Nobody takes the updates of a node that registers itself, which is all that its metrics need.
    cluster().config("metrics_every_peer = true\nregister = true").run(|cluster| {
        let node = cluster.node(0);
        let _pod = node.add_pod("web")?;
        let text = eventually("everything to be measured", PATIENT, || {
            let text = metrics(node)?;
            ensure!(value(&text, "minionet_probe_peers{state=\"alive\"}") == Some(2.0), "{text}");
            ensure!(families(&text).contains("minionet_peer_path_mtu_bytes"), "{text}");
            ensure!(value(&text, "minionet_registration_failures").is_some_and(|n| n > 0.0), "{text}");
            for (series, expected) in SERIES {
                ensure!(value(&text, series) == Some(expected), "{series}: {:?}", value(&text, series));
            }
            anyhow::Ok(text)
        })?;
        let tool = Namespace::network_only("promtool")?;
        tool.exec_with_input(["promtool", "check", "metrics"], text.as_bytes())?;
        let served = families(&text);
        let served_ours: BTreeSet<&str> =
            served.iter().copied().filter(|name| name.starts_with("minionet_")).collect();
        // Of a histogram, others speak by its parts.
        let known = |name: &str| {
            // There is none before the first success.
            if name == "minionet_registration_last_success_timestamp_seconds" {
                return true;
            }
            let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|part| name.strip_suffix(part));
            served.contains(name) || parts.into_iter().any(|base| served.contains(base))
        };
        for (place, text) in
            [("the dashboard", DASHBOARD), ("the alert rules", RULES), ("docs", DOCUMENTATION)]
        {
            for name in names(text) {
                ensure!(known(name), "{place} speak of {name}, which is not served");
            }
        }
        let documented = names(DOCUMENTATION);
        let lacking: Vec<&&str> = served_ours.difference(&documented).collect();
        ensure!(lacking.is_empty(), "{lacking:?} are not documented");
        dashboard(&known)
    })
}

/// Every panel of the dashboard has expressions, and none but of metrics that there are.
fn dashboard(known: &dyn Fn(&str) -> bool) -> Result<()> {
    let dashboard: Value = serde_json::from_str(DASHBOARD)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let mut ids = BTreeSet::new();
    for panel in panels {
        ensure!(ids.insert(panel["id"].as_u64()), "two panels have the id {}", panel["id"]);
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().context("targets")?;
        ensure!(!targets.is_empty(), "{} shows nothing", panel["title"]);
        for target in targets {
            let expression = target["expr"].as_str().context("an expression")?;
            let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let ours = words.filter(|w| w.starts_with("minionet_") || w.starts_with("process_"));
            let metrics: Vec<&str> = ours.collect();
            ensure!(!metrics.is_empty() && metrics.iter().all(|name| known(name)), "{expression}");
        }
    }
    Ok(())
}

fn series_of_a_peer_vanish_with_it() -> Result<()> {
    cluster().config("metrics_every_peer = true").run(|cluster| {
        let node = cluster.node(0);
        let series = "minionet_peer_up{peer=\"172.20.0.3\"}";
        eventually("the peer to be there", PATIENT, || {
            let text = metrics(node)?;
            ensure!(value(&text, series) == Some(1.0), "{text}");
            anyhow::Ok(())
        })?;
        cluster.leave(2)?;
        eventually("the peer to be gone", PATIENT, || {
            let text = metrics(node)?;
            ensure!(!text.contains("172.20.0.3"), "{text}");
            ensure!(value(&text, "minionet_peers{state=\"active\"}") == Some(1.0), "{text}");
            anyhow::Ok(())
        })?;
        Ok(())
    })
}

/// A VXLAN header (RFC 7348 section 5) with a network identifier, and nothing behind it.
fn header(vni: u32) -> [u8; 8] {
    let [_, a, b, c] = vni.to_be_bytes();
    [0x08, 0, 0, 0, a, b, c, 0]
}

fn what_is_dropped_and_what_is_cleaned_up_is_counted() -> Result<()> {
    cluster().config("collect_interval = \"100ms\"").run(|cluster| {
        let (node, stranger) = (cluster.node(0), cluster.dns_host());
        let send = |vni: u32, times: usize| -> Result<()> {
            let socket = stranger.run(|| UdpSocket::bind("0.0.0.0:0"))?.context("open a socket")?;
            for _ in 0..times {
                socket.send_to(&header(vni), (node.address(), 4789))?;
            }
            Ok(())
        };
        send(4097, 5)?;
        send(77, 3)?;
        node.ip("route add 10.32.1.200 dev minionet proto 110")?;
        eventually("all of it to be counted", PATIENT, || {
            let text = metrics(node)?;
            for (series, expected) in [
                ("minionet_packets_dropped_total{reason=\"not_a_member\"}", 5.0),
                ("minionet_packets_of_other_networks_total", 3.0),
                ("minionet_packets_dropped_total{reason=\"pretends_to_be_a_node\"}", 0.0),
                ("minionet_collector_removals_total{kind=\"route\"}", 1.0),
            ] {
                ensure!(value(&text, series) == Some(expected), "{series}: {:?}", value(&text, series));
            }
            anyhow::Ok(())
        })?;
        // What follows from what the rules counted, and where they are not, from nothing.
        node.exec(["nft", "delete", "table", "inet", "minionet"])?;
        eventually("the table and its counters anew", PATIENT, || {
            let text = metrics(node)?;
            let dropped = value(&text, "minionet_packets_dropped_total{reason=\"not_a_member\"}");
            ensure!(dropped == Some(0.0), "{dropped:?}");
            ensure!(value(&text, "minionet_kernel_repairs_total{object=\"nft\"}") == Some(1.0), "{text}");
            anyhow::Ok(())
        })?;
        Ok(())
    })
}
