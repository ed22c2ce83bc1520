//! Hundreds of pods at once.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Child, Output, Stdio};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::{Node, eventually};
use serde_json::Value;

use super::bed::{command, on_orphaned_node, same, traces};
use crate::cni::support::{PATIENT, Sandbox, addresses, conf, on_node_with};

pub fn trials() -> Vec<Trial> {
    trials![
        five_hundred_at_once => [Need::Program("nft")],
        five_hundred_at_once_without_a_daemon => [Need::Program("nft")],
    ]
}

/// How many: 2^9 addresses of a block are 509 for pods.
const PODS: usize = 500;

/// Starts a call for every sandbox before it waits for the first.
fn at_once(node: &Node, verb: &str, sandboxes: &[Sandbox]) -> Result<Vec<Output>> {
    let input = conf("1.1.0").to_string();
    let start = |sandbox: &Sandbox| -> Result<Child> {
        let mut command = command(node, verb, &sandbox.attachment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("its input")?.write_all(input.as_bytes())?;
        Ok(child)
    };
    let children: Vec<Child> = sandboxes.iter().map(start).collect::<Result<_>>()?;
    let outputs = children.into_iter().map(|child| Ok(child.wait_with_output()?));
    let outputs: Vec<Output> = outputs.collect::<Result<_>>()?;
    for output in &outputs {
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{verb}: {} {text}", output.status);
    }
    Ok(outputs)
}

fn crowd(node: &Node) -> Result<()> {
    let sandboxes: Vec<Sandbox> =
        (0..PODS).map(|number| Sandbox::new(node, &format!("c{number}"))).collect::<Result<_>>()?;
    let before = traces(node, &sandboxes[0])?;
    let mut all = BTreeSet::new();
    for output in at_once(node, "ADD", &sandboxes)? {
        for address in addresses(&serde_json::from_slice::<Value>(&output.stdout)?)? {
            ensure!(all.insert(address.clone()), "{address} was given twice");
        }
    }
    ensure!(all.len() >= PODS, "{} addresses for {PODS} pods", all.len());
    at_once(node, "DEL", &sandboxes)?;
    for sandbox in &sandboxes {
        // The daemon has the last links to destroy.
        eventually("nothing to be left", PATIENT, || same(&before, &traces(node, sandbox)?))?;
    }
    Ok(())
}

fn five_hundred_at_once() -> Result<()> {
    on_node_with("node_prefix = 23", crowd)
}

fn five_hundred_at_once_without_a_daemon() -> Result<()> {
    on_orphaned_node("node_prefix = 23", crowd)
}
