//! DNS that fails in every way that is known, for longer than it takes to remove a peer.

use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::traffic::ContinuousPing;
use netns_testbed::{Cluster, Fault, Garbage, Node, TcpAfterTruncation};

use super::{HASTY, PATIENT, everybody_reaches_everybody, pod_per_node, wait_for_members, wait_for_queries};

pub fn trials() -> Vec<Trial> {
    trials![no_fault_of_dns_removes_anybody]
}

fn faults() -> Vec<Fault> {
    vec![
        Fault::ServFail,
        Fault::NxDomain,
        Fault::Refused,
        Fault::Empty,
        Fault::Timeout,
        Fault::Truncated(TcpAfterTruncation::Closed),
        Fault::Truncated(TcpAfterTruncation::Hung),
        Fault::Garbage(Garbage::Noise),
        Fault::Garbage(Garbage::WrongId),
        Fault::Garbage(Garbage::Cut),
        // Within and beyond the time that a query may take.
        Fault::Slow(Duration::from_millis(50)),
        Fault::Slow(Duration::from_millis(500)),
    ]
}

fn no_fault_of_dns_removes_anybody() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(3).config(HASTY).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        let all: Vec<&Node> = cluster.nodes().iter().collect();
        everybody_reaches_everybody(&pods)?;
        let ping = |from: usize, to: usize| {
            ContinuousPing::start(&pods[from], pods[to].address(), Duration::from_millis(5))
        };
        let pings = [ping(0, 1)?, ping(1, 2)?, ping(2, 0)?];
        for fault in faults() {
            cluster.dns().set_fault(fault.clone());
            // An answer without a peer is enough to remove it, and this is time for several.
            wait_for_queries(cluster, 24)?;
            wait_for_members(&all, &[1, 2, 3]).with_context(|| format!("{fault:?}"))?;
        }
        cluster.dns().remove_name(&cluster.dns_name());
        cluster.dns().set_fault(None);
        wait_for_queries(cluster, 24)?;
        wait_for_members(&all, &[1, 2, 3]).context("the name is gone")?;
        for ping in pings {
            ping.wait_for_replies(5, PATIENT)?;
            ping.stop_without_loss()?;
        }

        // That nobody was removed is due to the faults, and not to long thresholds.
        cluster.dns().set(&cluster.dns_name(), &[all[0].address(), all[1].address()], 1)?;
        wait_for_members(&all[..2], &[1, 2])
    })
}
