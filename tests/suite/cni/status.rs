//! STATUS: quick, whatever the state, and clear about what to do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::cni::{Attachment, CniAnswer};
use netns_testbed::{Cluster, Fault, Node, eventually};
use nix::sys::signal::Signal;
use serde_json::json;

use super::support::*;

/// Runtimes hold a lock while they ask; the limit that is promised is a second. A machine may be
/// busy, so the quickest of several calls counts.
const LIMIT: Duration = Duration::from_secs(2);

pub fn trials() -> Vec<Trial> {
    trials![
        a_healthy_node_is_quiet,
        a_full_pool_is_told,
        a_daemon_that_is_dead_or_stuck_is_told,
        damage_is_told_and_repaired => [Need::Program("nft")],
        a_state_directory_that_cannot_be_written_is_told,
        names_that_cannot_be_resolved_are_told,
    ]
}

fn status(node: &Node) -> Result<CniAnswer> {
    let nobody = Attachment { interface: String::new(), ..attachment("", "") };
    Ok(eventually("STATUS to be quick", PATIENT, || {
        let answer = call(node, "STATUS", &nobody, &conf("1.1.0"))?;
        ensure!(answer.elapsed < LIMIT, "it took {:?}", answer.elapsed);
        anyhow::Ok(answer)
    })?)
}

fn healthy(node: &Node) -> Result<()> {
    eventually("STATUS to be well", PATIENT, || silent(&status(node)?))?;
    Ok(())
}

/// Cases 82 and 83.
fn a_healthy_node_is_quiet() -> Result<()> {
    on_node(|node| {
        healthy(node)?;
        let answer = call_with(node, "STATUS", &attachment("", ""), &conf("1.1.0"), |mut call| {
            call.environment.retain(|name, _| name == "CNI_COMMAND");
            call
        })?;
        silent(&answer)?;
        // With this configuration, no ADD works.
        let answer = call(node, "STATUS", &attachment("", ""), &conf_with(json!({"mtu": 9000})))?;
        fails(&answer, 50, &["mtu", "9000"])?;
        Ok(())
    })
}

/// Case 82: host-local says that all is well.
fn a_full_pool_is_told() -> Result<()> {
    let one = "node_prefix = 30\nnode_networks = \"172.20.0.0/24\"\npod_network = \"10.32.0.0/16\"";
    on_node_with(one, |node| {
        healthy(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        add(node, &sandbox.attachment, &conf("1.1.0"))?;
        fails(&status(node)?, 50, &["no IP address", "10.32.0.4/30"])?;
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        healthy(node)
    })
}

/// Case 82: an ADD works all the same, but peers that come are not noticed.
fn a_daemon_that_is_dead_or_stuck_is_told() -> Result<()> {
    on_node(|node| {
        healthy(node)?;
        node.kill_daemon(Signal::SIGKILL)?;
        // One that is restarted is not missed.
        let told = || fails(&status(node)?, 51, &["minionetd"]);
        eventually("STATUS to miss the daemon", PATIENT, told)?;
        let sandbox = Sandbox::new(node, "c1")?;
        add(node, &sandbox.attachment, &conf("1.1.0"))?;
        node.start_daemon()?;
        healthy(node)?;
        // Stopped: alive, and silent for ever.
        node.signal_daemon(Signal::SIGSTOP)?;
        let stuck = status(node)?;
        ensure!(stuck.success() || failure(&stuck)?.code == 51, "{:?}", texts(&stuck));
        node.signal_daemon(Signal::SIGCONT)?;
        healthy(node)
    })
}

/// Case 82: device and rules.
fn damage_is_told_and_repaired() -> Result<()> {
    on_node(|node| {
        healthy(node)?;
        for (damage, named) in [("ip link del minionet", "minionet"), ("nft flush ruleset", "nft")] {
            eventually("the daemon to tell of its rules", PATIENT, || rules_are_known(node))?;
            node.kill_daemon(Signal::SIGKILL)?;
            node.exec(["sh", "-c", damage])?;
            fails(&status(node)?, 51, &[named]).context(damage)?;
            node.start_daemon()?;
            healthy(node).context(damage)?;
        }
        Ok(())
    })
}

/// An ADD would fail.
fn a_state_directory_that_cannot_be_written_is_told() -> Result<()> {
    on_node(|node| {
        healthy(node)?;
        // The daemon writes there as well; it is not what is tested.
        node.kill_daemon(Signal::SIGKILL)?;
        node.exec([
            "sh",
            "-c",
            "mount --bind /run/minionet /run/minionet && mount -o remount,ro,bind /run/minionet",
        ])?;
        fails(&status(node)?, 50, &["/run/minionet"])?;
        node.exec(["umount", "/run/minionet"])?;
        Ok(())
    })
}

/// Case 82: what is known stays, and what changes is not noticed.
fn names_that_cannot_be_resolved_are_told() -> Result<()> {
    let quick = "dns_timeout = \"100ms\"\nrefresh_max = \"1s\"\ndns_silence = \"5s\"";
    Cluster::builder("cncfdemo").nodes(1).config(quick).run(|cluster| {
        let node = cluster.node(0);
        healthy(node)?;
        cluster.dns().set_fault(Fault::Timeout);
        eventually("STATUS to tell of DNS", PATIENT, || fails(&status(node)?, 51, &["DNS"]))?;
        let sandbox = Sandbox::new(node, "c1")?;
        add(node, &sandbox.attachment, &conf("1.1.0"))?;
        cluster.dns().set_fault(None);
        healthy(node)
    })
}
