//! The stages of the demo, one after the other.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use minionet_core::plan::AddressPlan;
use netns_testbed::{Cluster, Node, Pod};

use super::join::Newcomer;
use super::report::{Pair, Plan, PodReport, Report};
use super::{Options, TTL, grid, leave, matrix, text};
use crate::held::Rooms;
use crate::terminal::{Paint, Progress, print};

/// A demo under way.
pub struct Demo<'a> {
    options: &'a Options,
    progress: Progress,
    paint: Paint,
    report: Report,
}

impl<'a> Demo<'a> {
    /// Begins a demo.
    pub fn new(options: &'a Options) -> Self {
        let dns_name = format!("minions.{}.{}", super::CLUSTER, netns_testbed::DOMAIN);
        Self { options, progress: Progress::start(), paint: Paint::stdout(), report: Report::new(&dns_name) }
    }

    /// Makes the cluster and waits until every minion is ready for pods.
    pub fn start(&mut self) -> Result<Cluster> {
        let count = self.options.nodes;
        self.progress.step(&format!("making a network with a DNS server and {count} minions"));
        let cluster = self.options.builder()?.start()?;
        let records = cluster.dns().addresses(&cluster.dns_name()).len();
        self.progress.step(&format!(
            "minionetd runs on each and knows nobody; {} has {records} records",
            cluster.dns_name()
        ));
        cluster.wait_ready()?;
        self.progress.step("every minion found itself and the others in DNS and is ready for pods");
        Ok(cluster)
    }

    /// Attaches pods, lets them talk, lets a minion join and another leave.
    ///
    /// `pods` takes the pods, those of the newcomer last.
    pub fn show(&mut self, cluster: &mut Cluster, pods: &mut Vec<Pod>) -> Result<()> {
        let plan = self.options.plan()?;
        self.report.plan = Plan::of(&plan, names_and_addresses(cluster.nodes()))?;
        self.say(&text::plan(&self.report.plan, self.paint))?;

        self.attach(cluster, &plan, pods)?;
        self.say(&text::pods(&self.report.pods, self.paint))?;

        self.talk(pods)?;
        self.join(cluster, &plan, pods)?;
        self.leave(cluster, &plan, pods)
    }

    fn attach(&mut self, cluster: &Cluster, plan: &AddressPlan, pods: &mut Vec<Pod>) -> Result<()> {
        for (number, node) in (1..).zip(cluster.nodes()) {
            for pod in 1..=self.options.pods_per_node {
                let pod = node.add_pod(&format!("pod{number}-{pod}"))?;
                check_owner(plan, node, &pod)?;
                self.report.pods.push(PodReport::of(&pod, node));
                pods.push(pod);
            }
        }
        self.progress.step(&format!("the CNI plugin attached {} pods", pods.len()));
        Ok(())
    }

    fn talk(&mut self, pods: &[Pod]) -> Result<()> {
        let pods: Vec<&Pod> = pods.iter().collect();
        self.report.matrix = matrix::measure(&pods, &pods);
        let count = self.report.matrix.len();
        self.progress.step(&format!("every pod pinged every other: {count} pairs of pods and addresses"));
        let names: Vec<&str> = pods.iter().map(|pod| pod.name()).collect();
        self.say(&grid::matrix(&names, &self.report.matrix, self.paint))?;
        if let Some(lost) = unanswered(&self.report.matrix) {
            self.fail(lost);
        }
        Ok(())
    }

    fn join(&mut self, cluster: &mut Cluster, plan: &AddressPlan, pods: &mut Vec<Pod>) -> Result<()> {
        let newcomer = Newcomer::prepare(cluster, plan, pods)?;
        let number = cluster.nodes().len();
        self.progress.step(&format!(
            "node{number} runs and nobody knows of it; every pod pings the pod that it will have"
        ));
        self.progress.step(&format!(
            "adding the record of node{number} to {}, nothing else (TTL {TTL} s)",
            cluster.dns_name()
        ));
        let (join, pod) = newcomer.join(cluster, &format!("pod{number}-1"), pods)?;
        self.progress.step("its pod is attached, and the others have asked until they were answered");
        check_owner(plan, cluster.node(number - 1), &pod)?;
        pods.push(pod);
        self.say(&text::join(&join, self.paint))?;
        if join.all_ms.is_none() {
            self.fail(format!("not every pod reached the pod of {}", join.node));
        }
        if let Some(lost) = unanswered(&join.back) {
            self.fail(lost);
        }
        self.report.join = Some(join);
        Ok(())
    }

