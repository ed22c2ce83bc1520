//! A cluster that is well.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use minionet_tests::{Trial, trials};
use netns_testbed::{Node, Pod, PodSpec, eventually};
use serde_json::{Value, json};

use super::{PATIENT, call, cluster, peer, report, text};

pub fn trials() -> Vec<Trial> {
    trials![
        a_healthy_node_shows_everything_in_80_columns,
        the_document_has_the_keys_that_are_promised,
        repairs_are_counted_and_named,
        a_reader_that_goes_away_is_no_failure,
    ]
}

/// Waits until a node has measured everything about all of its peers.
fn measured(node: &Node) -> Result<Value> {
    let report = eventually("everything to be measured", PATIENT, || {
        let report = report(node)?;
        ensure!(report["verdict"] == "well", "{:#}", report["warnings"]);
        let peers = report["peers"].as_array().context("peers")?;
        ensure!(peers.iter().all(|peer| peer["probe"]["path"] == "full"), "{peers:#?}");
        anyhow::Ok(report)
    })?;
    Ok(report)
}

fn a_healthy_node_shows_everything_in_80_columns() -> Result<()> {
    cluster().run(|cluster| {
        let node = cluster.node(0);
        let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
        let capabilities = [("portMappings".to_owned(), ports)].into_iter().collect();
        let pod = node.add_pod_with("web", PodSpec { capabilities, ..PodSpec::default() })?;
        measured(node)?;
        Ok(eventually("all of it to be shown", PATIENT, || everything_is_shown(node, &pod))?)
    })
}

fn everything_is_shown(node: &Node, pod: &Pod) -> Result<()> {
    let (text, status) = text(node, &["status"])?;
    ensure!(status == 0, "exit status {status}: {text}");
    for line in text.lines() {
        ensure!(line.chars().count() <= 80, "wider than 80: {line}");
    }
    ensure!(!text.contains('\x1b'), "colours in a pipe: {text:?}");
    ensure!(
        text.starts_with("well     nothing is wrong; 2 of 2 peers answer through the tunnel\n"),
        "{text}"
    );
    for part in [
        "cluster   cncfdemo\n",
        "the overlay is formed\n",
        "node      172.20.0.1 on eth0, the local address that DNS lists\n",
        "pods 10.32.1.0/24 via 10.32.1.1, MTU 1450\n",
        "plan      nodes 172.20.0.0/24; pods 10.32.0.0/12 in /24\n",
        "device    minionet, VNI 4097, port 4789, MAC 0e:6d:00:00:00:01, MTU 1450\n",
        "kernel    device as it should be, nft table there, routes 2 of 2\n",
        "dns       minions.cncfdemo.k8s.: 3 records, TTL 1 s, answered ",
        "a peer goes after 1 answer and 0 s without it\n",
        "PEER        POD CIDR      STATE   SINCE",
    ] {
        ensure!(text.contains(part), "{text} lacks {part:?}");
    }
    for address in ["172.20.0.2  10.32.2.0/24", "172.20.0.3  10.32.3.0/24"] {
        let row = text.lines().find(|line| line.starts_with(address)).context("a row")?;
        let cells: Vec<&str> = row.split_whitespace().collect();
        ensure!(cells[2] == "active" && cells[5] == "yes", "{row}");
        ensure!(row.ends_with(&format!("1450  {}", env!("CARGO_PKG_VERSION"))), "{row}");
    }
    let row = text.lines().find(|line| line.contains(&pod.address().to_string())).context("the pod")?;
    ensure!(row.contains("web") && row.contains("tcp 8080 -> 80"), "{row}");
    let (peers, status) = super::text(node, &["peers"])?;
    ensure!(status == 0 && peers.lines().count() == 3 && peers.starts_with("PEER"), "{peers}");
    let (pods, status) = super::text(node, &["pods"])?;
    ensure!(status == 0 && pods.lines().count() == 2 && pods.starts_with("POD"), "{pods}");
    Ok(())
}

