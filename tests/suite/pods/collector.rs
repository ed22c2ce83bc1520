//! The daemon cleans up after pods whose DEL never came.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::{Node, eventually};

use super::bed::{collect_all, on_orphaned_node, same, traces};
use crate::cni::support::{PATIENT, Sandbox, add, call, conf, del, on_node_with, silent};

pub fn trials() -> Vec<Trial> {
    trials![
        a_pod_that_vanished_is_collected_by_the_daemon => [Need::Program("nft")],
        a_living_pod_is_left_alone => [Need::Program("nft")],
        what_lost_its_record_is_removed => [Need::Program("nft")],
        a_route_without_a_pod_is_removed => [Need::Program("nft")],
    ]
}

/// Attaches a container and says what there was before.
fn attached(node: &Node) -> Result<(Sandbox, std::collections::BTreeSet<String>)> {
    let sandbox = Sandbox::new(node, "c1")?;
    let before = traces(node, &sandbox)?;
    add(node, &sandbox.attachment, &conf("1.1.0"))?;
    Ok((sandbox, before))
}

fn a_pod_that_vanished_is_collected_by_the_daemon() -> Result<()> {
    on_node_with("collect_interval = \"100ms\"", |node| {
        let (sandbox, before) = attached(node)?;
        // As when the machine's runtime is restarted and forgets: nobody calls DEL.
        node.unbind_pod("c1")?;
        sandbox.namespace.ip("link del eth0")?;
        Ok(eventually("the daemon to notice", PATIENT, || same(&before, &traces(node, &sandbox)?))?)
    })
}

fn a_living_pod_is_left_alone() -> Result<()> {
    on_orphaned_node("", |node| {
        let (sandbox, before) = attached(node)?;
        let with = traces(node, &sandbox)?;
        let outcome = collect_all(node)?;
        ensure!(outcome.removed.is_empty(), "{outcome:?}");
        same(&with, &traces(node, &sandbox)?)?;
        // Its namespace has no name any more, but it is there, and so is the interface.
        node.unbind_pod("c1")?;
        let outcome = collect_all(node)?;
        ensure!(outcome.removed.is_empty(), "{outcome:?}");
        silent(&call(node, "DEL", &sandbox.attachment, &conf("1.1.0"))?)?;
        same(&before, &traces(node, &sandbox)?)
    })
}

fn what_lost_its_record_is_removed() -> Result<()> {
    on_orphaned_node("", |node| {
        let (sandbox, before) = attached(node)?;
        node.exec(["sh", "-c", "rm /run/minionet/attachments/*.json"])?;
        let outcome = collect_all(node)?;
        ensure!(outcome.removed.len() == 2, "the interface and the leases: {outcome:?}");
        same(&before, &traces(node, &sandbox)?)
    })
}

fn a_route_without_a_pod_is_removed() -> Result<()> {
    on_orphaned_node("", |node| {
        let (sandbox, before) = attached(node)?;
        node.ip("route add 10.32.1.200 dev minionet proto 110")?;
        let outcome = collect_all(node)?;
        ensure!(outcome.removed.len() == 1, "{outcome:?}");
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        same(&before, &traces(node, &sandbox)?)
    })
}