    fn leave(&mut self, cluster: &Cluster, plan: &AddressPlan, pods: &[Pod]) -> Result<()> {
        // The last of the start; not the newcomer, as that would only undo what was just shown.
        let leaver = usize::from(self.options.nodes) - 1;
        let name = cluster.node(leaver).name();
        let staying = cluster.nodes().iter().filter(|node| node.name() != name);
        let staying: Vec<&str> = staying.map(|node| node.name()).collect();
        let others: Vec<&Pod> = pods.iter().filter(|pod| staying.contains(&node_of(pod))).collect();
        self.progress
            .step(&format!("removing the record of {name} from {}, nothing else", cluster.dns_name()));
        let leave = leave::leave(cluster, leaver, plan, &others)?;
        self.progress.step("watched the tables of all others, whose pods went on talking");
        self.say(&text::leave(&leave, self.paint))?;
        if leave.all_ms.is_none() {
            self.fail(format!("not every minion forgot {}", leave.node));
        }
        if leave.others_lost > 0 {
            let (lost, sent) = (leave.others_lost, leave.others_sent);
            self.fail(format!("{lost} of {sent} requests between other pods were lost as {name} left"));
        }
        self.report.leave = Some(leave);
        Ok(())
    }

    /// Passes a value on; an error goes into the report.
    pub fn noted<T>(&mut self, outcome: Result<T>) -> Option<T> {
        outcome.map_err(|error| self.fail(format!("{error:#}"))).ok()
    }

    /// Gives the verdict, and the document where that was asked for. Whether all was well.
    pub fn conclude(&self) -> Result<bool> {
        if self.options.json {
            let document = serde_json::to_string_pretty(&self.report).context("write the report")?;
            print(&format!("{document}\n")).context("write the report")?;
        }
        for failure in &self.report.failures {
            self.progress.failure(&format!("FAILED: {failure}"));
        }
        if self.report.ok {
            self.progress.step("all as it should be");
        }
        Ok(self.report.ok)
    }

    /// What can be entered while the demo is held.
    pub fn rooms(&self, cluster: &Cluster, pods: &[Pod]) -> Result<Rooms> {
        let plan = Plan::of(&self.options.plan()?, names_and_addresses(cluster.nodes()))?;
        let reports: Vec<PodReport> = pods
            .iter()
            .filter_map(|pod| {
                let node = cluster.nodes().iter().find(|node| node.name() == node_of(pod))?;
                Some(PodReport::of(pod, node))
            })
            .collect();
        let records = cluster.dns().addresses(&cluster.dns_name());
        let records: Vec<String> = records.iter().map(ToString::to_string).collect();
        let overview = format!(
            "{} has {}\n{}{}",
            cluster.dns_name(),
            records.join(" "),
            text::plan(&plan, Paint::PLAIN),
            text::pods(&reports, Paint::PLAIN)
        );
        let mut rooms = Rooms::new(overview, super::CLUSTER, cluster.node(0).programs());
        cluster.nodes().iter().for_each(|node| rooms.add(node.name(), node));
        pods.iter().for_each(|pod| rooms.add(pod.name(), pod));
        for host in [cluster.dns_host(), cluster.router(), cluster.external()] {
            rooms.add(host.name(), host);
        }
        Ok(rooms)
    }

    /// Takes everything down.
    pub fn take_down(&self, cluster: Cluster, pods: Vec<Pod>) {
        self.progress.step("taking everything down");
        drop(pods);
        drop(cluster);
        self.progress.step("nothing is left");
    }

    /// Prints a part of the result, unless it will be a document.
    fn say(&self, text: &str) -> Result<()> {
        if self.options.json {
            return Ok(());
        }
        print(text).context("write to standard output")
    }

    fn fail(&mut self, text: String) {
        self.report.fail(text);
    }
}

impl PodReport {
    fn of(pod: &Pod, node: &Node) -> Self {
        Self {
            name: pod.name().to_owned(),
            node: node.name().to_owned(),
            interface: pod.attachment().interface.clone(),
            addresses: pod.addresses(),
        }
    }
}

fn names_and_addresses(nodes: &[Node]) -> impl Iterator<Item = (String, IpAddr)> {
    nodes.iter().map(|node| (node.name().to_owned(), node.address()))
}

/// The node in a pod's full name, `node/pod`.
fn node_of(pod: &Pod) -> &str {
    let full: &netns_testbed::Namespace = pod;
    full.name().split('/').next().unwrap_or_default()
}

/// Makes sure that a pod's addresses are its node's by the plan that is shown.
fn check_owner(plan: &AddressPlan, node: &Node, pod: &Pod) -> Result<()> {
    let addresses = pod.addresses();
    let families = plan.spec().pod_networks.len();
    ensure!(
        addresses.len() == families,
        "{} got the addresses {addresses:?}, but there are {families} pod networks",
        pod.name()
    );
    for address in addresses {
        let owner = plan.owner(address);
        ensure!(
            owner == Some(node.address()),
            "{} of {} got {address}, which by the plan belongs to {owner:?}",
            pod.name(),
            node.name()
        );
    }
    Ok(())
}

/// Says which pairs did not talk, if any.
fn unanswered(pairs: &[Pair]) -> Option<String> {
    let lost: Vec<&Pair> = pairs.iter().filter(|pair| pair.rtt_us.is_none()).collect();
    let first = lost.first()?;
    Some(format!(
        "{} of {} pings were not answered, the first from {} to {} ({})",
        lost.len(),
        pairs.len(),
        first.from,
        first.to,
        first.address
    ))
}
