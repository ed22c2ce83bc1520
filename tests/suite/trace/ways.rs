//! Traces that arrive: every kind of target, both families, every mode.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{Cluster, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{LOST, PATIENT, expect_reached, hops, trace, wait_for_answers, wait_for_trace};
use crate::doctor::minionetd;

pub fn trials() -> Vec<Trial> {
    trials![
        pods_and_nodes_are_traced_over_ipv4,
        pods_and_nodes_are_traced_over_ipv6_and_dual,
        without_encapsulation_there_are_fewer_hops,
        a_dead_daemon_hides_its_node_and_hinders_nothing,
    ]
}

fn pods_and_nodes_are_traced_over_ipv4() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).run(|cluster| {
        wait_for_answers(cluster)?;
        let (node, far) = (cluster.node(0), cluster.node(1));
        let (here, there) = (node.add_pod("web")?, far.add_pod("web")?);
        let document = expect_reached(node, &there.address().to_string(), 12)?;
        ensure!(document["channels"]["underlay"] == true && document["channels"]["tunnel"] == true);
        ensure!(document["arrived"]["from"] == "172.20.0.1" && document["arrived"]["vni"] == 4097);
        ensure!(document["arrived"]["interface"] == "eth0", "{document:#}");
        // A node by its own address, and by that of its VTEP.
        for address in ["172.20.0.2", "10.32.2.1"] {
            let document = expect_reached(node, address, 10)?;
            ensure!(document["pod"] == false && document["destination"] == "10.32.2.1", "{document:#}");
        }
        let document = expect_reached(node, &here.address().to_string(), 4)?;
        ensure!(document["way"] == "local", "{document:#}");
        for own in ["172.20.0.1", "10.32.1.1", "127.0.0.1"] {
            let document = expect_reached(node, own, 2)?;
            ensure!(document["way"] == "here", "{document:#}");
        }
        // Nobody is there.
        let finds = |document: &Value, words| document["finding"].as_str().is_some_and(|f| f.contains(words));
        wait_for_trace(node, "10.32.2.200", |document, code| {
            let words = "no pod on 172.20.0.2 has the address";
            document["lost_at"] == "pod" && code == Some(LOST) && finds(document, words)
        })?;
        wait_for_trace(node, "10.32.9.5", |document, code| {
            let words = "belongs to 172.20.0.9, which is no peer";
            document["outcome"] == "lost" && code == Some(LOST) && finds(document, words)
        })?;
        let spoken = minionetd(node, &["trace", "10.32.9.5"])?;
        let means = spoken.out.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(means.contains("no route leads there but those that refuse what no node has"), "{spoken:?}");
        ensure!(means.contains("DNS must list it") && !means.contains("os error"), "{spoken:?}");
        for (address, words) in [
            ("198.51.100.1", "neither a node's address nor a pod's"),
            ("10.47.255.1", "in the pod network, but in no node's block"),
        ] {
            let spoken = minionetd(node, &["trace", address])?;
            ensure!(spoken.code == Some(1) && spoken.err.contains(words), "{spoken:?}");
        }
        // For people: it fits a terminal, and has no colours here.
        eventually("a trace for people", PATIENT, || {
            let spoken = minionetd(node, &["trace", &there.address().to_string()])?;
            ensure!(spoken.out.lines().all(|line| line.chars().count() <= 80), "{}", spoken.out);
            ensure!(!spoken.out.contains('\x1b') && spoken.out.contains("3 of 3"), "{}", spoken.out);
            anyhow::Ok(())
        })?;
        Ok(())
    })
}

fn pods_and_nodes_are_traced_over_ipv6_and_dual() -> Result<()> {
    let pods = "pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]\nnode_prefix = 28";
    Cluster::builder("cncfdemo").nodes(2).underlay("fd00:20::/112").config(pods).run(|cluster| {
        wait_for_answers(cluster)?;
        let (node, far) = (cluster.node(0), cluster.node(1));
        let pod = far.add_pod("web")?;
        ensure!(pod.addresses().len() == 2, "{:?}", pod.addresses());
        for address in pod.addresses() {
            expect_reached(node, &address.to_string(), 12)?;
        }
        expect_reached(node, &far.address().to_string(), 10)?;
        Ok(())
    })
}

fn without_encapsulation_there_are_fewer_hops() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config("encapsulation = \"cross-subnet\"").run(|cluster| {
        wait_for_answers(cluster)?;
        let pod = cluster.node(1).add_pod("web")?;
        let document = expect_reached(cluster.node(0), &pod.address().to_string(), 8)?;
        ensure!(document["way"] == "direct" && document["arrived"]["vni"].is_null(), "{document:#}");
        Ok(())
    })
}

fn a_dead_daemon_hides_its_node_and_hinders_nothing() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).run(|cluster| {
        wait_for_answers(cluster)?;
        let (node, far) = (cluster.node(0), cluster.node(1));
        let pod = far.add_pod("web")?;
        far.kill_daemon(Signal::SIGKILL)?;
        wait_for_trace(node, &pod.address().to_string(), |document, code| {
            document["outcome"] == "reached" && code == Some(0) && hops(document, "passed").len() == 6
        })?;
        // Also from a node whose own daemon is dead.
        node.kill_daemon(Signal::SIGKILL)?;
        far.start_daemon()?;
        eventually("the daemon to answer again", PATIENT, || {
            let (document, _) = trace(node, &pod.address().to_string())?;
            ensure!(hops(&document, "yes").len() == 12, "{document:#}");
            anyhow::Ok(())
        })?;
        Ok(())
    })
}
