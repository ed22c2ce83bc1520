//! Peers that have another plan.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_core::membership::Liveness;
use minionet_core::probe::view::Agreement;
use minionet_tests::trials;
use netns_testbed::{Cluster, Node, eventually};

use super::{PATIENT, cluster, results, wait};

pub fn trials() -> Vec<Trial> {
    trials![another_plan_with_the_same_addresses_is_noticed, another_plan_with_other_addresses_is_noticed]
}

/// Three nodes, of which the second has node networks of its own.
fn with_networks(second: &str) -> Result<Cluster> {
    let cluster = cluster().start_without_daemons()?;
    for (index, node) in cluster.nodes().iter().enumerate() {
        let networks = if index == 1 { second } else { "\"172.20.0.0/24\"" };
        let config = format!("probe_interval = \"500ms\"\nnode_networks = [{networks}]\n");
        node.write("/etc/minionet/minionet.toml", config)?;
    }
    cluster.nodes().iter().try_for_each(Node::start_daemon)?;
    cluster.wait_ready()?;
    Ok(cluster)
}

fn another_plan_with_the_same_addresses_is_noticed() -> Result<()> {
    let cluster = with_networks("\"172.20.0.0/24\", \"172.21.0.0/24\"")?;
    for (of, about) in [(0, 1), (1, 0), (2, 1)] {
        // A request of the peer tells its plan, also before it has answered one.
        wait(&cluster, of, about, "alive with another plan", |p| {
            p.plan == Agreement::Different && p.state == Liveness::Alive
        })?;
    }
    wait(&cluster, 0, 2, "with the same plan", |p| p.plan == Agreement::Same)?;
    eventually("the log to tell of the plan", PATIENT, || {
        let log = cluster.node(0).log()?;
        ensure!(log.contains("172.20.0.2 has another plan"), "{log}");
        Ok(())
    })?;
    Ok(())
}

fn another_plan_with_other_addresses_is_noticed() -> Result<()> {
    // By its order of the networks, the second node and its peers have other addresses and MACs
    // than by that of the others: nothing that is addressed to a VTEP arrives.
    let cluster = with_networks("\"172.21.0.0/24\", \"172.20.0.0/24\"")?;
    for (of, about) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
        let peer = wait(&cluster, of, about, "dead with another plan", |p| {
            p.plan == Agreement::Different && p.state == Liveness::Dead
        })?;
        ensure!(peer.last_reply.is_none(), "{peer:?}");
        ensure!(results(cluster.node(of))?.counters.hellos_received > 0);
    }
    wait(&cluster, 0, 2, "alive with the same plan", |p| {
        p.plan == Agreement::Same && p.state == Liveness::Alive
    })?;
    Ok(())
}
