//! A minion joins: its record is added to DNS, and nothing else is done.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use minionet_core::cni::ipam::Space;
use minionet_core::plan::AddressPlan;
use netns_testbed::traffic::ContinuousPing;
use netns_testbed::{Cluster, Pod, eventually};

use super::report::{Join, Reached, latest, milliseconds};
use super::{all_at_once, matrix};

/// How long the newcomer may take until it is open for pods, and its pod until it was reached.
const PATIENCE: Duration = Duration::from_secs(15);
/// How far apart the requests of one probe are at least.
const INTERVAL: Duration = Duration::from_millis(5);
/// By how much they are further apart for each probe, so that many do not fill the machine.
const INTERVAL_PER_PROBE: Duration = Duration::from_micros(250);

/// A request every few milliseconds from one pod to one address.
struct Probe {
    pod: String,
    address: IpAddr,
    ping: ContinuousPing,
}

/// A minion that runs and that nobody knows of, and the probes that wait for it.
pub struct Newcomer {
    index: usize,
    targets: Vec<IpAddr>,
    probes: Vec<Probe>,
}

impl Newcomer {
    /// Starts a minion without a record, and the probes of all pods.
    ///
    /// They ask the addresses that its first pod will have: these follow from the plan.
    ///
    /// # Errors
    /// When a part of it cannot be started, or a probe is answered already.
    pub fn prepare(cluster: &mut Cluster, plan: &AddressPlan, pods: &[Pod]) -> Result<Self> {
        let index = cluster.add_node()?;
        let node = cluster.node(index);
        let space = Space::new(&plan.node(node.address())?.blocks);
        let targets: Vec<IpAddr> =
            space.at(space.pool().start).iter().map(|assigned| assigned.address).collect();
        let count = u32::try_from(pods.len() * targets.len())?;
        let interval = INTERVAL.max(INTERVAL_PER_PROBE * count);
        let probes = pods.iter().flat_map(|pod| targets.iter().map(move |address| (pod, *address)));
        let probes = probes
            .map(|(pod, address)| {
                let ping = ContinuousPing::start(pod, address, interval)?;
                Ok(Probe { pod: pod.name().to_owned(), address, ping })
            })
            .collect::<Result<Vec<_>>>()?;
        eventually("the start of the newcomer's daemon and of every probe", PATIENCE, || {
            let running = node.log().is_ok_and(|log| !log.is_empty());
            let asked = probes.iter().all(|probe| probe.ping.report().sent > 0);
            if running && asked { Ok(()) } else { Err("not yet") }
        })?;
        let early = probes.iter().find(|probe| probe.ping.report().received() > 0);
        let early = early.map(|probe| probe.address);
        ensure!(early.is_none(), "{early:?} answered before its node was in DNS");
        Ok(Self { index, targets, probes })
    }

    /// Adds the record, attaches a pod as soon as the newcomer is ready, and waits for all probes.
    ///
    /// Returns what was measured and the newcomer's pod.
    ///
    /// # Errors
    /// When the newcomer does not become ready or its pod cannot be attached. A probe without an
    /// answer is no error here: it is in the result.
    pub fn join(self, cluster: &Cluster, pod_name: &str, pods: &[Pod]) -> Result<(Join, Pod)> {
        let node = cluster.node(self.index);
        let changed = Instant::now();
        cluster.join(self.index)?;
        // What a kubelet does: it waits for the network configuration, and starts the pods.
        eventually(&format!("{} to become ready", node.name()), PATIENCE, || node.ready())?;
        let ready = changed.elapsed();
        let pod = node.add_pod(pod_name).context("attach a pod to the newcomer")?;
        let attached = changed.elapsed();
        let addresses = pod.addresses();
        ensure!(addresses == self.targets, "{pod_name} got {addresses:?} instead of {:?}", self.targets);

        // Who is still silent at the end is seen below.
        let _ = eventually("every pod to reach the newcomer", PATIENCE, || {
            let silent = self.probes.iter().filter(|probe| probe.ping.report().first_reply.is_none()).count();
            if silent == 0 { Ok(()) } else { Err(format!("{silent} probes are not answered")) }
        });
        let reached: Vec<Reached> = self
            .probes
            .iter()
            .map(|probe| {
                let first = probe.ping.report().first_reply;
                let ms = first.map(|first| milliseconds(first.saturating_duration_since(changed)));
                Reached { pod: probe.pod.clone(), address: probe.address, ms }
            })
            .collect();
        all_at_once(self.probes, drop);
        let all: Vec<&Pod> = pods.iter().collect();
        let join = Join {
            node: node.name().to_owned(),
            address: node.address(),
            ttl_s: super::TTL,
            ready_ms: milliseconds(ready),
            attached_ms: milliseconds(attached),
            all_ms: latest(reached.iter().map(|reached| reached.ms)),
            reached,
            back: matrix::measure(&[&pod], &all),
        };
        Ok((join, pod))
    }
}
