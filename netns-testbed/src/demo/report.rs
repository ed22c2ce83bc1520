//! What the demo found out: the document of `--json`, and the source of every table.

use std::net::IpAddr;
use std::time::Duration;

use minionet_core::addr::{Cidr, Family};
use minionet_core::plan::{AddressPlan, NodePlan};
use serde::Serialize;

/// The whole outcome.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every pod reached every other, and a minion joined and another left as they should.
    pub ok: bool,
    /// What went wrong, in words.
    pub failures: Vec<String>,
    /// The name that the minions look up.
    pub dns_name: String,
    /// Who has which addresses.
    pub plan: Plan,
    /// The pods of the start.
    pub pods: Vec<PodReport>,
    /// One entry for each pair of pods and family of addresses.
    pub matrix: Vec<Pair>,
    /// The minion that joined; absent where it did not come to that.
    pub join: Option<Join>,
    /// The minion that left; absent where it did not come to that.
    pub leave: Option<Leave>,
}

/// The address plan, as far as there are nodes.
#[derive(Debug, Default, Serialize)]
pub struct Plan {
    /// The networks in which nodes live.
    pub node_networks: Vec<Cidr>,
    /// The networks in which pods live.
    pub pod_networks: Vec<Cidr>,
    /// The minions of the start.
    pub nodes: Vec<PlannedNode>,
}

/// A minion and what follows from its address.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedNode {
    /// Its name.
    pub name: String,
    /// Address, index, MAC and blocks.
    #[serde(flatten)]
    pub plan: NodePlan,
}

/// An attached pod.
#[derive(Clone, Debug, Serialize)]
pub struct PodReport {
    /// Its name.
    pub name: String,
    /// The name of its node.
    pub node: String,
    /// The name of its interface.
    pub interface: String,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

/// Whether one pod reached another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The name of the pod that asked.
    pub from: String,
    /// The name of the pod that was asked.
    pub to: String,
    /// The family of the address.
    pub family: Family,
    /// The address that was asked.
    pub address: IpAddr,
    /// The round-trip time in microseconds; `null` without an answer.
    pub rtt_us: Option<u64>,
}

/// How a minion joined. All times count from the change of DNS.
#[derive(Debug, Serialize)]
pub struct Join {
    /// The newcomer's name.
    pub node: String,
    /// Its address on the underlay: the record that was added.
    pub address: IpAddr,
    /// The time to live of the name's records, in seconds.
    pub ttl_s: u32,
    /// When its daemon had opened it for pods, in milliseconds.
    pub ready_ms: f64,
    /// When a pod was attached there, in milliseconds.
    pub attached_ms: f64,
    /// When that pod answered each of the others first.
    pub reached: Vec<Reached>,
    /// When it had answered all of them, in milliseconds; `null` where it never did.
    pub all_ms: Option<f64>,
    /// What the newcomer's pod itself reached.
    pub back: Vec<Pair>,
}

/// The first answer of the newcomer's pod to another.
#[derive(Debug, Serialize)]
pub struct Reached {
    /// The name of the pod that asked.
    pub pod: String,
    /// The address that was asked.
    pub address: IpAddr,
    /// When the answer came, in milliseconds; `null` without an answer.
    pub ms: Option<f64>,
}

/// How a minion left. All times count from the change of DNS.
#[derive(Debug, Serialize)]
pub struct Leave {
    /// The name of the minion that left.
    pub node: String,
    /// Its address on the underlay: the record that was removed.
    pub address: IpAddr,
    /// Complete answers that must lack a minion before it is removed (`missing_answers`).
    pub missing_answers: u32,
    /// How long a minion must be missing before it is removed, in seconds (`hold_down`).
    pub hold_down_s: u64,
    /// When each of the others had forgotten it.
    pub forgotten: Vec<Forgotten>,
    /// When all had, in milliseconds; `null` where they never did.
    pub all_ms: Option<f64>,
    /// Requests between pods of the others meanwhile.
    pub others_sent: u64,
    /// Requests of these without an answer.
    pub others_lost: u64,
}

/// What one minion's kernel held of the one that left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entries {
    /// Routes to its pods.
    pub routes: usize,
    /// Neighbours: its VTEP's addresses.
    pub neighbours: usize,
    /// Forwarding entries: its VTEP's MAC.
    pub fdb: usize,
}

impl Entries {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.routes + self.neighbours + self.fdb == 0
    }
}

/// How one minion forgot the one that left.
#[derive(Debug, Serialize)]
pub struct Forgotten {
    /// The name of the minion that forgot.
    pub node: String,
    /// What its kernel held before.
    pub before: Entries,
    /// What its kernel held at the end.
    pub after: Entries,
    /// When nothing was left, in milliseconds; `null` where something is.
    pub ms: Option<f64>,
}

impl Report {
    /// A report of a demo that has yet to show something.
    pub fn new(dns_name: &str) -> Self {
        Self {
            ok: true,
            failures: Vec::new(),
            dns_name: dns_name.to_owned(),
            plan: Plan::default(),
            pods: Vec::new(),
            matrix: Vec::new(),
            join: None,
            leave: None,
        }
    }

    /// Notes that something went wrong.
    pub fn fail(&mut self, text: String) {
        self.ok = false;
        self.failures.push(text);
    }
}

impl Plan {
    /// The plan of some nodes, given by name and address.
    ///
    /// # Errors
    /// When an address has no place in the plan.
    pub fn of(
        plan: &AddressPlan,
        nodes: impl IntoIterator<Item = (String, IpAddr)>,
    ) -> Result<Self, minionet_core::plan::NotInPlan> {
        let planned = |(name, address)| Ok(PlannedNode { name, plan: plan.node(address)? });
        Ok(Self {
            node_networks: plan.spec().node_networks.clone(),
            pod_networks: plan.spec().pod_networks.iter().map(|pods| pods.network).collect(),
            nodes: nodes.into_iter().map(planned).collect::<Result<_, _>>()?,
        })
    }
}

/// Milliseconds with three digits behind the point.
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The latest of some times; `None` where one is missing.
pub fn latest(times: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    times.into_iter().try_fold(0.0, |latest: f64, time| Some(latest.max(time?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missing_time_leaves_the_whole_unknown() {
        assert_eq!(latest([Some(1.0), Some(3.5), Some(2.0)]), Some(3.5));
        assert_eq!(latest([Some(1.0), None]), None);
    }

    #[test]
    fn a_planned_node_is_one_flat_object() {
        let spec = minionet_core::plan::PlanSpec {
            node_networks: vec!["172.20.0.0/24".parse().unwrap()],
            pod_networks: vec![minionet_core::plan::PodNetwork {
                network: "10.32.0.0/12".parse().unwrap(),
                node_prefix: 24,
            }],
        };
        let plan = AddressPlan::new(spec).unwrap();
        let plan = Plan::of(&plan, [("node1".to_owned(), [172, 20, 0, 1].into())]).unwrap();
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["nodes"][0]["name"], "node1");
        assert_eq!(json["nodes"][0]["index"], 1);
        assert_eq!(json["nodes"][0]["blocks"][0]["cidr"], "10.32.1.0/24");
    }
}
