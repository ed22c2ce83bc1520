//! A pod behind a node, and a host outside.

use std::net::{SocketAddr, UdpSocket};

use minionet_core::nft::Ruleset;
use minionet_netlink::nft::Nft;

use crate::support::Namespace;

pub const POD: &str = "10.32.1.5";
pub const POD6: &str = "fd00:32:0:1::5";

/// A pod behind a node, and a host outside that has every address one could want to reach.
pub struct Underlay {
    pub pod: Namespace,
    pub node: Namespace,
    pub outside: Namespace,
}

impl Underlay {
    pub fn new() -> Self {
        let (pod, node, outside) = (Namespace::new(), Namespace::new(), Namespace::new());
        node.run(&format!(
            "set -e
            sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
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

    /// Makes the node's table.
    pub fn apply(&self, ruleset: &Ruleset) {
        self.node.within(|| Nft::open().unwrap().apply(ruleset).unwrap());
    }

    /// Sends from the pod and returns the source that the receiver saw, after it has answered and
    /// the pod has got the answer from where it had sent to.
    pub fn source_seen(&self, from: &str, to: &str) -> SocketAddr {
        exchange(&self.pod.udp(from), &self.outside.udp(to))
    }
}

/// A packet there and one back; returns the source that the receiver saw.
pub fn exchange(sender: &UdpSocket, receiver: &UdpSocket) -> SocketAddr {
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
