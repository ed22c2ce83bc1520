//! The guard with real packets: strangers and forged sources.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

use minionet_core::nft::{
    Element, FROM_PODS, Guard, Ruleset, TABLE, Tally, UNDERLAY, guard, member_sets, tally,
};
use minionet_netlink::nft::Nft;

use crate::support::{feed, usual_masquerade};
use crate::underlay::{POD, POD6, Underlay, exchange};

const VNI: u32 = 4097;

fn policy(members: &[&str]) -> Ruleset {
    let members = members.iter().map(|ip| ip.parse().unwrap()).collect();
    usual_masquerade().with(guard(&Guard { port: 4789, vni: VNI, pod_links: "po".into(), members }))
}

/// RFC 7348 section 5: flags with the I bit, reserved, identifier, reserved.
fn vxlan(vni: u32) -> Vec<u8> {
    [vec![8, 0, 0, 0], (vni << 8).to_be_bytes().to_vec()].concat()
}

/// Sends a VXLAN header with each network identifier, and returns the first that arrives.
fn first_that_arrives(sender: &UdpSocket, receiver: &UdpSocket, vnis: &[u32]) -> u32 {
    for vni in vnis {
        sender.send_to(&vxlan(*vni), receiver.local_addr().unwrap()).unwrap();
    }
    let mut buffer = [0; 16];
    let len = receiver.recv(&mut buffer).expect("nothing arrived");
    assert_eq!(len, 8);
    let first = u32::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]) >> 8;
    // The others are not to be taken for those of a later call.
    receiver.set_nonblocking(true).unwrap();
    while receiver.recv(&mut buffer).is_ok() {}
    receiver.set_nonblocking(false).unwrap();
    first
}

#[test]
fn strangers_are_not_heard_on_our_overlay_and_are_on_others() {
    let underlay = Underlay::new();
    underlay.apply(&policy(&["172.20.0.9", "fd20::9"]));
    for (node, stranger) in [("172.20.0.1", "172.20.0.2:0"), ("[fd20::1]", "[fd20::2]:0")] {
        let receiver = underlay.node.udp(&format!("{node}:4789"));
        let sender = underlay.outside.udp(stranger);
        // Another identifier shows that the first packet was not merely late.
        assert_eq!(first_that_arrives(&sender, &receiver, &[VNI, VNI + 1]), VNI + 1);
        let [v4, v6] = member_sets();
        let ip = sender.local_addr().unwrap().ip();
        let (set, member) = (if ip.is_ipv4() { v4 } else { v6 }, Element::key([ip.into()]));
        let mut nft = underlay.node.within(|| Nft::open().unwrap());
        nft.add_elements(TABLE, &set, std::slice::from_ref(&member)).unwrap();
        assert_eq!(first_that_arrives(&sender, &receiver, &[VNI, VNI + 1]), VNI);
        nft.delete_elements(TABLE, &set, &[member]).unwrap();
        assert_eq!(first_that_arrives(&sender, &receiver, &[VNI, VNI + 1]), VNI + 1);
    }
}

/// The rules look at the port before the protocol, and at the protocol only where they drop or count.
#[test]
fn what_is_not_udp_is_left_alone_on_the_overlays_port() {
    let underlay = Underlay::new();
    underlay.apply(&policy(&["172.20.0.9", "fd20::9"]));
    for node in ["172.20.0.1:4789", "[fd20::1]:4789"] {
        let listener = underlay.node.within(|| TcpListener::bind(node).unwrap());
        let _client = underlay.outside.within(|| TcpStream::connect(node).unwrap());
        listener.accept().unwrap();
    }
    let mut nft = underlay.node.within(|| Nft::open().unwrap());
    let counted = tally(&nft.rules(TABLE).unwrap());
    assert_eq!(counted, Tally { foreign: 0, ..tally(&[]) });
}

/// The guard of the overlay as it was before what a member sends was recognised with fewer calls.
const EARLIER: &str = "
    flush chain inet minionet underlay
    table inet minionet {
        chain underlay {
            udp dport 4789 ip saddr @members4 @th,96,24 0x001001 accept
            udp dport 4789 ip6 saddr @members6 @th,96,24 0x001001 accept
            udp dport 4789 @th,96,24 0x001001 counter drop comment \"not a member\"
            udp dport 4789 @th,96,24 != 0x001001 counter comment \"of another network\"
        }
    }";

