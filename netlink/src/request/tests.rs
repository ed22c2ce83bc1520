//! What is sent, octet by octet, compared with what netlink-packet-route 0.34 made of the same.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use minionet_core::addr::{Cidr, Family, MacAddr};
use minionet_core::cni::attachment::PodLink;
use minionet_core::cni::bandwidth::Bucket;
use minionet_core::cni::ipam::Assigned;
use minionet_core::overlay::Device;

use super::Request;
use crate::link::{self, LinkChange};
use crate::netns::Netns;
use crate::route::{self, Route};
use crate::rule::{self, Rule};
use crate::{address, neighbour, pod, tc};

/// One line for each: its name, kind, flags, and what stands behind the header. The descriptor of the
/// pod's namespace, which comes last in the request that makes the pair, was 3.
const WANTED: &str = include_str!("octets.txt");

const MAC: MacAddr = MacAddr([0x0e, 0x70, 10, 32, 1, 3]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod_link() -> PodLink {
    let assigned = |address, gateway| Assigned { address: ip(address), gateway: ip(gateway) };
    PodLink {
        host_ifname: "mnet47996b4696e".into(),
        alias: "minionet cf76 bench eth0 0002".into(),
        host_mac: MacAddr::POD_GATEWAY,
        ifname: "eth0".into(),
        mac: MAC,
        mtu: 1450,
        addresses: vec![assigned("10.32.1.3", "10.32.1.1"), assigned("fd00:32:0:1::3", "fd00:32:0:1::1")],
        source_rules: Vec::new(),
    }
}

fn of_pods() -> Vec<(String, Request)> {
    let pod = pod_link();
    let netns = Netns::current().unwrap();
    let mut create = pod::requests::create(&netns, &pod);
    let descriptor = create.body.split_off(create.body.len() - 4);
    assert_eq!(descriptor, netns.as_raw_fd().to_ne_bytes());
    create.body.extend(3u32.to_ne_bytes());
    let mut all = vec![("create".to_owned(), create)];
    let inside = pod::requests::in_pod(7, &pod).into_iter();
    all.extend(inside.map(|(step, request)| (format!("pod: {step}"), request)));
    let second = pod::requests::second_routes(7, &pod, &[Family::V4, Family::V6]).into_iter();
    all.extend(second.map(|(step, request)| (format!("second: {step}"), request)));
    let outside = pod::requests::on_host(9, &pod).into_iter();
    all.extend(outside.map(|(step, request)| (format!("host: {step}"), request)));
    all
}

fn of_routes() -> Vec<(&'static str, Request)> {
    let (gateway, device, protocol) = (Some(ip("10.32.1.1")), Some(7), 109);
    let dst = Cidr::containing(ip("10.32.1.3"), 24).unwrap();
    let made = Route { dst, gateway, device, object: None, protocol, metric: 0, unreachable: false };
    let refusing = Route { gateway: None, device: None, unreachable: true, metric: 0xff00_2000, ..made };
    let on_link = Route { dst: Cidr::host(ip("fd00:32:0:1::3")), gateway: None, metric: 5, ..made };
    let table = 0x6d00_0007;
    let by_source = Rule { source: ip("10.32.1.3"), table, priority: 1000, protocol: 110 };
    let default = route::add_default(7, ip("10.32.1.1"), 110);
    vec![
        ("route add", route::add(&made)),
        ("route before", route::add_before(&made)),
        ("route remove", route::remove(&made)),
        ("route object", route::add(&Route { object: Some(77), ..made })),
        ("route refusing", route::add(&refusing)),
        ("route link6", route::add(&on_link)),
        ("rule add", rule::add(&by_source)),
        ("rule remove", rule::remove(&Rule { source: ip("fd00:32:0:1::3"), ..by_source })),
        ("in table", route::in_table(default, table)),
    ]
}

fn of_devices() -> Vec<(&'static str, Request)> {
    let bucket = Bucket { rate: 1000, burst: 2000, queue: 3000 };
    let fast = Bucket { rate: 1 << 33, ..bucket };
    let (name, local) = ("vx".to_owned(), ip("10.32.1.3"));
    let device = Device { name, vni: 77, port: 4789, local, mac: MAC, mtu: 1450 };
    let change = LinkChange { up: Some(true), mac: Some(MAC), mtu: Some(1400), no_link_local: true };
    vec![
        ("tbf", tc::requests::bucket(7, &bucket)),
        ("tbf64", tc::requests::bucket(7, &fast)),
        ("clsact", tc::requests::clsact(7)),
        ("redirect", tc::requests::redirect(7, 9)),
        ("ifb", tc::requests::create_ifb("mifb1", &pod_link())),
        ("ifb up", tc::requests::ifb_up(7, &pod_link())),
        ("doom", tc::requests::doom(7)),
        ("vtep", link::create_vtep(&device)),
        ("set link", link::set(77, &change)),
        ("address remove", address::remove(7, ip("10.32.1.3"), 32)),
        ("neighbour remove", neighbour::remove(7, ip("fd00:32:0:1::3"))),
        ("fdb set", neighbour::set_fdb(7, MAC, ip("10.32.1.3"))),
        ("fdb remove", neighbour::remove_fdb(7, MAC, ip("fd00:32:0:1::3"))),
    ]
}

#[test]
fn requests_are_what_the_library_made_of_them() {
    let of_others = of_routes().into_iter().chain(of_devices());
    let all = of_pods().into_iter().chain(of_others.map(|(name, request)| (name.to_owned(), request)));
    let mut made: Vec<String> = all
        .map(|(name, Request { kind, flags, body })| {
            let body: String = body.iter().map(|octet| format!("{octet:02x}")).collect();
            format!("{name}: {kind:04x} {flags:04x} {body}")
        })
        .collect();
    let mut wanted: Vec<&str> = WANTED.lines().collect();
    made.sort();
    wanted.sort();
    // On a machine of the other order of octets, lengths and numbers are turned round.
    if cfg!(target_endian = "little") {
        assert_eq!(made, wanted);
    }
}
