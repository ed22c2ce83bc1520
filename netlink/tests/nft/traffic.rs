//! The masquerade policy with real packets: what the receiver sees as their source.

use minionet_core::nft::{POSTROUTING, TABLE};
use minionet_netlink::nft::Nft;

use crate::support::{feed, usual_masquerade};
use crate::underlay::{POD, POD6, Underlay, exchange};

#[test]
fn a_pod_hides_behind_its_node_only_outside_the_pod_network() {
    let underlay = Underlay::new();
    underlay.apply(&usual_masquerade());
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
    underlay.apply(&usual_masquerade());
    assert_ne!(underlay.source_seen("10.32.1.5:0", "203.0.113.1:53").ip().to_string(), POD);
    assert!(underlay.node.within(|| Nft::open().unwrap().delete_table(TABLE)).unwrap());
    assert_eq!(underlay.source_seen("10.32.1.5:0", "203.0.113.1:53").ip().to_string(), POD);
}

#[test]
fn the_nodes_own_packets_are_not_touched() {
    let underlay = Underlay::new();
    underlay.apply(&usual_masquerade());
    // The overlay's outer packets are such packets.
    let sender = underlay.node.udp("172.20.0.1:50000");
    let source = exchange(&sender, &underlay.outside.udp("172.20.0.2:4789"));
    assert_eq!(source.to_string(), "172.20.0.1:50000");
}

#[test]
fn what_kube_proxy_masquerades_is_left_to_it() {
    let underlay = Underlay::new();
    underlay.apply(&usual_masquerade());
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
    underlay.apply(&usual_masquerade());
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