/// Keys with the kinds of their values, as in the file that the unit tests compare with.
fn keys(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    let mut leaf = |kind: &str| into.extend([format!("{path} {kind}")]);
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            let data = [".dns.replies", ".repairs.counts", ".rounds.changes"].contains(&path);
            keys(value, &format!("{path}.{}", if data { "*" } else { key }), into);
        }),
        Value::Array(list) => list.iter().for_each(|value| keys(value, &format!("{path}[]"), into)),
        Value::Null => leaf("null"),
        Value::Bool(_) => leaf("boolean"),
        Value::Number(_) => leaf("number"),
        Value::String(_) => leaf("string"),
    }
}

fn the_document_has_the_keys_that_are_promised() -> Result<()> {
    let promised: BTreeSet<&str> = include_str!("../../../core/src/status/tests/keys.txt").lines().collect();
    let paths: BTreeSet<&str> = promised.iter().filter_map(|key| key.split(' ').next()).collect();
    cluster().run(|cluster| {
        let node = cluster.node(0);
        let _pod = node.add_pod("web")?;
        let report = measured(node)?;
        let mut found = BTreeSet::new();
        keys(&report, "", &mut found);
        for key in &found {
            let (path, kind) = key.split_once(' ').context("a kind")?;
            // Null stands for what is not known, and may stand in the place of a whole object.
            let null = kind == "null" && paths.iter().any(|promised| promised.starts_with(path));
            ensure!(promised.contains(key.as_str()) || null, "{key} is not promised");
        }
        // All parts are there.
        for part in promised.iter().filter_map(|key| key.split(['.', '[', ' ']).nth(1)) {
            ensure!(report.get(part).is_some(), "{part} is lacking");
        }
        let peers: Value = serde_json::from_str(&text(node, &["peers", "--json"])?.0)?;
        ensure!(peers.as_array().is_some_and(|peers| peers.len() == 2), "{peers:#}");
        let pods: Value = serde_json::from_str(&text(node, &["pods", "--json"])?.0)?;
        ensure!(pods[0]["interface"] == "eth0" && pods[0]["linked"] == true, "{pods:#}");
        Ok(())
    })
}

fn repairs_are_counted_and_named() -> Result<()> {
    cluster().nodes(2).run(|cluster| {
        let node = cluster.node(0);
        measured(node)?;
        let before = report(node)?;
        ensure!(
            before["repairs"]["counts"].as_object().is_some_and(|counts| counts.is_empty()),
            "{before:#}"
        );
        node.ip("route del 10.32.2.0/24")?;
        node.sysctl([("net.ipv4.ip_forward", "0")])?;
        eventually("the repairs to be told", PATIENT, || {
            let report = report(node)?;
            let repairs = &report["repairs"];
            ensure!(repairs["counts"]["route"] == 1 && repairs["counts"]["sysctl"] == 1, "{repairs:#}");
            let told = repairs["last"].to_string();
            ensure!(told.contains("add the route 10.32.2.0/24 via 10.32.2.1"), "{told}");
            ensure!(peer(&report, "172.20.0.2")?["programmed"] == true, "{report:#}");
            anyhow::Ok(())
        })?;
        Ok(())
    })
}

fn a_reader_that_goes_away_is_no_failure() -> Result<()> {
    cluster().nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let program = node.programs().join("minionetd").display().to_string();
        // Two documents of the endless row, a line each.
        let script = format!("{program} status --json --watch 1 | head -n 2");
        let lines = node.exec(["sh", "-c", &script])?;
        ensure!(lines.lines().count() == 2, "{lines}");
        for line in lines.lines() {
            ensure!(serde_json::from_str::<Value>(line)?["schema"] == 1, "{line}");
        }
        let wrong = call(node, &["status", "--watch", "0"])?;
        ensure!(wrong.status.code() == Some(2), "{wrong:?}");
        Ok(())
    })
}
