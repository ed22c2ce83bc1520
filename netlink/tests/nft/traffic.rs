//! The masquerade policy with real packets: what the receiver sees as their source.

use std::net::{SocketAddr, UdpSocket};

use minionet_core::nft::{POSTROUTING, TABLE};
use minionet_netlink::nft::Nft;

use crate::support::{Namespace, feed, usual_masquerade};

const POD: &str = "10.32.1.5";
const POD6: &str = "fd00:32:0:1::5";

/// A pod behind a node, and a host outside that has every address one could want to reach.
struct Underlay {
    pod: Namespace,
    node: Namespace,
    outside: Namespace,
}

impl Underlay {
    fn new() -> Self {
        let (pod, node, outside) = (Namespace::new(), Namespace::new(), Namespace::new());
        node.run(&format!(
            "set -e
            sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
            ip link add pod type veth peer name eth0 netns {}
            ip link add uplink type veth peer name eth0 netns {}
            ip address add 10.32.1.1/24 dev pod
            ip address add fd00:32:0:1::1/64 dev pod nodad
            ip address add 172.20.0.1/24 dev uplink
            ip address add fd20::1/64 dev uplink nodad
            ip link set pod up
            ip link set uplink up
            ip route add default via 172.20.0.2
            ip route add default via fd20::2",
            pod.path(),
            outside.path(),
        ));
        pod.run(&format!(
            "set -e
            ip address add {POD}/24 dev eth0
            ip address add {POD6}/64 dev eth0 nodad
            ip link set eth0 up
            ip route add default via 10.32.1.1
            ip route add default via fd00:32:0:1::1",
        ));
        // Another node's address, a pod of another node, an exempt host, anyone.
        outside.run(
            "set -e
            ip address add 172.20.0.2/24 dev eth0
            ip address add fd20::2/64 dev eth0 nodad
            for a in 10.32.2.7 198.51.100.9 203.0.113.1; do ip address add $a/32 dev lo; done
            for a in fd00:32:0:2::7 2001:db8:7::9 2001:db8::1; do
              ip address add $a/128 dev lo nodad
            done
            ip link set eth0 up
            ip route add 10.32.0.0/12 via 172.20.0.1
            ip route add fd00:32::/48 via fd20::1",
        );
        Self { pod, node, outside }
    }

    fn protect(&self) {
        self.node.within(|| Nft::open().unwrap().apply(&usual_masquerade()).unwrap());
    }

    /// Sends from the pod and returns the source that the receiver saw, after it has answered and
    /// the pod has got the answer from where it had sent to.
    fn source_seen(&self, from: &str, to: &str) -> SocketAddr {
        exchange(&self.pod.udp(from), &self.outside.udp(to))
    }
}

fn exchange(sender: &UdpSocket, receiver: &UdpSocket) -> SocketAddr {
    let to = receiver.local_addr().unwrap();
    sender.send_to(b"ping", to).unwrap();
    let mut buffer = [0; 16];
    let (len, source) = receiver.recv_from(&mut buffer).expect("nothing arrived");
    assert_eq!(&buffer[..len], b"ping");
    receiver.send_to(b"pong", source).unwrap();
    let (len, answerer) = sender.recv_from(&mut buffer).expect("no answer came back");
    assert_eq!((&buffer[..len], answerer), (&b"pong"[..], to));
    source
}

#[test]
fn a_pod_hides_behind_its_node_only_outside_the_pod_network() {
    let underlay = Underlay::new();
    underlay.protect();
    let source = |from: &str, to: &str| underlay.source_seen(from, to).ip().to_string();
    let (pod, pod6) = (format!("{POD}:0"), format!("[{POD6}]:0"));
    assert_eq!(source(&pod, "203.0.113.1:53"), "172.20.0.1", "anyone outside");
    assert_eq!(source(&pod, "172.20.0.2:53"), "172.20.0.1", "another node");
    assert_eq!(source(&pod, "203.0.113.1:4789"), "172.20.0.1", "the overlay's port, but not it");
    assert_eq!(source(&pod, "10.32.2.7:53"), POD, "a pod");
    assert_eq!(source(&pod, "198.51.100.9:53"), POD, "an exempt host");
    assert_eq!(source(&pod6, "[2001:db8::1]:53"), "fd20::1", "anyone outside");
    assert_eq!(source(&pod6, "[fd20::2]:53"), "fd20::1", "another node");
    assert_eq!(source(&pod6, "[fd00:32:0:2::7]:53"), POD6, "a pod");
    assert_eq!(source(&pod6, "[2001:db8:7::9]:53"), POD6, "an exempt host");
}

#[test]
fn without_the_table_the_same_packets_keep_their_source() {
    let underlay = Underlay::new();
    assert_eq!(underlay.source_seen("10.32.1.5:0", "203.0.113.1:53").ip().to_string(), POD);
    underlay.protect();
    assert_ne!(underlay.source_seen("10.32.1.5:0", "203.0.113.1:53").ip().to_string(), POD);
    assert!(underlay.node.within(|| Nft::open().unwrap().delete_table(TABLE)).unwrap());
    assert_eq!(underlay.source_seen("10.32.1.5:0", "203.0.113.1:53").ip().to_string(), POD);
}

#[test]
fn the_nodes_own_packets_are_not_touched() {
    let underlay = Underlay::new();
    underlay.protect();
    // The overlay's outer packets are such packets.
    let sender = underlay.node.udp("172.20.0.1:50000");
    let source = exchange(&sender, &underlay.outside.udp("172.20.0.2:4789"));
    assert_eq!(source.to_string(), "172.20.0.1:50000");
}

#[test]
fn what_kube_proxy_masquerades_is_left_to_it() {
    let underlay = Underlay::new();
    underlay.protect();
    let mark = "table ip marks { chain prerouting { type filter hook prerouting priority -150;
        udp dport 7000 meta mark set 0x4000
        }
        }";
    underlay.node.within(|| feed("nft -f -", mark));
    let source = |to: &str| underlay.source_seen("10.32.1.5:0", to).ip().to_string();
    assert_eq!(source("203.0.113.1:7000"), POD, "ours leaves it alone");
    assert_eq!(source("203.0.113.1:7001"), "172.20.0.1", "without the mark it does not");
    // As kube-proxy does it, at the same hook and priority, but with an address that tells.
    let kube_proxy = "table ip kube-proxy { chain postrouting {
        type nat hook postrouting priority srcnat;
        meta mark & 0x4000 == 0x4000 meta mark set meta mark ^ 0x4000 snat to 172.20.0.77
        }
        }";
    underlay.node.within(|| feed("nft -f -", kube_proxy));
    underlay.node.run("ip address add 172.20.0.77/32 dev uplink");
    assert_eq!(source("203.0.113.1:7000"), "172.20.0.77", "one translation, and it is theirs");
}

#[test]
fn the_counter_tells_how_many_connections_were_hidden() {
    let underlay = Underlay::new();
    underlay.protect();
    for port in 1..=3 {
        underlay.source_seen("10.32.1.5:0", &format!("203.0.113.1:{port}"));
        underlay.source_seen("10.32.1.5:0", &format!("10.32.2.7:{port}"));
    }
    let found = underlay.node.within(|| Nft::open().unwrap().dump(TABLE)).unwrap().unwrap();
    let chain = found.chain(POSTROUTING).unwrap();
    let (packets, bytes) = chain.rules.last().unwrap().counter.unwrap();
    // A chain of type nat sees the first packet of a connection: 20 + 8 + 4 bytes each.
    assert_eq!((packets, bytes), (3, 96));
}
