//! What a pod can reach, and as whom it is seen there.

use std::net::{IpAddr, UdpSocket};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::traffic::Ping;
use netns_testbed::{Capture, Cluster, Frame, Namespace, Packet, Pod, Transport, eventually};

use super::{DEVICE, PATIENT, SILENCE, Server, host_end, ip};

/// Bytes of a datagram, which fits every MTU.
const DATAGRAM: usize = 1_000;
/// Bytes of a stream.
const STREAM: usize = 100_000;

pub fn trials() -> Vec<Trial> {
    trials![
        everything_that_a_pod_talks_to_sees_the_right_address,
        the_same_with_ipv6,
        an_exempt_destination_sees_the_pod,
        without_masquerading_everybody_sees_the_pod,
        what_comes_before_the_route_to_an_own_address_spoils_nothing => [Need::Program("nft")],
    ]
}

/// A destination: what it is, where, its address, its interface, and as whom it sees the pod.
struct Place<'a> {
    what: &'a str,
    host: &'a Namespace,
    address: IpAddr,
    interface: &'a str,
    seen: IpAddr,
}

impl Place<'_> {
    /// Talks to it, and looks at the packets there.
    fn talk_from(&self, pod: &Pod) -> Result<()> {
        self.try_from(pod).map_err(|error| error.context(format!("{} at {}", self.what, self.address)))
    }

    fn try_from(&self, pod: &Pod) -> Result<()> {
        let server = Server::start(self.host, self.address)?;
        let capture = Capture::start(self.host, self.interface)?;
        server.exchange(pod, DATAGRAM, STREAM)?;
        // Nothing else, as answers of DNS or the overlay's own packets.
        let ports = [server.udp.address().port(), server.tcp.address().port()];
        let to_server = |frame: &&Frame| {
            let mut packet = frame.packet.iter();
            packet.any(|packet| packet.destination == self.address && is_asked(packet, ports))
        };
        // TCP is the last of what is exchanged.
        capture.wait_for("a segment", PATIENT, |frame| {
            to_server(&frame) && frame.packet.as_ref().is_some_and(|packet| packet.protocol == 6)
        })?;
        let frames = capture.frames();
        for protocol in [if self.address.is_ipv4() { 1 } else { 58 }, 17] {
            let seen = |frame: &&Frame| frame.packet.iter().any(|packet| packet.protocol == protocol);
            ensure!(frames.iter().filter(to_server).any(|frame| seen(&frame)), "no packet of {protocol}");
        }
        for frame in frames.iter().filter(to_server) {
            ensure!(frame.involves(self.seen), "{} expected, seen: {frame:?}", self.seen);
        }
        Ok(())
    }
}

/// Whether a packet asks a server: an echo request (RFC 792, RFC 4443 section 4.1), or one to its
/// ports of UDP and TCP.
fn is_asked(packet: &Packet, [udp, tcp]: [u16; 2]) -> bool {
    match packet.transport {
        Transport::Udp { destination, .. } => destination == udp,
        Transport::Tcp { destination, .. } => destination == tcp,
        Transport::Icmp { kind, .. } => kind == if packet.source.is_ipv4() { 8 } else { 128 },
        Transport::Other => false,
    }
}

/// The places of the issue, as a pod of node 1 finds them: `family` is 4 or 6.
fn tour(cluster: &Cluster, v4: bool) -> Result<()> {
    let (a, b) = (cluster.node(0), cluster.node(1));
    let pods = [a.add_pod("one")?, a.add_pod("two")?, b.add_pod("far")?];
    let of = |addresses: Vec<IpAddr>| addresses.into_iter().find(|address| address.is_ipv4() == v4).unwrap();
    let [own, near, far] = [0, 1, 2].map(|pod: usize| of(pods[pod].addresses()));
    let [node_a, node_b, outside] = [a.addresses(), b.addresses(), cluster.external().addresses()].map(of);
    let [gateway_a, gateway_b] =
        if v4 { ["10.32.1.1", "10.32.2.1"] } else { ["fd00:32:0:1::1", "fd00:32:0:2::1"] }.map(ip);
    let (veth, pod, node) = (host_end(&pods[0])?, "eth0", "eth0");
    let places = [
        Place { what: "itself", host: &pods[0], address: own, interface: "lo", seen: own },
        Place { what: "its node's overlay address", host: a, address: gateway_a, interface: veth, seen: own },
        Place { what: "its node's address", host: a, address: node_a, interface: veth, seen: own },
        Place { what: "a pod of its node", host: &pods[1], address: near, interface: pod, seen: own },
        Place { what: "a pod of another node", host: &pods[2], address: far, interface: pod, seen: own },
        Place {
            what: "another node's overlay address",
            host: b,
            address: gateway_b,
            interface: "minionet",
            seen: own,
        },
        Place { what: "another node's address", host: b, address: node_b, interface: node, seen: node_a },
        Place {
            what: "a host outside",
            host: cluster.external(),
            address: outside,
            interface: "eth0",
            seen: node_a,
        },
    ];
    places.iter().try_for_each(|place| place.talk_from(&pods[0]))?;
    // Beyond the MTU: over IPv6 the far side has to learn the pods' smaller one before it is heard.
    for target in [far, gateway_b, node_b, outside] {
        eventually("an answer in fragments", PATIENT, || {
            Ping::to(target).payload(4_000).send(&pods[0], SILENCE)
        })?;
    }
    // And back: a node reaches the pods of its own and of others.
    for target in [own, far] {
        Ping::to(target).send(a, PATIENT)?;
    }
    Ok(())
}

