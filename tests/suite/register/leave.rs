//! Nodes that leave, and those that only seem to.

use anyhow::{Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::eventually;
use nix::sys::signal::Signal;

use super::server::Server;
use super::{
    LONG, NAME, addresses, cluster, command, pods_talk, start, wait_for_log, wait_for_records, with,
};
use crate::overlay::wait_for_members;

pub fn trials() -> Vec<Trial> {
    trials![
        a_node_that_leaves_is_forgotten_and_can_return => [Need::Program("named"), Need::Program("dig")],
        a_restart_of_the_daemon_changes_no_record => [Need::Program("named"), Need::Program("dig")],
        a_former_address_that_is_anothers_now_stays => [Need::Program("named"), Need::Program("dig")],
    ]
}

fn a_node_that_leaves_is_forgotten_and_can_return() -> Result<()> {
    with(cluster(3, ""), |cluster| {
        let server = Server::bind(cluster.external(), |config| config)?;
        cluster.nodes().iter().try_for_each(start)?;
        wait_for_records(&server, &addresses(cluster.nodes()))?;
        let (node, others) = (cluster.node(2), [cluster.node(0), cluster.node(1)]);

        let said = command(node, &["deregister"])?;
        ensure!(said.contains("172.20.0.3 is not in minions.cncfdemo.k8s. any more"), "it said {said}");
        ensure!(!server.addresses(NAME)?.contains(&node.address()), "the record is there");
        ensure!(server.lease(node.address())?.is_empty(), "the lease is there");
        wait_for_members(&others, &[1, 2])?;
        // The daemon goes on, has seen many answers without it, and has started anew as well.
        wait_for_log(node, &["this node was taken out of DNS"])?;
        node.kill_daemon(Signal::SIGTERM)?;
        node.write("/var/log/minionetd.log", "")?;
        node.start_daemon()?;
        wait_for_log(node, &["this node was taken out of DNS"])?;
        ensure!(!server.addresses(NAME)?.contains(&node.address()), "it registered again by itself");
        // To leave twice is no error.
        command(node, &["deregister"])?;

        command(node, &["register"])?;
        wait_for_records(&server, &addresses(cluster.nodes()))?;
        pods_talk(cluster)?;

        // Another node takes it out; it lives, and comes back.
        let lease = server.lease(node.address())?;
        command(others[0], &["deregister", "172.20.0.3"])?;
        eventually("the node to come back", LONG, || {
            let now = server.lease(node.address())?;
            ensure!(!now.is_empty() && now != lease, "its lease is {now:?}");
            anyhow::Ok(())
        })?;
        wait_for_records(&server, &addresses(cluster.nodes()))
    })
}

fn a_restart_of_the_daemon_changes_no_record() -> Result<()> {
    with(cluster(2, ""), |cluster| {
        let server = Server::bind(cluster.external(), |config| config)?;
        cluster.nodes().iter().try_for_each(start)?;
        let all = addresses(cluster.nodes());
        wait_for_records(&server, &all)?;
        let node = cluster.node(1);
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let lease = server.lease(node.address())?;
            node.kill_daemon(signal)?;
            ensure!(server.addresses(NAME)? == all.iter().copied().collect(), "{signal} removed a record");
            ensure!(server.lease(node.address())? == lease, "{signal} changed the lease");
            node.start_daemon()?;
            eventually("the lease to be renewed", LONG, || {
                let now = server.lease(node.address())?;
                ensure!(!now.is_empty() && now != lease, "it is {now:?}");
                anyhow::Ok(())
            })?;
            ensure!(server.addresses(NAME)? == all.iter().copied().collect(), "the start removed a record");
        }
        let removals =
            server.log()?.lines().filter(|line| line.contains("deleting an RR at minions")).count();
        ensure!(removals == 0, "records were removed: {}", server.log()?);
        Ok(())
    })
}

fn a_former_address_that_is_anothers_now_stays() -> Result<()> {
    with(cluster(2, ""), |cluster| {
        let server = Server::bind(cluster.external(), |config| config)?;
        cluster.nodes().iter().try_for_each(start)?;
        wait_for_records(&server, &addresses(cluster.nodes()))?;
        // Node 2 is gone for long; another machine has its address, and the record.
        let node = cluster.node(1);
        node.kill_daemon(Signal::SIGKILL)?;
        let ledger = node.read("/var/lib/minionet/registered.json")?;
        node.exec(["rm", "-f", "/var/lib/minionet/registered.json"])?;
        node.write("/var/log/minionetd.log", "")?;
        node.start_daemon()?;
        wait_for_log(node, &["registered 172.20.0.2 in DNS"])?;
        node.kill_daemon(Signal::SIGKILL)?;
        let lease = server.lease(node.address())?;
        // The old one believes that the record is its own.
        node.write("/var/lib/minionet/registered.json", &ledger)?;
        let error = command(node, &["deregister"]).unwrap_err().to_string();
        ensure!(error.contains("belongs to another node by now"), "{error}");
        command(node, &["register"])?;
        // It has another address by now, and starts.
        node.ip("addr del 172.20.0.2/24 dev eth0\naddr add 172.20.0.9/24 dev eth0\n\
             route add default via 172.20.0.254 dev eth0\n")?;
        node.start_daemon()?;
        wait_for_log(node, &["172.20.0.2, which this node had, belongs to another now"])?;
        wait_for_records(&server, &[cluster.node(0).address(), node.address(), "172.20.0.9".parse()?])?;
        ensure!(server.lease(node.address())? == lease, "the lease of the other was changed");
        Ok(())
    })
}
