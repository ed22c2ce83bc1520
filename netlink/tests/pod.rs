//! A pod's veth pair against a real kernel.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use minionet_core::addr::{Family, MacAddr};
use minionet_core::cni::attachment::{Key, PodLink};
use minionet_core::cni::ipam::Assigned;
use minionet_core::constants::{DOOMED_GROUP, ROUTE_PROTOCOL_POD};
use minionet_netlink::departures::Departures;
use minionet_netlink::link::Which;
use minionet_netlink::monitor::{Interest, Monitor, Source};
use minionet_netlink::netns::Netns;
use minionet_netlink::pod::{self, AttachError, Fate};
use minionet_netlink::{Socket, sysctl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};

/// Runs a test on a thread of its own in a network namespace of its own, which ends with it.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root, or to run inside a user namespace");
        test();
    };
    if let Err(panic) = thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

/// A namespace that lives as long as its descriptor.
fn namespace() -> Netns {
    let (sender, receiver) = mpsc::channel();
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        sender.send(Netns::open(Path::new("/proc/thread-self/ns/net")).unwrap()).unwrap();
    };
    thread::spawn(body).join().unwrap();
    receiver.recv().unwrap()
}

fn pod_link(container: &str, ifname: &str, host_part: u8) -> PodLink {
    let key = Key { network: "n".into(), container: container.into(), ifname: ifname.into() };
    let ip = |text: String| text.parse::<IpAddr>().unwrap();
    let (v4, v6) = (ip(format!("10.32.1.{host_part}")), ip(format!("fd00:32:0:1::{host_part:x}")));
    PodLink {
        host_ifname: key.id().host_ifname(),
        alias: key.id().alias(&key),
        host_mac: MacAddr::POD_GATEWAY,
        ifname: ifname.into(),
        mac: MacAddr::pod(v4),
        mtu: 1450,
        addresses: vec![
            Assigned { address: v4, gateway: ip("10.32.1.1".into()) },
            Assigned { address: v6, gateway: ip("fd00:32:0:1::1".into()) },
        ],
        source_rules: Vec::new(),
    }
}

#[test]
fn both_ends_are_as_described() {
    in_namespace(|| {
        let (netns, link) = (namespace(), pod_link("a", "eth0", 5));
        let mut host = Socket::open().unwrap();
        let attached = pod::attach(&mut host, &netns, &link).unwrap();
        assert_eq!(attached.default_routes, [Family::V4, Family::V6]);

        let outer = host.link(Which::Name(&link.host_ifname)).unwrap().unwrap();
        assert_eq!((outer.mtu, outer.up, outer.mac), (1450, true, Some(MacAddr::POD_GATEWAY)));
        assert_eq!(outer.alias.as_deref(), Some(link.alias.as_str()));
        let own: Vec<_> = host.addresses(Some(outer.index)).unwrap().iter().map(|a| a.addr).collect();
        assert_eq!(own, [MacAddr::POD_GATEWAY.link_local()], "nothing else on the host's end");
        for family in [Family::V4, Family::V6] {
            let routes = host.routes(family, ROUTE_PROTOCOL_POD).unwrap();
            assert_eq!(routes.iter().map(|r| r.device).collect::<Vec<_>>(), [Some(outer.index)]);
            let neighbours = host.neighbours(outer.index, family).unwrap();
            let known: Vec<_> = neighbours.iter().map(|n| (n.addr, n.mac, n.permanent)).collect();
            let pod = link.addresses.iter().find(|a| Family::of(a.address) == family).unwrap();
            assert_eq!(known, [(pod.address, Some(link.mac), false)], "it may be corrected");
        }

        let mut pod = netns.socket().unwrap();
        let inner = pod.link(Which::Name("eth0")).unwrap().unwrap();
        assert_eq!((inner.mtu, inner.up, inner.mac), (1450, true, Some(link.mac)));
        assert!(inner.running, "the pod's end can send");
        assert!(pod.link(Which::Name("lo")).unwrap().unwrap().up);
        let addresses = pod.addresses(Some(inner.index)).unwrap();
        let ours: Vec<_> = addresses.iter().filter(|a| a.global).collect();
        assert!(ours.len() == 2 && ours.iter().all(|a| !a.tentative && !a.deprecated), "{addresses:?}");
        assert!(link.addresses.iter().all(|a| pod.delivers(a.address).unwrap()), "the pod receives");
        assert!(link.addresses.iter().all(|a| !pod.delivers(a.gateway).unwrap()));
        assert!(link.addresses.iter().all(|a| !host.delivers(a.address).unwrap()));

        assert!(pod::exists(&mut host, &link.host_ifname, &link.alias).unwrap());
        assert!(pod::detach(&mut host, &link.host_ifname, &link.alias).unwrap());
        assert!(!pod::detach(&mut host, &link.host_ifname, &link.alias).unwrap());
        assert!(pod.link(Which::Name("eth0")).unwrap().is_none());
        assert!(host.routes(Family::V4, ROUTE_PROTOCOL_POD).unwrap().is_empty());
    });
}

