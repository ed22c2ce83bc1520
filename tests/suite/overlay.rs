//! The overlay, end to end: the real daemon and plugin, real packets, real DNS.

mod addresses;
mod config;
mod faults;
mod first_packet;
mod membership;
mod plugin;
mod reach;
mod repair;
mod restart;
mod scale;
mod traffic;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipnetwork::IpNetwork;
use libtest_mimic::Trial;
use netns_testbed::traffic::{Ping, TcpEcho, UdpEcho, tcp_round_trip, udp_round_trip};
use netns_testbed::{Cluster, Namespace, Node, Pod, Tables, eventually};

/// Long enough for anything, also on a machine that is busy with other tests: the kernel changes
/// all namespaces under one lock. What comes, usually comes in a millisecond.
pub const PATIENT: Duration = Duration::from_secs(20);
/// How long silence must last to count as such.
pub const SILENCE: Duration = Duration::from_millis(200);
/// The VXLAN device of a node.
pub const DEVICE: &str = "minionet";
/// The pod network where none is configured.
const POD_NETWORK: &str = "10.32.0.0/12";
/// The UDP port of VXLAN: RFC 7348, section 5.
pub const PORT: u16 = 4789;
/// Answers of DNS count at once: a node refreshes several times a second, and removes a peer that
/// one answer lacks.
const HASTY: &str = "refresh_min = \"100ms\"\nrefresh_max = \"200ms\"\ndns_timeout = \"100ms\"\n\
                     missing_answers = 1\nhold_down = \"0s\"\n";

pub fn trials() -> Vec<Trial> {
    [
        addresses::trials(),
        config::trials(),
        faults::trials(),
        first_packet::trials(),
        membership::trials(),
        plugin::trials(),
        reach::trials(),
        repair::trials(),
        restart::trials(),
        scale::trials(),
        traffic::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A pod on every node.
pub fn pod_per_node(cluster: &Cluster) -> Result<Vec<Pod>> {
    cluster.nodes().iter().map(|node| Ok(node.add_pod("web")?)).collect()
}

/// Expects that every pod reaches every address of every other.
pub fn everybody_reaches_everybody(pods: &[Pod]) -> Result<()> {
    for from in pods {
        for to in pods {
            for address in to.addresses() {
                from.ping(address, PATIENT)?;
            }
        }
    }
    Ok(())
}

/// Waits until every pod reaches every address of every other, asking again and again: a route to a
/// peer may be there a moment before that peer's packets are taken.
pub fn wait_for_everybody(pods: &[Pod]) -> Result<()> {
    for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))) {
        for address in to.addresses() {
            let what = format!("{} to reach {address}", from.name());
            eventually(&what, PATIENT, || from.ping(address, SILENCE))?;
        }
    }
    Ok(())
}

/// Echo servers for UDP and TCP on one address.
struct Server {
    address: IpAddr,
    udp: UdpEcho,
    tcp: TcpEcho,
}

impl Server {
    fn start(host: &Namespace, address: IpAddr) -> Result<Self> {
        let any_port = (address, 0).into();
        Ok(Self { address, udp: UdpEcho::start(host, any_port)?, tcp: TcpEcho::start(host, any_port)? })
    }

    /// Exchanges so many bytes with a client over ICMP and UDP, and so many over TCP.
    fn exchange(&self, client: &Namespace, datagram: usize, stream: usize) -> Result<()> {
        Ping::to(self.address).payload(datagram).send(client, PATIENT)?;
        udp_round_trip(client, self.udp.address(), datagram, PATIENT)?;
        tcp_round_trip(client, self.tcp.address(), stream, PATIENT)?;
        Ok(())
    }
}

/// What a node of 172.20.0.0/16 holds for peers with the defaults, by their numbers: node 258 is
/// 172.20.1.2 with the pods 10.33.2.0/24.
pub fn tables_for(peers: impl IntoIterator<Item = u16>) -> Tables {
    let mut tables = Tables::default();
    for peer in peers {
        let [high, low] = peer.to_be_bytes();
        let gateway = Ipv4Addr::new(10, 32 + high, low, 1);
        let network = IpNetwork::new(Ipv4Addr::new(10, 32 + high, low, 0).into(), 24).unwrap();
        let mac = format!("0e:6d:00:00:{high:02x}:{low:02x}");
        tables.add(network, gateway.into(), &mac, Ipv4Addr::new(172, 20, high, low).into());
    }
    tables
}

/// Waits until a node holds exactly this for its peers.
pub fn wait_for_tables(node: &Node, expected: &Tables) -> Result<()> {
    let what = format!("the tables of {}", node.name());
    eventually(&what, PATIENT, || {
        let found = Tables::read(node, DEVICE)?;
        ensure!(found == *expected, "they hold {found:?} instead of {expected:?}");
        anyhow::Ok(())
    })?;
    Ok(())
}

/// Waits until every node knows exactly the nodes with these numbers, and not itself.
pub fn wait_for_members(nodes: &[&Node], members: &[u16]) -> Result<()> {
    for node in nodes {
        let others = members.iter().copied().filter(|member| number(node) != *member);
        wait_for_tables(node, &tables_for(others))?;
    }
    Ok(())
}

/// The number of a node in 172.20.0.0/16.
pub fn number(node: &Node) -> u16 {
    match node.address() {
        IpAddr::V4(address) => address.to_bits() as u16,
        IpAddr::V6(_) => 0,
    }
}

/// Waits until the DNS server has heard so many more queries.
pub fn wait_for_queries(cluster: &Cluster, count: u64) -> Result<()> {
    let total = || {
        let queries = cluster.dns().queries();
        queries.udp + queries.tcp
    };
    let wanted = total() + count;
    eventually("the nodes to ask DNS", PATIENT, || {
        if total() >= wanted { Ok(()) } else { Err(format!("{} of {wanted} queries", total())) }
    })?;
    Ok(())
}

/// The host's end of a pod's link, by the name in the result.
pub fn host_end(pod: &Pod) -> Result<&str> {
    let interfaces = pod.result()["interfaces"].as_array().context("interfaces in the result")?;
    let host = interfaces.iter().find(|interface| interface.get("sandbox").is_none());
    host.and_then(|interface| interface["name"].as_str()).context("the host's interface in the result")
}
