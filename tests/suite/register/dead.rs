//! Nodes that die, and those that are only cut off.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::{Cluster, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::server::Server;
use super::{LONG, NAME, addresses, cluster, pods_talk, start, wait_for_log, wait_for_records, with};
use crate::overlay::wait_for_members;

/// A lease that rests for so long is over.
const LEASE: &str = "register_lease = \"11s\"\n";
/// One that has not rested for long enough before everything else has been looked at.
const LONG_LEASE: &str = "register_lease = \"20s\"\n";

pub fn trials() -> Vec<Trial> {
    trials![
        a_dead_machine_is_removed_and_a_dead_daemon_is_not => [Need::Program("named"), Need::Program("dig")],
        a_partition_removes_nobody_that_lives => [Need::Program("named"), Need::Program("dig")],
        a_silent_server_removes_nobody => [Need::Program("named"), Need::Program("dig")],
    ]
}

/// Starts all nodes, and waits until each finds the others alive.
fn begin(cluster: &Cluster, server: &Server<'_>) -> Result<()> {
    cluster.nodes().iter().try_for_each(start)?;
    wait_for_records(server, &addresses(cluster.nodes()))?;
    for node in cluster.nodes() {
        wait_for_probe(node, "alive", cluster.nodes().len() - 1)?;
    }
    Ok(())
}

/// Waits until the probe of a node finds so many peers in a state.
fn wait_for_probe(node: &netns_testbed::Node, state: &str, count: usize) -> Result<()> {
    eventually(&format!("{count} peers of {} to be {state}", node.name()), LONG, || {
        let view: Value = serde_json::from_str(&node.read("/run/minionet/probe.json")?)?;
        let peers = view["peers"].as_array().context("peers in probe.json")?;
        let found = peers.iter().filter(|peer| peer["state"] == state).count();
        ensure!(found == count, "the probe says {view}");
        anyhow::Ok(())
    })?;
    Ok(())
}

/// When the results of a node's probe were last written, in seconds.
fn written(node: &netns_testbed::Node) -> Result<i64> {
    let view: Value = serde_json::from_str(&node.read("/run/minionet/probe.json")?)?;
    view["written"].as_i64().context("a time in probe.json")
}

/// Waits until a lease has been renewed so often that a dead one's would have been over.
fn wait_for_renewals(server: &Server<'_>, address: IpAddr) -> Result<()> {
    // Three of them are the length of a lease.
    for _ in 0..5 {
        let lease = server.lease(address)?;
        eventually("the lease to be renewed", LONG, || {
            let now = server.lease(address)?;
            ensure!(now != lease, "it is {now}");
            anyhow::Ok(())
        })?;
    }
    Ok(())
}

fn a_dead_machine_is_removed_and_a_dead_daemon_is_not() -> Result<()> {
    with(cluster(4, LEASE), |cluster| {
        let server = Server::bind(cluster.external(), |config| config)?;
        begin(cluster, &server)?;
        let all = addresses(cluster.nodes());
        let judge = cluster.node(0);

        // Its machine answers: pods go on there.
        cluster.node(3).kill_daemon(Signal::SIGKILL)?;
        wait_for_log(judge, &["WARN", "172.20.0.4 is dead by probe, but its machine answers"])?;
        wait_for_renewals(&server, all[0])?;
        ensure!(server.addresses(NAME)? == all.iter().copied().collect(), "a living machine was removed");

        // It does not any more.
        cluster.node(3).remove_nic("eth0")?;
        wait_for_records(&server, &all[..3])?;
        ensure!(server.lease(all[3])?.is_empty(), "its lease is left");
        // The first by number does it, unless another one was quicker on a busy machine.
        eventually("a node to tell of it", LONG, || {
            let logs = [0, 1, 2].map(|node| cluster.node(node).log().unwrap_or_default());
            ensure!(logs.iter().any(|log| log.contains("removed 172.20.0.4 from DNS")), "{logs:?}");
            anyhow::Ok(())
        })?;
        wait_for_members(&[cluster.node(0), cluster.node(1), cluster.node(2)], &[1, 2, 3])?;

        // It is repaired, and comes back.
        cluster.node(3).restore_nic("eth0")?;
        cluster.node(3).start_daemon()?;
        wait_for_records(&server, &all)?;
        pods_talk(cluster)
    })
}

fn a_partition_removes_nobody_that_lives() -> Result<()> {
    with(cluster(5, LEASE), |cluster| {
        let server = Server::bind(cluster.external(), |config| config)?;
        begin(cluster, &server)?;
        let all: std::collections::BTreeSet<IpAddr> = addresses(cluster.nodes()).into_iter().collect();

        // All reach the server: the leases tell that everybody lives.
        cluster.partition(&[&[0, 1, 2, 3], &[4]])?;
        wait_for_probe(cluster.node(0), "dead", 1)?;
        wait_for_renewals(&server, cluster.node(4).address())?;
        ensure!(server.addresses(NAME)? == all, "somebody who renews the lease was removed");
        cluster.heal()?;
        cluster.nodes().iter().try_for_each(|node| wait_for_probe(node, "alive", 4))?;

        // The larger part reaches the server, the other reaches nobody: too many to be dead.
        cluster.partition(&[&[0, 1, 2], &[3, 4]])?;
        // Packets to the server go through the router, which drops what comes from there.
        cluster.router().nft(
            "table inet cut { chain forward { type filter hook forward priority -1; \
             ip saddr { 172.20.0.4, 172.20.0.5 } drop; }; }",
        )?;
        wait_for_probe(cluster.node(0), "dead", 2)?;
        wait_for_renewals(&server, cluster.node(0).address())?;
        ensure!(server.addresses(NAME)? == all, "a part removed the other");
        cluster.router().nft("delete table inet cut")?;
        cluster.heal()?;
        wait_for_probe(cluster.node(0), "alive", 4)
    })
}

fn a_silent_server_removes_nobody() -> Result<()> {
    with(cluster(4, LONG_LEASE), |cluster| {
        let server = Server::bind(cluster.external(), |config| config)?;
        begin(cluster, &server)?;
        let all = addresses(cluster.nodes());
        // A machine is cut off and under suspicion; then the server is silent for longer than a
        // lease takes.
        let judge = cluster.node(0);
        cluster.node(3).link("eth0")?.set_carrier(false)?;
        eventually("the suspicion", LONG, || {
            let report = judge.read("/run/minionet/register.json")?;
            ensure!(report.contains("172.20.0.4"), "{report}");
            anyhow::Ok(())
        })?;
        server.signal(Signal::SIGSTOP)?;
        let start = written(judge)?;
        eventually("the lease to have rested", LONG, || {
            let seconds = written(judge)? - start;
            ensure!(seconds > 21, "{seconds} s have passed");
            anyhow::Ok(())
        })?;
        server.signal(Signal::SIGCONT)?;
        wait_for_log(judge, &["registration works again"])?;
        ensure!(server.addresses(NAME)?.contains(&all[3]), "silence counted against it");
        cluster.node(3).link("eth0")?.set_carrier(true)?;
        wait_for_log(cluster.node(3), &["registration works again"])?;
        // Whoever is slow to come back may be removed by then, and is back all the same.
        wait_for_records(&server, &all)
    })
}
