//! What can be wrong on a node, each provoked for real on one cluster, and undone.

mod dns;
mod node;
mod others;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_core::doctor::CHECKS;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Node, Pod, eventually};
use nix::sys::signal::Signal;

use super::{PATIENT, expect_finding, wait_for_answers, wait_for_health};

pub fn trials() -> Vec<Trial> {
    trials![
        every_breakage_is_named => [Need::Program("nft")],
        every_check_has_a_breakage,
        breakages_of_dns_are_named,
        breakages_of_other_programs_are_named => [Need::Program("nft"), Need::Program("busybox"), Need::Program("perl")],
    ]
}

/// A cluster of two, and a pod on the first node, which is examined.
struct Bed<'a> {
    cluster: &'a Cluster,
    node: &'a Node,
    far: &'a Node,
    pod: Pod,
}

/// A breakage: what is done, how it is undone, and what the doctor says.
struct Breakage {
    name: &'static str,
    break_it: fn(&Bed<'_>) -> Result<()>,
    mend_it: fn(&Bed<'_>) -> Result<()>,
    check: &'static str,
    verdict: &'static str,
    words: &'static [&'static str],
}

/// Breaks, expects, mends, for each; the node must be healthy after each.
fn run(breakages: &[Breakage]) -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).dns_servers(2).run(|cluster| {
        wait_for_answers(cluster)?;
        let (node, far) = (cluster.node(0), cluster.node(1));
        let bed = Bed { cluster, node, far, pod: node.add_pod("web")? };
        for breakage in breakages {
            let Breakage { name, break_it, mend_it, check, verdict, words } = breakage;
            break_it(&bed).with_context(|| format!("break: {name}"))?;
            eventually(name, PATIENT, || expect_finding(node, check, verdict, words))?;
            mend_it(&bed).with_context(|| format!("mend: {name}"))?;
            wait_for_health(node).with_context(|| format!("after: {name}"))?;
        }
        Ok(())
    })
}

/// Changes something while the daemon hangs, so that it does not repair it.
fn behind_its_back(bed: &Bed<'_>, lines: &str) -> Result<()> {
    bed.node.signal_daemon(Signal::SIGSTOP)?;
    Ok(bed.node.ip(lines)?)
}

fn wake(bed: &Bed<'_>) -> Result<()> {
    Ok(bed.node.signal_daemon(Signal::SIGCONT)?)
}

fn exec(bed: &Bed<'_>, line: &str) -> Result<()> {
    Ok(bed.node.exec(line.split_whitespace()).map(drop)?)
}

const CONFIG: &str = "/etc/minionet/minionet.toml";

const LOSS: &str = "table inet loss\ndelete table inet loss";

/// Checks that other tests provoke: `settings`, and `register::told` with a server of its own.
const ELSEWHERE: [&str; 2] = ["cni-plugin", "registration"];

fn every_check_has_a_breakage() -> Result<()> {
    let provoked: Vec<&str> = [node::BREAKAGES, dns::BREAKAGES, others::BREAKAGES]
        .iter()
        .flat_map(|all| all.iter().map(|b| b.check))
        .collect();
    let lacking: Vec<&str> = CHECKS
        .iter()
        .map(|check| check.id)
        .filter(|id| !provoked.contains(id) && !ELSEWHERE.contains(id))
        .collect();
    ensure!(lacking.is_empty(), "nobody provokes {lacking:?}");
    Ok(())
}

fn every_breakage_is_named() -> Result<()> {
    run(node::BREAKAGES)
}

fn breakages_of_dns_are_named() -> Result<()> {
    run(dns::BREAKAGES)
}

fn breakages_of_other_programs_are_named() -> Result<()> {
    run(others::BREAKAGES)
}
