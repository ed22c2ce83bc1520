//! What the overlay has to survive, each in a matrix: DNS that fails, tables that others change,
//! daemons that end, packets that nobody of the cluster sent, many nodes, changes of the mode.

mod advice;
mod dns_faults;
mod dnssec;
mod drift;
mod forwarding;
mod injection;
mod many;
mod modes;
mod nobody;
mod restarts;
mod surroundings;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::print;
use netns_testbed::traffic::UdpStream;
use netns_testbed::{Cluster, Namespace, Node, Pod, Tables, eventually};

use crate::overlay::{DEVICE, SILENCE, number, tables_for};

/// Long enough for anything that has to wait for thresholds, on a busy machine.
const LONG: Duration = Duration::from_secs(30);

pub fn trials() -> Vec<Trial> {
    [
        advice::trials(),
        dns_faults::trials(),
        dnssec::trials(),
        drift::trials(),
        forwarding::trials(),
        injection::trials(),
        many::trials(),
        modes::trials(),
        nobody::trials(),
        restarts::trials(),
        surroundings::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Streams of datagrams from each pod to the next, of which none may be lost.
struct Traffic {
    streams: Vec<UdpStream>,
}

impl Traffic {
    /// Starts one stream of `rate` datagrams a second between each pod and the next in a circle.
    fn circle<'a>(pods: impl IntoIterator<Item = &'a Pod>, rate: u32) -> Result<Self> {
        let pods: Vec<&Pod> = pods.into_iter().collect();
        let next = pods.iter().cycle().skip(1);
        let stream = |(from, to): (&&Pod, &&Pod)| UdpStream::start(from, to, to.address(), rate);
        Ok(Self { streams: pods.iter().zip(next).map(stream).collect::<Result<_, _>>()? })
    }

    /// Waits until so many more datagrams of each stream arrived: that takes as long as to send them.
    fn go_on(&self, count: usize) -> Result<()> {
        Ok(self.streams.iter().try_for_each(|stream| stream.wait_for_arrivals(count, LONG))?)
    }

    /// Ends the streams; says how many were sent.
    fn end_without_loss(self) -> Result<u32> {
        let mut sent = 0;
        for stream in self.streams {
            sent += stream.stop_without_loss()?.sent;
        }
        Ok(sent)
    }

    /// Ends the streams; says how many were sent, and how many of them were lost.
    fn end(self) -> (u32, usize) {
        self.streams
            .into_iter()
            .map(UdpStream::stop)
            .fold((0, 0), |(sent, lost), report| (sent + report.sent, lost + report.lost().len()))
    }
}

/// Waits until each of these nodes of 172.20.0.0/16 holds what the plan says for the members with
/// these numbers, in the kernel's tables and in the set of those from whom it takes packets.
fn wait_for_exactly(nodes: &[&Node], members: &[u16]) -> Result<()> {
    for node in nodes {
        let others: Vec<u16> = members.iter().copied().filter(|member| number(node) != *member).collect();
        let tables = tables_for(others.iter().copied());
        let hosts: BTreeSet<IpAddr> = tables.forwarding.iter().map(|(_, host)| *host).collect();
        eventually(&format!("{} to hold exactly its {} peers", node.name(), others.len()), LONG, || {
            let found = Tables::read(node, DEVICE)?;
            ensure!(found == tables, "{}", difference(&found, &tables));
            let accepted = accepted(node)?;
            ensure!(accepted == hosts, "packets are taken from {accepted:?} instead of {hosts:?}");
            anyhow::Ok(())
        })?;
    }
    Ok(())
}

/// What is too much and what is missing, as far as peers tell it.
fn difference(found: &Tables, wanted: &Tables) -> String {
    format!(
        "too much: {:?} {:?}; missing: {:?} {:?}",
        found.routes.difference(&wanted.routes),
        found.forwarding.difference(&wanted.forwarding),
        wanted.routes.difference(&found.routes),
        wanted.forwarding.difference(&found.forwarding),
    )
}

/// The hosts from which a node takes packets of the overlay.
fn accepted(node: &Node) -> Result<BTreeSet<IpAddr>> {
    let mut hosts = BTreeSet::new();
    for set in ["members4", "members6"] {
        let listing = node.json(["nft", "-j", "list", "set", "inet", "minionet", set])?;
        let entries = listing["nftables"].as_array().context("a listing of nft")?;
        let elements = entries.iter().filter_map(|entry| entry["set"]["elem"].as_array()).flatten();
        hosts.extend(elements.filter_map(|element| element.as_str()?.parse::<IpAddr>().ok()));
    }
    Ok(hosts)
}

/// How often rules with this comment counted a packet.
fn counted(node: &Namespace, comment: &str) -> Result<u64> {
    let listing = node.json(["nft", "-j", "list", "table", "inet", "minionet"])?;
    let entries = listing["nftables"].as_array().context("a listing of nft")?;
    let rules = entries.iter().map(|entry| &entry["rule"]).filter(|rule| rule["comment"] == comment);
    let counters = rules.flat_map(|rule| rule["expr"].as_array().into_iter().flatten());
    Ok(counters.filter_map(|expression| expression["counter"]["packets"].as_u64()).sum())
}

/// Waits until the log of a node has a line with all of these words, and returns it.
pub fn wait_for_log(node: &Node, words: &[&str]) -> Result<String> {
    let line = eventually(&format!("a line with {words:?} in the log of {}", node.name()), LONG, || {
        let log = node.log()?;
        let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
        line.map(str::to_owned).with_context(|| format!("the log says {log}"))
    })?;
    Ok(line)
}

/// Waits until a pod is answered from an address, asking again and again.
fn wait_for_answer(pod: &Pod, address: IpAddr) -> Result<()> {
    let what = format!("{address} to answer {}", pod.name());
    eventually(&what, LONG, || pod.ping(address, SILENCE))?;
    Ok(())
}

/// All nodes of a cluster.
fn all(cluster: &Cluster) -> Vec<&Node> {
    cluster.nodes().iter().collect()
}