fn everything_that_a_pod_talks_to_sees_the_right_address() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).run(|cluster| tour(cluster, true))
}

fn the_same_with_ipv6() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").nodes(2).underlay("172.20.0.0/24, fd00:20::/64");
    builder.config("pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]").run(|cluster| tour(cluster, false))
}

/// A second host address outside, and a way back to the pods for it.
fn with_a_way_back(cluster: &Cluster, address: IpAddr) -> Result<()> {
    cluster.external().ip(&format!("addr add {address}/24 dev eth0"))?;
    Ok(cluster.router().ip(&format!("route add 10.32.1.0/24 via {}", cluster.node(0).address()))?)
}

fn an_exempt_destination_sees_the_pod() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").nodes(1);
    builder.config("masquerade_exempt = [\"198.51.100.64/26\"]").run(|cluster| {
        let (exempt, other) = (ip("198.51.100.77"), ip("198.51.100.1"));
        with_a_way_back(cluster, exempt)?;
        let pod = cluster.node(0).add_pod("web")?;
        let (host, interface) = (cluster.external(), "eth0");
        Place { what: "exempt", host, address: exempt, interface, seen: pod.address() }.talk_from(&pod)?;
        let seen = cluster.node(0).address();
        Place { what: "not exempt", host, address: other, interface, seen }.talk_from(&pod)
    })
}

fn without_masquerading_everybody_sees_the_pod() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).config("masquerade = false").run(|cluster| {
        let outside = ip("198.51.100.77");
        with_a_way_back(cluster, outside)?;
        let pod = cluster.node(0).add_pod("web")?;
        let (host, seen) = (cluster.external(), pod.address());
        Place { what: "outside", host, address: outside, interface: "eth0", seen }.talk_from(&pod)
    })
}

/// The kernel adds the route to an own address of IPv6 some time after the address, and forwards what
/// comes for it before. What follows on the same connection must not be the worse for it.
fn what_comes_before_the_route_to_an_own_address_spoils_nothing() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config("pod_network = \"fd00:32::/48\"").run(|cluster| {
        let (node, peer) = (cluster.node(0), cluster.node(1));
        let (own, theirs) = ("fd00:32:0:1::1", ip("fd00:32:0:2::1"));
        let bound = |host: &Namespace, address: IpAddr| host.run(|| UdpSocket::bind((address, 0)));
        let (to, from) = (bound(node, ip(own))??, bound(peer, theirs)??);
        to.set_read_timeout(Some(PATIENT))?;
        from.connect(to.local_addr()?)?;
        let route =
            |verb| node.exec(["ip", "-6", "route", verb, "local", own, "dev", DEVICE, "table", "local"]);
        // By now it is there, or comes soon.
        eventually("the route to be there and to go", PATIENT, || route("del"))?;
        let capture = Capture::start(node, DEVICE)?;
        from.send(b"early")?;
        // It comes, and leaves again.
        let early = |frame: &Frame| frame.packet.iter().any(|packet| packet.payload == b"early");
        capture.wait_for("the packet", PATIENT, early)?;
        route("add")?;
        eventually("a packet to arrive", PATIENT, || {
            from.send(b"late")?;
            let mut buffer = [0; 8];
            let (length, seen) = to.recv_from(&mut buffer)?;
            ensure!(&buffer[..length] == b"late", "the first was not forwarded");
            anyhow::Ok(seen)
        })
        .map_err(anyhow::Error::from)
        .and_then(|seen| {
            ensure!(seen == from.local_addr()?, "it seems to come from {seen}");
            Ok(())
        })
    })
}
