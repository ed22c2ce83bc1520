use super::*;
use crate::cni::portmap::Protocol;

#[test]
fn it_reads_like_nft() {
    let ruleset = host_ports("mnet");
    assert_eq!(ruleset.check(), Ok(()));
    assert_eq!(
        ruleset.to_string(),
        "table inet minionet {
\tmap hostips4 {
\t\ttype ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;
\t}
\tmap hostports4 {
\t\ttype inet_proto . inet_service : ipv4_addr . inet_service;
\t}
\tset hairpin4 {
\t\ttype ipv4_addr . ipv4_addr;
\t}
\tmap hostips6 {
\t\ttype ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service;
\t}
\tmap hostports6 {
\t\ttype inet_proto . inet_service : ipv6_addr . inet_service;
\t}
\tset hairpin6 {
\t\ttype ipv6_addr . ipv6_addr;
\t}
\tchain hostports {
\t\tip6 daddr ::1 return comment \"no way back\"
\t\tdnat ip to ip daddr . meta l4proto . th dport map @hostips4
\t\tdnat ip6 to ip6 daddr . meta l4proto . th dport map @hostips6
\t\tmeta nfproto ipv4 dnat ip to meta l4proto . th dport map @hostports4
\t\tmeta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @hostports6
\t}
\tchain hostports_in {
\t\ttype nat hook prerouting priority -100; policy accept;
\t\tfib daddr type local jump hostports
\t}
\tchain hostports_out {
\t\ttype nat hook output priority -100; policy accept;
\t\tfib daddr type local jump hostports
\t}
\tchain hostports_back {
\t\ttype nat hook postrouting priority 99; policy accept;
\t\tip saddr . ip daddr @hairpin4 masquerade fully-random comment \"hairpin\"
\t\tip6 saddr . ip6 daddr @hairpin6 masquerade fully-random comment \"hairpin\"
\t\toifname \"mnet*\" ip saddr 127.0.0.0/8 masquerade fully-random comment \"from loopback\"
\t}
}
"
    );
}

fn mapping(protocol: Protocol, host_ip: Option<&str>, host_port: u16) -> PortMapping {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    PortMapping { protocol, host_ip, host_port, container_port: host_port + 1 }
}

fn contents(pods: &[(&[PortMapping], &[&str])]) -> Vec<String> {
    let pods = pods.iter().map(|(ports, ips)| (*ports, ips.iter().map(|ip| ip.parse().unwrap()).collect()));
    let mut lines = Vec::new();
    for map in host_port_elements(pods) {
        for element in &map.elements {
            assert_eq!(map.spec.check(element), Ok(()));
            lines.push(format!("{} {element}", map.spec.name));
        }
    }
    lines
}

#[test]
fn a_port_leads_to_the_address_of_each_family() {
    let ports = [mapping(Protocol::Tcp, None, 80), mapping(Protocol::Sctp, Some("::"), 81)];
    assert_eq!(
        contents(&[(&ports, &["10.32.1.2", "fd00::2"])]),
        [
            "hostports4 tcp . 80 : 10.32.1.2 . 81",
            "hairpin4 10.32.1.2 . 10.32.1.2",
            "hostports6 tcp . 80 : fd00::2 . 81",
            "hostports6 sctp . 81 : fd00::2 . 82",
            "hairpin6 fd00::2 . fd00::2",
        ]
    );
}

#[test]
fn an_address_of_the_node_is_part_of_the_key() {
    let ports = [mapping(Protocol::Udp, Some("192.0.2.1"), 53), mapping(Protocol::Udp, Some("0.0.0.0"), 54)];
    assert_eq!(
        contents(&[(&ports, &["10.32.1.2", "fd00::2"])]),
        [
            "hostips4 192.0.2.1 . udp . 53 : 10.32.1.2 . 54",
            "hostports4 udp . 54 : 10.32.1.2 . 55",
            "hairpin4 10.32.1.2 . 10.32.1.2",
        ]
    );
}

#[test]
fn pods_without_ports_are_nowhere_and_every_map_is_named() {
    assert!(contents(&[(&[], &["10.32.1.2"])]).is_empty());
    assert_eq!(host_port_elements([]).len(), host_port_maps().len());
}

#[test]
fn the_order_of_the_pods_does_not_matter() {
    let (one, two) = ([mapping(Protocol::Tcp, None, 80)], [mapping(Protocol::Tcp, None, 79)]);
    let forth = contents(&[(&one, &["10.32.1.2"]), (&two, &["10.32.1.3"])]);
    assert_eq!(forth, contents(&[(&two, &["10.32.1.3"]), (&one, &["10.32.1.2"])]));
    assert!(forth[0].contains(". 79 :"), "{forth:?}");
}

#[test]
fn what_differs_is_deleted_and_added() {
    let ports = [mapping(Protocol::Tcp, None, 80)];
    let of = |ip: &str| host_port_elements([(&ports[..], vec![ip.parse().unwrap()])]);
    let (one, two, none) = (of("10.32.1.2"), of("10.32.1.3"), host_port_elements([]));
    assert_eq!(map_changes(&one, &one), (vec![], vec![]));
    let filled = |all: &[MapContents]| -> Vec<_> {
        all.iter().filter(|map| !map.elements.is_empty()).cloned().collect()
    };
    assert_eq!(map_changes(&one, &none), (vec![], filled(&one)));
    assert_eq!(map_changes(&none, &one), (filled(&one), vec![]));
    assert_eq!(map_changes(&one, &two), (filled(&two), filled(&one)));
}
