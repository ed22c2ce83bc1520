//! Nodes that register themselves, with DNS servers that are in use everywhere; and the recipes of
//! docs/dns.md.

mod dead;
mod join;
mod leave;
mod recipes;
mod refused;
mod server;
mod told;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use netns_testbed::{Cluster, ClusterBuilder, Node, eventually};

use self::server::{SECRET, Server, key_file};
use crate::overlay::{SILENCE, pod_per_node};
use crate::robust::wait_for_log;

/// The zone that the nodes change.
const ZONE: &str = "cncfdemo.k8s";
/// The name that lists them.
const NAME: &str = "minions.cncfdemo.k8s";
/// Where a node expects its key.
const KEY: &str = "/etc/minionet/register.key";
/// Long enough for anything that has to wait for thresholds, on a busy machine: a removal needs a
/// lease that rests, without a gap in the watch, and attempts become rarer.
const LONG: Duration = Duration::from_secs(60);
/// Answers count soon, a removal takes a few of them, and the probe is quick to find the dead.
const CONFIG: &str = "refresh_min = \"100ms\"\nrefresh_max = \"500ms\"\nmissing_answers = 2\nhold_down = \"300ms\"\n\
                      mass_hold = \"1s\"\nprobe_interval = \"300ms\"\nregister = true\nregister_ttl = \"1s\"\n";

pub fn trials() -> Vec<Trial> {
    let all = [
        dead::trials(),
        join::trials(),
        leave::trials(),
        recipes::trials(),
        refused::trials(),
        told::trials(),
    ];
    all.into_iter().flatten().collect()
}

/// A cluster whose nodes ask the host outside, where the server of a test will run.
fn cluster(nodes: usize, config: &str) -> ClusterBuilder {
    let config = format!("{CONFIG}{config}");
    let config =
        if config.contains("resolvers") { config } else { config + "resolvers = [\"198.51.100.1\"]\n" };
    Cluster::builder("cncfdemo").nodes(nodes).config(&config)
}

/// Runs a test with a cluster, and prints its state when that fails.
fn with(cluster: ClusterBuilder, play: impl FnOnce(&Cluster) -> Result<()>) -> Result<()> {
    let cluster = cluster.start_without_daemons()?;
    let outcome = play(&cluster);
    if outcome.is_err() {
        print(&cluster.dump());
    }
    outcome
}

fn print(text: &str) {
    use std::io::Write;
    // Where standard error is closed, nobody reads.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Gives a node the key and starts its daemon.
fn start(node: &Node) -> Result<()> {
    give_key(node, &key_file(SECRET))?;
    Ok(node.start_daemon()?)
}

/// Runs the operator's command on a node, with more patience for the server than it has by itself.
fn command(node: &Node, words: &[&str]) -> Result<String> {
    let patient = ["--cluster-name", "cncfdemo", "--dns-timeout", "30s"];
    Ok(node.minionetd(words.iter().chain(&patient).copied())?)
}

/// All at once, as the daemon may look at any moment.
fn give_key(node: &Node, key: &str) -> Result<()> {
    let new = format!("{KEY}.new");
    node.write(&new, key)?;
    node.exec(["chmod", "0600", &new])?;
    node.exec(["mv", &new, KEY])?;
    Ok(())
}

/// Waits until the server lists exactly these.
fn wait_for_records(server: &Server<'_>, addresses: &[IpAddr]) -> Result<()> {
    let wanted: BTreeSet<IpAddr> = addresses.iter().copied().collect();
    eventually("the records of the nodes", LONG, || {
        let found = server.addresses(NAME)?;
        ensure!(found == wanted, "the server lists {found:?} instead of {wanted:?}");
        anyhow::Ok(())
    })?;
    Ok(())
}

/// Attaches a pod to every node, and waits until each reaches every other, asking again and again:
/// nodes are ready for pods before they know of each other.
fn pods_talk(cluster: &Cluster) -> Result<()> {
    cluster.wait_ready()?;
    let pods = pod_per_node(cluster)?;
    for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))) {
        let what = format!("{} to reach {}", from.name(), to.name());
        eventually(&what, LONG, || from.ping(to.address(), SILENCE))?;
    }
    Ok(())
}

/// The own addresses of nodes.
fn addresses(nodes: &[Node]) -> Vec<IpAddr> {
    nodes.iter().map(|node| node.address()).collect()
}
