//! `minionetd trace`, on clusters of the real daemon: it arrives, and where it does not, the hop that
//! loses it is named.

mod losses;
mod ways;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use netns_testbed::{Cluster, Node, eventually};
use serde_json::Value;

use crate::doctor::minionetd;

/// The exit status of a trace that lost packets.
const LOST: i32 = 4;

/// Long enough for a daemon to follow, on a busy machine.
const PATIENT: Duration = Duration::from_secs(30);

pub fn trials() -> Vec<Trial> {
    [losses::trials(), ways::trials()].into_iter().flatten().collect()
}

/// Traces an address from a node; the document, and the exit status.
fn trace(node: &Node, address: &str) -> Result<(Value, Option<i32>)> {
    let spoken = minionetd(node, &["trace", address, "--json"])?;
    let document = serde_json::from_str(&spoken.out).with_context(|| format!("{spoken:?}"))?;
    Ok((document, spoken.code))
}

/// The hops of a document by what was seen at them.
fn hops<'a>(document: &'a Value, seen: &str) -> Vec<&'a str> {
    let hops = document["hops"].as_array().into_iter().flatten();
    hops.filter(|hop| hop["seen"] == seen).filter_map(|hop| hop["hop"].as_str()).collect()
}

/// Waits until a trace of an address ends as `wanted` says; its document. On a busy machine an answer
/// may be too late for a trace, which counts it as lost.
fn wait_for_trace(node: &Node, address: &str, wanted: impl Fn(&Value, Option<i32>) -> bool) -> Result<Value> {
    Ok(eventually(&format!("the trace of {address}"), PATIENT, || {
        let (document, code) = trace(node, address)?;
        ensure!(wanted(&document, code), "{code:?} {document:#}");
        anyhow::Ok(document)
    })?)
}

/// Waits until an address is reached, and every hop saw every packet.
fn expect_reached(node: &Node, address: &str, count: usize) -> Result<Value> {
    wait_for_trace(node, address, |document, code| {
        document["outcome"] == "reached" && code == Some(0) && hops(document, "yes").len() == count
    })
}

/// Waits until the daemons of a cluster answer each other's traces.
fn wait_for_answers(cluster: &Cluster) -> Result<()> {
    for node in cluster.nodes() {
        eventually(&format!("{} to answer traces", node.name()), PATIENT, || {
            let log = node.log()?;
            ensure!(log.contains("traces of peers are answered"), "{log}");
            anyhow::Ok(())
        })?;
    }
    Ok(())
}