#[test]
fn the_first_packet_passes() {
    in_namespace(|| {
        let mut host = Socket::open().unwrap();
        let (a, b) = (namespace(), namespace());
        sysctl::set("ipv4/ip_forward", "1").unwrap();
        pod::attach(&mut host, &a, &pod_link("a", "eth0", 5)).unwrap();
        let receiver = a.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7)).unwrap()).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        pod::attach(&mut host, &b, &pod_link("b", "eth0", 6)).unwrap();
        let sender = b.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()).unwrap();
        // One only: a lost one would not come again.
        sender.send_to(b"first", "10.32.1.5:7").unwrap();
        let mut octets = [0; 8];
        let (length, from) = receiver.recv_from(&mut octets).unwrap();
        assert_eq!((&octets[..length], from.ip().to_string().as_str()), (&b"first"[..], "10.32.1.6"));
    });
}

#[test]
fn what_belongs_to_others_is_left_alone() {
    in_namespace(|| {
        let (netns, link) = (namespace(), pod_link("a", "eth0", 5));
        let mut host = Socket::open().unwrap();
        pod::attach(&mut host, &netns, &link).unwrap();
        // Another attachment that wants the same name in the container.
        let twin = pod_link("b", "eth0", 6);
        let error = pod::attach(&mut host, &netns, &twin).unwrap_err();
        assert!(matches!(error, AttachError::InterfaceExists { .. }), "{error}");
        assert!(!pod::detach(&mut host, &twin.host_ifname, &twin.alias).unwrap());
        // Another attachment whose name on the host happens to be the same.
        let mut clash = pod_link("c", "eth1", 7);
        clash.host_ifname = link.host_ifname.clone();
        let error = pod::attach(&mut host, &netns, &clash).unwrap_err();
        assert!(matches!(error, AttachError::HostInterfaceExists { .. }), "{error}");
        // An address that has a route.
        let mut taken = pod_link("d", "eth2", 5);
        taken.addresses.truncate(1);
        let error = pod::attach(&mut host, &netns, &taken).unwrap_err();
        assert!(matches!(error, AttachError::AddressInUse { .. }), "{error}");
        assert!(pod::detach(&mut host, &taken.host_ifname, &taken.alias).unwrap());
        assert!(pod::exists(&mut host, &link.host_ifname, &link.alias).unwrap());
    });
}

#[test]
fn a_leftover_of_the_same_attachment_is_replaced() {
    in_namespace(|| {
        let link = pod_link("a", "eth0", 5);
        let mut host = Socket::open().unwrap();
        let (before, now) = (namespace(), namespace());
        pod::attach(&mut host, &before, &link).unwrap();
        pod::attach(&mut host, &now, &link).unwrap();
        assert!(before.socket().unwrap().link(Which::Name("eth0")).unwrap().is_none());
        assert!(now.socket().unwrap().link(Which::Name("eth0")).unwrap().is_some());
    });
}