#[test]
fn the_rules_of_an_earlier_version_are_replaced_while_strangers_stay_out() {
    let underlay = Underlay::new();
    let ruleset = policy(&["172.20.0.9"]);
    underlay.apply(&ruleset);
    let receiver = underlay.node.udp("172.20.0.1:4789");
    let sender = underlay.outside.udp("172.20.0.2:0");
    let mut nft = underlay.node.within(|| Nft::open().unwrap());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let stranger = underlay.outside.udp("172.20.0.2:0");
            while !over.load(Ordering::Relaxed) {
                stranger.send_to(&vxlan(VNI), "172.20.0.1:4789").unwrap();
            }
        });
        for _ in 0..20 {
            underlay.node.within(|| feed("nft -f -", EARLIER));
            let drift = nft.drift(&ruleset).unwrap();
            assert_eq!(drift.len(), 8, "four rules are missing, and four are not ours: {drift:?}");
            assert!(drift.iter().all(|it| it.to_string().starts_with(&format!("chain {UNDERLAY} "))));
            nft.apply(&ruleset).unwrap();
            assert_eq!(nft.drift(&ruleset).unwrap(), vec![]);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(first_that_arrives(&sender, &receiver, &[VNI + 1]), VNI + 1);
}

#[test]
fn a_pod_speaks_only_in_its_own_name() {
    let underlay = Underlay::new();
    underlay.pod.run(
        "ip address add 10.32.2.99/32 dev eth0
        ip address add fd00:32:0:2::99/128 dev eth0 nodad
        ip address add 127.0.0.9/32 dev eth0
        sysctl -qw net.ipv4.conf.all.route_localnet=1",
    );
    // As it is for pods with host ports.
    underlay.node.run("sysctl -qw net.ipv4.conf.all.route_localnet=1");
    let arrives = |forged: &str, node: &str| {
        let receiver = underlay.node.udp(&format!("{node}:7000"));
        let to = receiver.local_addr().unwrap();
        underlay.pod.udp(&format!("{forged}:0")).send_to(b"forged", to).unwrap();
        receiver.recv(&mut [0; 8]).unwrap()
    };
    assert_eq!(arrives("10.32.2.99", "172.20.0.1"), 6, "nothing else stops it");
    assert_eq!(arrives("[fd00:32:0:2::99]", "[fd20::1]"), 6, "nothing else stops it");
    assert_eq!(arrives("127.0.0.9", "172.20.0.1"), 6, "nothing else stops it");
    underlay.apply(&policy(&[]));
    for (own, forged, node) in [
        (POD, "10.32.2.99", "172.20.0.1"),
        (&format!("[{POD6}]"), "[fd00:32:0:2::99]", "[fd20::1]"),
        (POD, "127.0.0.9", "172.20.0.1"),
    ] {
        let receiver = underlay.node.udp(&format!("{node}:7000"));
        let forger = underlay.pod.udp(&format!("{forged}:0"));
        forger.send_to(b"forged", receiver.local_addr().unwrap()).unwrap();
        // What comes first is what was sent second.
        exchange(&underlay.pod.udp(&format!("{own}:0")), &receiver);
    }
    let mut nft = underlay.node.within(|| Nft::open().unwrap());
    let found = nft.dump(TABLE).unwrap().unwrap();
    let rule = &found.chain(FROM_PODS).unwrap().rules[0];
    assert!(rule.counter.unwrap().0 >= 3, "{rule:?}");
}

#[test]
fn both_policies_together_are_one_table_without_drift() {
    let underlay = Underlay::new();
    let ruleset = policy(&["172.20.0.2", "fd20::2"]);
    underlay.apply(&ruleset);
    let mut nft = underlay.node.within(|| Nft::open().unwrap());
    assert_eq!(nft.drift(&ruleset).unwrap(), vec![]);
    assert_eq!(underlay.source_seen(&format!("{POD}:0"), "203.0.113.1:53").ip().to_string(), "172.20.0.1");
}
