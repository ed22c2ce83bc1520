//! Many nodes: they find each other, are cut in halves, restart, come and go; and at the end every
//! table on every node is exactly what the plan says.

use std::fmt::Write;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Pod};
use nix::sys::signal::Signal;

use super::{Traffic, all, print, wait_for_answer, wait_for_exactly};
use crate::overlay::{SILENCE, everybody_reaches_everybody};

/// How many nodes there are, where [`NODES_VARIABLE`] says nothing else.
const NODES: u16 = 20;
/// The variable with another number of nodes, 12 to 200, as in 50.
const NODES_VARIABLE: &str = "MINIONET_TEST_NODES";
/// Joins and leaves.
const CHANGES: usize = 100;
/// The first number of the sequence that decides who joins and leaves.
const SEED: u64 = 0x6d69_6e69_6f6e;

/// Thresholds as short as the test is; those of a mass removal come into play too.
const CONFIG: &str = "refresh_min = \"250ms\"\nrefresh_max = \"1s\"\ndns_timeout = \"500ms\"\n\
                      missing_answers = 2\nhold_down = \"500ms\"\nmass_hold = \"3s\"\n";

/// With more nodes than this, all of them know each other's hardware addresses at once only where
/// the kernel's table of neighbours, which all namespaces share, is larger than by default
/// (`net.ipv4.neigh.default.gc_thresh3`, 1024). Without the probe only those who talk do.
const PROBED: u16 = 25;

pub fn trials() -> Vec<Trial> {
    trials![many_nodes_end_with_exactly_what_the_plan_says => [Need::Program("nft")]]
}

fn nodes() -> Result<u16> {
    let Ok(text) = std::env::var(NODES_VARIABLE) else { return Ok(NODES) };
    let nodes: u16 = text.parse().with_context(|| format!("{NODES_VARIABLE}={text} is no number"))?;
    ensure!((12..=200).contains(&nodes), "{NODES_VARIABLE} can be 12 to 200");
    Ok(nodes)
}

fn many_nodes_end_with_exactly_what_the_plan_says() -> Result<()> {
    let count = nodes()?;
    let start = Instant::now();
    let said =
        |what: &str| print(&format!("{count} nodes: {what} after {:.1} s", start.elapsed().as_secs_f64()));
    let probe = if count > PROBED { "probe_port = \"off\"\n" } else { "" };
    let builder = Cluster::builder("cncfdemo").nodes(usize::from(count)).ttl(0);
    builder.config(&format!("{CONFIG}{probe}")).run(|cluster| {
        let everybody: Vec<u16> = (1..=count).collect();
        wait_for_exactly(&all(cluster), &everybody)?;
        said("formed");
        // Two in each half.
        let last = usize::from(count) - 1;
        let talkers = [0, last, 1, last - 1];
        let pods = talkers.map(|node| cluster.node(node).add_pod("web"));
        let pods = pods.into_iter().collect::<Result<Vec<Pod>, _>>()?;
        everybody_reaches_everybody(&pods)?;

        partition(cluster, &pods, &everybody)?;
        said("cut in halves and healed");

        let traffic = Traffic::circle(&pods, 200)?;
        for (index, node) in cluster.nodes().iter().enumerate() {
            node.kill_daemon(if index % 2 == 0 { Signal::SIGTERM } else { Signal::SIGKILL })?;
            node.start_daemon()?;
            traffic.go_on(5)?;
        }
        wait_for_exactly(&all(cluster), &everybody)?;
        said("restarted one after another");

        // The talkers stay, so that nothing between them may be lost.
        come_and_go(cluster, &traffic, &talkers)?;
        said("changed a hundred times");
        traffic.end_without_loss()?;
        everybody_reaches_everybody(&pods)
    })
}

/// Halves that do not hear each other, and of which one does not hear DNS.
fn partition(cluster: &Cluster, pods: &[Pod], everybody: &[u16]) -> Result<()> {
    let middle = everybody.len() / 2;
    let halves: [Vec<usize>; 2] = [(0..middle).collect(), (middle..everybody.len()).collect()];
    // The pods lie in the first half and the last in turn; inside of a half nothing is lost.
    let inside = [[&pods[0], &pods[2]], [&pods[1], &pods[3]]];
    let inside = inside.map(|half| Traffic::circle(half, 200)).into_iter().collect::<Result<Vec<_>>>()?;
    cluster.partition(&[&halves[0], &halves[1]])?;
    let mut rules = String::new();
    for node in &halves[1] {
        let _ = writeln!(rules, "ip saddr {} udp dport 53 drop", cluster.node(*node).address());
    }
    let dns = cluster.dns_host();
    dns.nft(&format!("table inet cut {{ chain input {{ type filter hook input priority 0;\n{rules}}}\n}}"))?;
    ensure!(pods[0].ping(pods[1].address(), SILENCE).is_err(), "the halves still hear each other");
    // Longer than anybody may be missing.
    inside.iter().try_for_each(|traffic| traffic.go_on(400))?;
    wait_for_exactly(&all(cluster), everybody)?;
    dns.nft("delete table inet cut")?;
    cluster.heal()?;
    for (from, to) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
        wait_for_answer(&pods[from], pods[to].address())?;
    }
    inside.into_iter().try_for_each(|traffic| traffic.end_without_loss().map(drop))?;
    wait_for_exactly(&all(cluster), everybody)
}

/// Nodes join and leave at random, some of them new ones.
fn come_and_go(cluster: &mut Cluster, traffic: &Traffic, staying: &[usize]) -> Result<()> {
    let mut members: Vec<bool> = vec![true; cluster.nodes().len()];
    let mut state = SEED;
    for change in 0..CHANGES {
        // SplitMix64's increment and the upper half of a product: the same sequence in each run.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let draw = (u128::from(state.wrapping_mul(0xbf58_476d_1ce4_e5b9)) * members.len() as u128) >> 64;
        let node = draw as usize;
        if change % 25 == 24 {
            let new = cluster.add_node()?;
            cluster.join(new)?;
            members.push(true);
        } else if !staying.contains(&node) {
            if members[node] {
                cluster.leave(node)?
            } else {
                cluster.join(node)?
            }
            members[node] = !members[node];
        }
        traffic.go_on(4)?;
    }
    let listed: Vec<u16> =
        (1..).zip(&members).filter(|(_, listed)| **listed).map(|(number, _)| number).collect();
    ensure!(listed.len() < members.len(), "nobody left");
    wait_for_exactly(&all(cluster), &listed)
}
