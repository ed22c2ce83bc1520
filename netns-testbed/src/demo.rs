//! `netns-testbed demo`: a cluster forms out of DNS, its pods talk, a minion joins, another leaves.

mod grid;
mod join;
mod leave;
mod limits;
mod matrix;
mod report;
mod stages;
mod text;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use minionet_core::addr::Cidr;
use minionet_core::plan::{AddressPlan, PlanSpec, PodNetwork};
use netns_testbed::{Binaries, Cluster, ClusterBuilder};

use self::stages::Demo;
use crate::held::Reservation;

/// The name of the cluster.
const CLUSTER: &str = "cncfdemo";
/// The time to live of the minions' records, in seconds.
const TTL: u32 = 1;
/// `missing_answers` and `hold_down` (in seconds): short, so that nobody has to wait for the end.
const MISSING_ANSWERS: u32 = 2;
const HOLD_DOWN_S: u64 = 1;

/// Show a cluster that forms out of nothing but DNS, with pods that talk
///
/// Builds minions out of namespaces, runs the real daemon on each, attaches pods with the real CNI
/// plugin, and lets every pod ping every other. Then a minion joins and another leaves, by a change
/// of DNS alone. In the end everything is taken down again.
///
/// Results go to standard output, progress to standard error. The exit status is 0 only if every
/// pod reached every other and the minions joined and left as they should.
#[derive(Args)]
pub struct Options {
    /// Minions at the start
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=200))]
    nodes: u16,
    /// Pods on each of them
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=100))]
    pods_per_node: u16,
    /// Give pods IPv6 addresses as well
    #[arg(long)]
    ipv6: bool,
    /// Let the minions talk to each other over IPv4 or IPv6
    #[arg(long, value_name = "VERSION", default_value = "4", value_parser = ["4", "6"])]
    underlay: String,
    /// Print one JSON document instead of tables
    #[arg(long)]
    json: bool,
    /// Leave the cluster running until Ctrl-C, for a look inside with `exec` and `status`
    #[arg(long)]
    hold: bool,
}

impl Options {
    /// The subnet of the minions.
    fn underlay(&self) -> &'static str {
        if self.underlay == "4" { "172.20.0.0/24" } else { "fd00:20::/112" }
    }

    /// The networks of the pods, with room for every address of the underlay.
    fn pod_networks(&self) -> Result<Vec<PodNetwork>> {
        // The default of minionetd, and for the 65536 addresses of a /112 what holds as many /24.
        let v4 = if self.underlay == "4" { "10.32.0.0/12" } else { "10.0.0.0/8" };
        let mut networks = vec![PodNetwork { network: v4.parse()?, node_prefix: 24 }];
        if self.ipv6 {
            networks.push(PodNetwork { network: "fd00:32::/48".parse()?, node_prefix: 64 });
        }
        Ok(networks)
    }

    /// The description of the cluster.
    fn builder(&self) -> Result<ClusterBuilder> {
        let networks = self.pod_networks()?;
        let quoted: Vec<String> = networks.iter().map(|pods| format!("\"{}\"", pods.network)).collect();
        let config = format!(
            "pod_network = [{}]\nmissing_answers = {MISSING_ANSWERS}\nhold_down = \"{HOLD_DOWN_S}s\"\n",
            quoted.join(", ")
        );
        let builder = Cluster::builder(CLUSTER).nodes(self.nodes.into()).underlay(self.underlay());
        Ok(builder.ttl(TTL).config(&config))
    }

    /// The address plan that follows from the same numbers.
    fn plan(&self) -> Result<AddressPlan> {
        let node_networks: Vec<Cidr> = vec![self.underlay().parse()?];
        Ok(AddressPlan::new(PlanSpec { node_networks, pod_networks: self.pod_networks()? })?)
    }
}

/// Runs the demo.
///
/// # Errors
/// When the demo cannot even begin, or its result cannot be written; whatever fails in between is
/// in the report and in the exit status.
pub fn run(options: &Options) -> Result<ExitCode> {
    // Before anything is made, as these are what most likely is not there.
    Binaries::locate()?;
    need_iproute2()?;
    limits::check(options.nodes.into(), options.underlay == "4")?;
    let reservation = options.hold.then(Reservation::make).transpose()?;
    netns_testbed::enter()?;
    let holder = reservation.map(Reservation::guard).transpose()?;

    let mut demo = Demo::new(options);
    let outcome = demo.start();
    let Some(mut cluster) = demo.noted(outcome) else {
        demo.conclude()?;
        return Ok(ExitCode::FAILURE);
    };
    let mut pods = Vec::new();
    let outcome = demo.show(&mut cluster, &mut pods);
    demo.noted(outcome);
    let good = demo.conclude()?;
    if let Some(holder) = holder {
        holder.hold(demo.rooms(&cluster, &pods)?)?;
    }
    demo.take_down(cluster, pods);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fails with the name of the package where the program that makes interfaces is not installed.
fn need_iproute2() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join("ip").is_file());
    ensure!(found, "the program ip was not found in PATH: install the package iproute2");
    Ok(())
}

/// Does something that takes a while with each of some things, a thread for each.
fn all_at_once<T: Send, R: Send>(things: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = things.into_iter().map(|thing| scope.spawn(move || work(thing))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, R>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}
