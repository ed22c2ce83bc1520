//! What the daemon leaves for when it does not run.

use anyhow::{Context, Result, ensure};
use minionet_tests::{Trial, trials};
use netns_testbed::{Node, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{PATIENT, cluster, report};
use crate::overlay::wait_for_queries;

const STATE: &str = "/run/minionet/state.json";

pub fn trials() -> Vec<Trial> {
    trials![the_state_is_written_when_something_changes_and_at_the_end]
}

fn state(node: &Node) -> Result<Value> {
    Ok(serde_json::from_str(&node.read(STATE)?)?)
}

/// How many answers of DNS a state or a report tells of.
fn replies(state: &Value) -> Result<u64> {
    let kinds = state["dns"]["replies"].as_object().context("replies")?;
    Ok(kinds.values().filter_map(Value::as_u64).sum())
}

fn inode(node: &Node) -> Result<String> {
    Ok(node.exec(["stat", "-c", "%i %Y", STATE])?)
}

fn the_state_is_written_when_something_changes_and_at_the_end() -> Result<()> {
    cluster().run(|cluster| {
        let node = cluster.node(0);
        let mut last = String::new();
        // Until it stays the same for several answers of DNS.
        eventually("the state to settle", PATIENT, || {
            ensure!(state(node)?["peers"].as_array().context("peers")?.len() == 2);
            let before = inode(node)?;
            wait_for_queries(cluster, 20)?;
            last = inode(node)?;
            ensure!(before == last, "it is still written");
            anyhow::Ok(())
        })?;
        cluster.leave(2)?;
        eventually("the change to be written", PATIENT, || {
            let peers = state(node)?["peers"].as_array().context("peers")?.len();
            ensure!(peers == 1, "{peers} peers");
            anyhow::Ok(())
        })?;
        ensure!(inode(node)? != last);
        let before = replies(&state(node)?)?;
        eventually("more answers than are written", PATIENT, || {
            let now = replies(&report(node)?)?;
            ensure!(now > before, "{now} after {before}");
            anyhow::Ok(())
        })?;
        ensure!(node.kill_daemon(Signal::SIGTERM)?.success());
        ensure!(replies(&state(node)?)? > before, "the end is not in it");
        ensure!(!node.exists("/run/minionet/minionetd.sock")?, "the socket stays");
        Ok(())
    })
}
