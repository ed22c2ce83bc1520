//! A minion that joins: how long until everybody's pods reach its pods.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netns_testbed::traffic::UdpEcho;
use netns_testbed::{Cluster, eventually};

use super::Bench;
use crate::finding::{Finding, Findings, Target};
use crate::measure::rest;
use crate::stats::quantile;

/// How many minions wait for the newcomer, and how many newcomers there are, one after the other.
const MINIONS: usize = 50;
const NEWCOMERS: usize = 5;
/// The time to live of the minions' records, in seconds.
const TTL: u32 = 1;
/// What may pass beyond it, in milliseconds.
const BEYOND: f64 = 1000.0;
/// Where the newcomer's pod answers.
const PORT: u16 = 7777;
/// How often each pod tries.
const EVERY: Duration = Duration::from_millis(20);
/// How long anything may take, on the busiest of machines.
const PATIENT: Duration = Duration::from_secs(120);

/// The row.
pub fn run(bench: &Bench) -> Result<Findings> {
    let builder = Cluster::builder("bench").nodes(MINIONS).ttl(TTL).binaries(bench.programs.binaries());
    let mut cluster = builder.config("node_networks = [\"172.20.0.0/24\"]").start_without_daemons()?;
    acquaint(&cluster)?;
    for node in cluster.nodes() {
        node.start_daemon()?;
    }
    for node in cluster.nodes() {
        eventually("a minion to become ready", PATIENT, || node.ready())?;
    }
    let pods = (0..MINIONS).map(|node| cluster.node(node).add_pod("near")).collect::<Result<Vec<_>, _>>()?;
    let mut taken = Vec::new();
    for _ in 0..if bench.quick { 2 } else { NEWCOMERS } {
        let newcomer = cluster.add_node()?;
        acquaint(&cluster)?;
        // It is itself before DNS knows it, so that a pod is there from the first moment.
        let own = cluster.node(newcomer).address();
        cluster.node(newcomer).kill_daemon(nix::sys::signal::Signal::SIGTERM)?;
        let config = format!("node_networks = [\"172.20.0.0/24\"]\nnode_ip = \"{own}\"");
        cluster.node(newcomer).write("/etc/minionet/minionet.toml", config)?;
        cluster.node(newcomer).start_daemon()?;
        let node = cluster.node(newcomer);
        eventually("the newcomer to be ready", PATIENT, || node.ready())?;
        let pod = node.add_pod("new")?;
        let echo = UdpEcho::start(&pod, SocketAddr::new(pod.address(), PORT))?;
        let sockets = pods
            .iter()
            .map(|near| -> Result<UdpSocket> {
                let socket = near.run(|| UdpSocket::bind(("0.0.0.0", 0)))??;
                socket.connect(echo.address())?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .collect::<Result<Vec<_>>>()?;
        ensure!(
            reached(&sockets).iter().all(|reached| !reached),
            "a pod reaches a minion that DNS does not know"
        );
        let start = Instant::now();
        cluster.join(newcomer)?;
        taken.extend(wait(&sockets, start)?);
    }
    let most = f64::from(TTL) * 1e3 + BEYOND;
    let p99 = quantile(&taken, 0.99);
    let p99 = Finding::value("p99, from the change of DNS, TTL 1 s", Target::AtMost(most), "ms", &[p99])
        .beside("all pods", "ms", &taken);
    Ok(vec![p99].into())
}

/// Tells every node the hardware address of every other.
///
/// All namespaces of a machine share one table of neighbours (gc_thresh3, 1024 by default), which
/// fifty nodes that look for each other fill more than twice; what is set by hand is not counted.
/// On machines of their own, each has a table to itself.
fn acquaint(cluster: &Cluster) -> Result<()> {
    let mut known = Vec::new();
    for node in cluster.nodes() {
        let shown = node.exec(["ip", "-o", "link", "show", "dev", "eth0"])?;
        let mac = shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        known.push((node.address(), mac.context("the address of eth0")?.to_owned()));
    }
    for node in cluster.nodes() {
        let others = known.iter().filter(|(address, _)| *address != node.address());
        let lines = others
            .map(|(address, mac)| format!("neigh replace {address} lladdr {mac} dev eth0 nud permanent\n"));
        node.ip(&lines.collect::<String>())?;
    }
    Ok(())
}

/// Milliseconds until each pod had its first answer.
fn wait(sockets: &[UdpSocket], start: Instant) -> Result<Vec<f64>> {
    let mut taken: Vec<Option<f64>> = vec![None; sockets.len()];
    while taken.iter().any(Option::is_none) {
        if start.elapsed() > PATIENT {
            let missing = taken.iter().filter(|taken| taken.is_none()).count();
            bail!("{missing} pods do not reach the newcomer");
        }
        for (taken, reached) in taken.iter_mut().zip(reached(sockets)) {
            if reached {
                taken.get_or_insert(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(taken.into_iter().flatten().collect())
}

/// Lets every pod try once; which of them had an answer, to this attempt or one before.
fn reached(sockets: &[UdpSocket]) -> Vec<bool> {
    for socket in sockets {
        // Without a way there yet, an error is what is expected.
        let _unreachable = socket.send(b"?");
    }
    rest(EVERY);
    sockets.iter().map(|socket| socket.recv(&mut [0; 8]).is_ok()).collect()
}
