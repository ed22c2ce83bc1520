//! A minion leaves: its record is removed from DNS, and nothing else is done.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use minionet_core::constants::DEVICE;
use minionet_core::overlay::Observed;
use minionet_core::plan::{AddressPlan, NodePlan};
use minionet_netlink::{Socket, overlay};
use netns_testbed::traffic::ContinuousPing;
use netns_testbed::{Cluster, Pod, eventually};

use super::all_at_once;
use super::report::{Entries, Forgotten, Leave, latest, milliseconds};

/// How long the others may take to forget the one that left.
const PATIENCE: Duration = Duration::from_secs(30);
/// How far apart the requests between the others' pods are.
const INTERVAL: Duration = Duration::from_millis(10);

/// A minion that stays, seen through its kernel.
struct Witness {
    node: String,
    socket: Socket,
    before: Entries,
    after: Entries,
    forgotten: Option<Duration>,
}

impl Witness {
    /// Looks at what the kernel holds of a peer now.
    fn look(&mut self, peer: &NodePlan) -> Result<&Entries> {
        let observed = overlay::read(&mut self.socket, DEVICE)
            .with_context(|| format!("read the kernel's tables of {}", self.node))?;
        self.after = entries(&observed, peer);
        Ok(&self.after)
    }
}

/// What of an observed state leads to a peer.
fn entries(observed: &Observed, peer: &NodePlan) -> Entries {
    let is_gateway = |address| peer.blocks.iter().any(|block| block.gateway == address);
    let routes = observed.routes.iter().filter(|route| {
        route.gateway.is_some_and(is_gateway) || peer.blocks.iter().any(|block| block.cidr == route.dst)
    });
    let fdb = observed.fdb.iter().filter(|(mac, address)| *mac == peer.mac || *address == peer.node);
    let neighbours = observed
        .neighbours
        .iter()
        .filter(|(address, neighbour)| is_gateway(**address) || neighbour.mac == Some(peer.mac));
    Entries { routes: routes.count(), neighbours: neighbours.count(), fdb: fdb.count() }
}

/// Removes the record of a node and watches how the others forget it.
///
/// `pods` are the pods of the others; requests go round among them meanwhile.
///
/// # Errors
/// When the tables cannot be read, or a node did not know the one that leaves. A node that does
/// not forget, or a lost request, is no error here: it is in the result.
pub fn leave(cluster: &Cluster, leaver: usize, plan: &AddressPlan, pods: &[&Pod]) -> Result<Leave> {
    let leaving = cluster.node(leaver);
    let peer = plan.node(leaving.address())?;
    let mut witnesses = cluster
        .nodes()
        .iter()
        .filter(|node| node.name() != leaving.name())
        .map(|node| {
            let socket = node.run(Socket::open)?.context("open netlink")?;
            let none = Entries { routes: 0, neighbours: 0, fdb: 0 };
            let node = node.name().to_owned();
            let mut witness = Witness { node, socket, before: none.clone(), after: none, forgotten: None };
            witness.before = witness.look(&peer)?.clone();
            let complete = peer.blocks.len();
            let knew = &witness.before;
            ensure!(
                knew.routes == complete && knew.neighbours == complete && knew.fdb == 1,
                "{} does not know {} as it should: {knew:?}",
                witness.node,
                leaving.name()
            );
            Ok(witness)
        })
        .collect::<Result<Vec<_>>>()?;
    let pings = ring(pods)?;

    let changed = Instant::now();
    cluster.leave(leaver)?;
    // Who has not forgotten at the end is seen below.
    let _ = eventually("every node to forget the one that left", PATIENCE, || {
        let mut waiting = 0;
        for witness in witnesses.iter_mut().filter(|witness| witness.forgotten.is_none()) {
            if witness.look(&peer)?.is_empty() {
                witness.forgotten = Some(changed.elapsed());
            } else {
                waiting += 1;
            }
        }
        ensure!(waiting == 0, "{waiting} nodes still know it");
        Ok(())
    });
    let reports = all_at_once(pings, ContinuousPing::stop);
    let forgotten: Vec<Forgotten> = witnesses
        .into_iter()
        .map(|witness| Forgotten {
            node: witness.node,
            before: witness.before,
            after: witness.after,
            ms: witness.forgotten.map(milliseconds),
        })
        .collect();
    let all_ms = latest(forgotten.iter().map(|witness| witness.ms));
    Ok(Leave {
        node: leaving.name().to_owned(),
        address: leaving.address(),
        missing_answers: super::MISSING_ANSWERS,
        hold_down_s: super::HOLD_DOWN_S,
        forgotten,
        all_ms,
        others_sent: reports.iter().map(|report| u64::from(report.sent)).sum(),
        others_lost: reports.iter().map(|report| report.lost().len() as u64).sum(),
    })
}

/// Lets every pod ping the next one all the time, and the last the first.
fn ring(pods: &[&Pod]) -> Result<Vec<ContinuousPing>> {
    let next = pods.iter().cycle().skip(1);
    let pairs = pods.iter().zip(next).filter(|(from, to)| from.name() != to.name());
    pairs
        .flat_map(|(from, to)| to.addresses().into_iter().map(move |address| (from, address)))
        .map(|(from, address)| Ok(ContinuousPing::start(from, address, INTERVAL)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use minionet_core::overlay::{ObservedNeighbour, ObservedRoute};
    use minionet_core::plan::{PlanSpec, PodNetwork};

    use super::*;

    #[test]
    fn only_what_leads_to_the_peer_is_counted() {
        let spec = PlanSpec {
            node_networks: vec!["172.20.0.0/24".parse().unwrap()],
            pod_networks: vec![PodNetwork { network: "10.32.0.0/12".parse().unwrap(), node_prefix: 24 }],
        };
        let plan = AddressPlan::new(spec).unwrap();
        let mut observed = Observed::default();
        for number in [1, 2] {
            let peer = plan.node([172, 20, 0, number].into()).unwrap();
            let block = peer.blocks[0];
            observed.fdb.insert((peer.mac, peer.node));
            observed.routes.insert(ObservedRoute {
                dst: block.cidr,
                metric: 0,
                refuses: false,
                gateway: Some(block.gateway),
                device: Some(3),
                object: None,
            });
            let neighbour = ObservedNeighbour { mac: Some(peer.mac), permanent: true, ours: true };
            observed.neighbours.insert(block.gateway, neighbour);
        }
        let known = plan.node([172, 20, 0, 2].into()).unwrap();
        assert_eq!(entries(&observed, &known), Entries { routes: 1, neighbours: 1, fdb: 1 });
        let unknown = plan.node([172, 20, 0, 3].into()).unwrap();
        assert!(entries(&observed, &unknown).is_empty());
    }
}
