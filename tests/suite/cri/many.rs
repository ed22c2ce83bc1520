//! Many pods at the same time.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use minionet_tests::{Need, Trial, at_once, trials};

use super::bed::{Bed, cluster, is_clean};

pub fn trials() -> Vec<Trial> {
    trials![thirty_pods_at_once => [Need::ContainerRuntime, Need::CniPlugin("loopback"), Need::Program("nft")]]
}

/// As when a node is drained onto another one.
fn thirty_pods_at_once() -> Result<()> {
    cluster(1).run(|cluster| {
        let node = cluster.node(0);
        let bed = Bed::start(node)?;
        let names: Vec<_> = (0..30).map(|number| format!("pod-{number}")).collect();
        let pods = at_once(&names, |name| bed.pod(name))?;
        let mut addresses = BTreeSet::new();
        for pod in &pods {
            addresses.extend(bed.client.pod_addresses(pod)?);
        }
        ensure!(addresses.len() == 2 * pods.len(), "{addresses:?}");
        at_once(&pods, |pod| bed.remove(pod))?;
        let left = bed.client.list_pod_sandbox()?;
        ensure!(left.is_empty(), "{left:?}");
        is_clean(node)?;
        Ok(bed.runtime.stop()?)
    })
}
