//! The probe through the tunnel, on clusters of the real daemon.

mod health;
mod path;
mod plans;
mod restarts;
mod strangers;

use std::time::Duration;

use anyhow::{Result, anyhow};
use libtest_mimic::Trial;
use minionet_core::probe::view::{PeerProbe, ProbeView};
use netns_testbed::{Cluster, ClusterBuilder, Node, eventually};

/// Long enough for whatever the probe has to find out at the intervals used here.
const PATIENT: Duration = Duration::from_secs(40);

/// Where the daemon leaves the results.
const RESULTS: &str = "/run/minionet/probe.json";

pub fn trials() -> Vec<Trial> {
    [health::trials(), path::trials(), plans::trials(), restarts::trials(), strangers::trials()]
        .into_iter()
        .flatten()
        .collect()
}

/// A cluster whose nodes probe each other twice a second.
fn cluster() -> ClusterBuilder {
    Cluster::builder("cncfdemo").config("probe_interval = \"500ms\"")
}

fn results(node: &Node) -> Result<ProbeView> {
    Ok(ProbeView::parse(&node.read(RESULTS)?)?)
}

/// What a node thinks of a peer, each by its index.
fn opinion(cluster: &Cluster, of: usize, about: usize) -> Result<PeerProbe> {
    let address = cluster.node(about).address();
    let results = results(cluster.node(of))?;
    let peer = results.peers.into_iter().find(|peer| peer.address == address);
    peer.ok_or_else(|| anyhow!("{} does not know {address}", cluster.node(of).name()))
}

/// Waits until a node thinks of a peer as `wanted` says.
fn wait(
    cluster: &Cluster,
    of: usize,
    about: usize,
    what: &str,
    wanted: impl Fn(&PeerProbe) -> bool,
) -> Result<PeerProbe> {
    let what = format!("{} to see {} {what}", cluster.node(of).name(), cluster.node(about).name());
    let peer = eventually(&what, PATIENT, || {
        let peer = opinion(cluster, of, about)?;
        if wanted(&peer) { Ok(peer) } else { Err(anyhow!("{peer:?}")) }
    })?;
    Ok(peer)
}
