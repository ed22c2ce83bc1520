//! What a daemon that stops leaves to the next one, and what it does not.

use anyhow::{Error, Result, ensure};
use libtest_mimic::Trial;
use minionet_core::membership::Liveness;
use minionet_core::probe::Kept;
use minionet_core::probe::view::{PathState, ProbeView};
use minionet_tests::{Installed, Need, previous_programs, trials};
use netns_testbed::{Binaries, Cluster, Node, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{PATIENT, RESULTS, results, wait};
use crate::robust::wait_for_log;
use crate::status::report;

/// Whoever has answered is not asked again while a test lasts.
const CONFIG: &str = "probe_interval = \"25m\"";

/// What the daemon says when it believes what was left.
const KNOWN: &str = "these answered an earlier run, and are not met anew";

pub fn trials() -> Vec<Trial> {
    trials![
        whoever_answered_is_not_met_anew,
        a_daemon_that_was_killed_leaves_nothing,
        what_is_not_of_this_node_is_not_believed,
        a_peer_that_dies_meanwhile_is_found,
        an_earlier_version_and_this_one_read_each_others_results => [Need::PreviousPrograms],
    ]
}

/// A node and its peers, all of which have met.
fn acquainted(config: &str) -> Result<Cluster> {
    let cluster = Cluster::builder("cncfdemo").config(config).start()?;
    cluster.wait_ready()?;
    all_met(&cluster)?;
    Ok(cluster)
}

/// Waits until the first node has seen all there is to see of its peers.
fn all_met(cluster: &Cluster) -> Result<()> {
    for about in 1..cluster.nodes().len() {
        wait(cluster, 0, about, "as it is", |p| p.state == Liveness::Alive && p.path == PathState::Full)?;
    }
    Ok(())
}

/// Stops the daemon; the file that it left.
fn stop(node: &Node) -> Result<String> {
    let status = node.kill_daemon(Signal::SIGTERM)?;
    ensure!(status.success(), "{status}");
    Ok(node.read(RESULTS)?)
}

/// Starts the daemon again, and waits for its first results: another file than is there.
fn start(node: &Node) -> Result<ProbeView> {
    let before = node.read(RESULTS)?;
    node.start_daemon()?;
    let text = eventually("the results of the new daemon", PATIENT, || {
        let text = node.read(RESULTS)?;
        ensure!(text != before, "still {text}");
        Ok::<_, Error>(text)
    })?;
    ensure!(Kept::parse(&text).is_none(), "a daemon that runs leaves nothing: {text}");
    Ok(ProbeView::parse(&text)?)
}

fn whoever_answered_is_not_met_anew() -> Result<()> {
    let cluster = acquainted(CONFIG)?;
    let node = cluster.node(0);
    for _ in 0..3 {
        let left = stop(node)?;
        ensure!(Kept::parse(&left).is_some_and(|kept| kept.len() == 2), "{left}");
        let (before, after) = (ProbeView::parse(&left)?, start(node)?);
        // All that is known of them, since when they answer and their round trips included.
        ensure!(before.peers == after.peers, "{after:?} after {before:?}");
        wait_for_log(node, &[KNOWN, "known=2", "peers=2"])?;
        ensure!(results(node)?.counters.requests_sent == 0, "{:?}", results(node)?);
    }
    Ok(())
}

fn a_daemon_that_was_killed_leaves_nothing() -> Result<()> {
    let cluster = acquainted(CONFIG)?;
    let node = cluster.node(0);
    node.kill_daemon(Signal::SIGKILL)?;
    start(node)?;
    met_anew(&cluster)
}

/// All peers are met, by requests of this run.
fn met_anew(cluster: &Cluster) -> Result<()> {
    let node = cluster.node(0);
    eventually("requests of the new daemon", PATIENT, || {
        let counters = results(node)?.counters;
        // Each is asked twice, the second time with the full size as well.
        ensure!((6..20).contains(&counters.requests_sent), "{counters:?}");
        Ok::<_, Error>(())
    })?;
    all_met(cluster)
}

fn what_is_not_of_this_node_is_not_believed() -> Result<()> {
    let cluster = acquainted(CONFIG)?;
    let node = cluster.node(0);
    let damages: [fn(&mut Value); 4] = [
        |file| file["kept"]["boot"] = json!("0123456789abcdef0123456789abcdef"),
        |file| file["kept"]["plan"] = json!("0123456789abcdef"),
        |file| file["kept"]["peers"] = json!([1, 2, 3]),
        |file| {
            let nodes = ["172.20.0.3", "172.20.0.2"];
            let peers = file["kept"]["peers"].as_array_mut().into_iter().flatten();
            peers.zip(nodes).for_each(|(peer, node)| peer["node"] = json!(node));
        },
    ];
    for damage in damages {
        let left = stop(node)?;
        let mut file: Value = serde_json::from_str(&left)?;
        damage(&mut file);
        ensure!(file != serde_json::from_str::<Value>(&left)?, "nothing was changed in {left}");
        node.write(RESULTS, file.to_string())?;
        start(node)?;
        met_anew(&cluster)?;
    }
    // Nor is what is no file of results at all.
    for garbage in ["", "{\"schema\": 1, \"kept\"", "\u{0}\u{1}\u{2}", "[[[[[[[[[[[[", "null"] {
        stop(node)?;
        node.write(RESULTS, garbage)?;
        start(node)?;
        met_anew(&cluster)?;
    }
    ensure!(!node.log()?.contains(KNOWN), "{}", node.log()?);
    Ok(())
}

fn a_peer_that_dies_meanwhile_is_found() -> Result<()> {
    let cluster = acquainted("probe_interval = \"3s\"")?;
    let node = cluster.node(0);
    stop(node)?;
    cluster.node(1).kill_daemon(Signal::SIGKILL)?;
    node.start_daemon()?;
    wait(&cluster, 0, 1, "dead", |p| p.state == Liveness::Dead)?;
    wait(&cluster, 0, 2, "alive", |p| p.state == Liveness::Alive)?;
    // The dead are not kept: they would have to be found dead by each daemon anew.
    let left = stop(node)?;
    ensure!(Kept::parse(&left).is_some_and(|kept| kept.len() <= 1), "{left}");
    Ok(())
}

fn an_earlier_version_and_this_one_read_each_others_results() -> Result<()> {
    let current = Binaries::locate()?;
    let previous = previous_programs().map_err(Error::msg)?;
    let installed = Installed::of(&previous)?;
    let builder = Cluster::builder("cncfdemo").config(CONFIG);
    builder.binaries(Binaries::in_directory(installed.directory())).run(|cluster| {
        let node = cluster.node(0);
        all_met(cluster)?;
        for programs in [current.directory(), &previous, current.directory()] {
            stop(node)?;
            installed.replace(programs)?;
            // The command of the other version reads what a stopped daemon left.
            let told = report(node)?;
            let peers = told["peers"].as_array().into_iter().flatten();
            let answering = peers.filter(|peer| peer["probe"]["state"] == "alive").count();
            ensure!(answering == 2, "{told:#}");
            start(node)?;
            all_met(cluster)?;
        }
        Ok(())
    })
}