#[test]
fn a_doomed_pair_is_out_of_the_way_and_goes_with_its_group() {
    in_namespace(|| {
        let mut host = Socket::open().unwrap();
        let mut departures = Departures::open().unwrap();
        let (netns, link) = (namespace(), pod_link("a", "eth0", 5));
        pod::attach(&mut host, &netns, &link).unwrap();
        assert_eq!(pod::doom(&mut host, &netns, &link).unwrap(), Fate::Doomed);
        let soon = || Instant::now() + Duration::from_secs(10);
        assert!(departures.wait(soon()).unwrap().doomed);
        assert!(!pod::exists(&mut host, &link.host_ifname, &link.alias).unwrap());
        let mut inside = netns.socket().unwrap();
        assert!(inside.link(Which::Name("eth0")).unwrap().is_none());
        for family in [Family::V4, Family::V6] {
            assert!(host.routes(family, ROUTE_PROTOCOL_POD).unwrap().is_empty());
        }
        let outer = host.link(Which::Name(&link.host_ifname)).unwrap().unwrap();
        assert!(host.neighbours(outer.index, Family::V4).unwrap().is_empty());
        // The names are free again, also for the same attachment with the same addresses.
        pod::attach(&mut host, &netns, &link).unwrap();
        assert!(pod::exists(&mut host, &link.host_ifname, &link.alias).unwrap());
        assert_eq!(pod::doom(&mut host, &netns, &link).unwrap(), Fate::Doomed);
        assert_eq!(pod::doom(&mut host, &netns, &link).unwrap(), Fate::Doomed);
        assert!(host.delete_group(DOOMED_GROUP).unwrap());
        assert!(!host.delete_group(DOOMED_GROUP).unwrap());
        assert_eq!(pod::doom(&mut host, &netns, &link).unwrap(), Fate::Absent);
        assert_eq!(inside.links().unwrap().iter().filter(|l| l.kind.as_deref() == Some("veth")).count(), 0);
    });
}

#[test]
fn who_watches_the_overlay_does_not_hear_of_pods() {
    in_namespace(|| {
        let mut host = Socket::open().unwrap();
        let mut monitor = Monitor::open(Source::Route).unwrap();
        let lo = host.link(Which::Name("lo")).unwrap().unwrap().index;
        monitor.drain(&Interest { links: vec![lo], ..Interest::default() }).unwrap();
        let is_woken = || {
            let mut waited = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
            poll(&mut waited, PollTimeout::ZERO).unwrap() > 0
        };
        let (netns, link) = (namespace(), pod_link("a", "eth0", 5));
        pod::attach(&mut host, &netns, &link).unwrap();
        assert!(!is_woken(), "by a pod that comes");
        assert_eq!(pod::doom(&mut host, &netns, &link).unwrap(), Fate::Doomed);
        assert!(host.delete_group(DOOMED_GROUP).unwrap());
        assert!(!is_woken(), "by a pod that goes");
        assert!(
            Command::new("ip").args(["link", "add", "br0", "type", "bridge"]).status().unwrap().success()
        );
        assert!(is_woken(), "others are heard");
    });
}

#[test]
fn a_pair_whose_other_end_is_elsewhere_is_not_doomed() {
    in_namespace(|| {
        let mut host = Socket::open().unwrap();
        let (netns, other, link) = (namespace(), namespace(), pod_link("a", "eth0", 5));
        pod::attach(&mut host, &netns, &link).unwrap();
        assert_eq!(pod::doom(&mut host, &other, &link).unwrap(), Fate::Untouched);
        assert!(pod::exists(&mut host, &link.host_ifname, &link.alias).unwrap());
    });
}

#[test]
fn a_second_interface_comes_behind_the_first() {
    in_namespace(|| {
        let mut host = Socket::open().unwrap();
        let netns = namespace();
        pod::attach(&mut host, &netns, &pod_link("a", "eth0", 5)).unwrap();
        let second = pod::attach(&mut host, &netns, &pod_link("a", "eth1", 6)).unwrap();
        assert!(second.default_routes.is_empty());
        let routes = netns.socket().unwrap().routes(Family::V4, ROUTE_PROTOCOL_POD).unwrap();
        assert_eq!(routes.len(), 2, "{routes:?}");
    });
}

#[test]
fn ipv6_is_switched_on_where_it_is_needed_and_only_there() {
    in_namespace(|| {
        let mut host = Socket::open().unwrap();
        let off = |netns: &Netns| {
            netns.run(|| sysctl::set("ipv6/conf/all/disable_ipv6", "1").map(|_| ())).unwrap().unwrap();
            netns.run(|| sysctl::set("ipv6/conf/default/disable_ipv6", "1").map(|_| ())).unwrap().unwrap();
        };
        let disabled =
            |netns: &Netns| netns.run(|| sysctl::read("ipv6/conf/eth0/disable_ipv6")).unwrap().unwrap();
        let (dual, v4) = (namespace(), namespace());
        off(&dual);
        off(&v4);
        pod::attach(&mut host, &dual, &pod_link("a", "eth0", 5)).unwrap();
        assert_eq!(disabled(&dual).as_deref(), Some("0"));
        let mut link = pod_link("b", "eth0", 6);
        link.addresses.truncate(1);
        pod::attach(&mut host, &v4, &link).unwrap();
        assert_eq!(disabled(&v4).as_deref(), Some("1"));
    });
}
