//! A hundred restarts of the daemons, and an upgrade, under a stream of a thousand datagrams a
//! second each way: none is lost.

use anyhow::{Error, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Installed, Need, previous_programs, trials};
use netns_testbed::{Binaries, Cluster};
use nix::sys::signal::Signal;

use super::{LONG, Traffic, all, print, wait_for_exactly, wait_for_log};
use crate::overlay::{everybody_reaches_everybody, pod_per_node, wait_for_queries};

/// Of both nodes together.
const RESTARTS: usize = 100;
/// Datagrams a second, each way.
const RATE: u32 = 1_000;

/// A node refreshes several times a second.
const CONFIG: &str = "refresh_min = \"100ms\"\nrefresh_max = \"200ms\"\ndns_timeout = \"100ms\"\n";

pub fn trials() -> Vec<Trial> {
    trials![
        a_hundred_restarts_cost_no_packet,
        an_upgrade_and_the_way_back_cost_no_packet => [Need::PreviousPrograms],
    ]
}

fn a_hundred_restarts_cost_no_packet() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config(CONFIG).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        wait_for_exactly(&all(cluster), &[1, 2])?;
        everybody_reaches_everybody(&pods)?;
        let traffic = Traffic::circle(&pods, RATE)?;
        for round in 0..RESTARTS {
            let node = cluster.node(round % 2);
            let signal = if round % 4 < 2 { Signal::SIGTERM } else { Signal::SIGKILL };
            let status = node.kill_daemon(signal)?;
            ensure!(status.success() == (signal == Signal::SIGTERM), "{} ended with {status}", node.name());
            node.start_daemon()?;
            // Every other time it has asked DNS and acted on the answer, else it is killed at
            // whatever it is doing.
            let packets = if round % 8 < 4 {
                wait_for_queries(cluster, 6)?;
                20
            } else {
                round % 16
            };
            traffic.go_on(packets)?;
        }
        wait_for_exactly(&all(cluster), &[1, 2])?;
        traffic.go_on(20)?;
        let sent = traffic.end_without_loss()?;
        print(&format!("restarts: {RESTARTS} restarts, {sent} datagrams, none lost"));
        Ok(())
    })
}

fn an_upgrade_and_the_way_back_cost_no_packet() -> Result<()> {
    let current = Binaries::locate()?;
    let previous = previous_programs().map_err(Error::msg)?;
    let installed = Installed::of(&previous)?;
    let builder = Cluster::builder("cncfdemo").nodes(2).config(CONFIG);
    builder.binaries(Binaries::in_directory(installed.directory())).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        everybody_reaches_everybody(&pods)?;
        let traffic = Traffic::circle(&pods, RATE)?;
        // Forth and back again: each node runs with a newer and with an older one.
        for programs in [current.directory(), &previous, current.directory()] {
            installed.replace(programs)?;
            for node in cluster.nodes() {
                traffic.go_on(50)?;
                node.kill_daemon(Signal::SIGTERM)?;
                node.start_daemon()?;
                wait_for_queries(cluster, 8)?;
                // Pods come while the nodes differ.
                let pod = node.add_pod("meanwhile")?;
                pods.iter().try_for_each(|other| other.ping(pod.address(), LONG).map(drop))?;
                pod.delete()?;
            }
        }
        for node in cluster.nodes() {
            wait_for_log(node, &["taken over from an earlier run"])?;
        }
        wait_for_exactly(&all(cluster), &[1, 2])?;
        traffic.go_on(50)?;
        let sent = traffic.end_without_loss()?;
        // These were attached by the earlier plugin.
        for pod in pods {
            pod.check()?;
            pod.delete()?;
        }
        print(&format!(
            "restarts: an upgrade of {} and back, {sent} datagrams, none lost",
            previous.display()
        ));
        Ok(())
    })
}
