//! The overlay against a real kernel: what is applied is what is read back.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::process::Command;
use std::thread;

use minionet_core::overlay::object::{self, Objects};
use minionet_core::overlay::{Change, Device, Encapsulation, Local, Observed, Overlay, desired, diff};
use minionet_core::plan::{AddressPlan, NodePlan, PlanSpec, PodNetwork};
use minionet_netlink::monitor::{Interest, Monitor, Source};
use minionet_netlink::{Socket, overlay};
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

fn plan() -> AddressPlan {
    let pod = |n: &str, node_prefix| PodNetwork { network: n.parse().unwrap(), node_prefix };
    AddressPlan::new(PlanSpec {
        node_networks: vec!["172.20.0.0/20".parse().unwrap()],
        pod_networks: vec![pod("10.32.0.0/12", 24), pod("fd00:32::/48", 64)],
    })
    .unwrap()
}

fn overlay_of(peers: u128) -> Overlay {
    let plan = plan();
    let node = |k: u128| plan.node(plan.spec().node_networks[0].nth(k).unwrap()).unwrap();
    let me = node(1);
    let device =
        Device { name: "minionet".into(), vni: 4097, port: 4789, local: me.node, mac: me.mac, mtu: 1450 };
    let peers: Vec<NodePlan> = (2..2 + peers).map(node).collect();
    let subnet = "172.20.0.0/20".parse().unwrap();
    let encapsulation = Encapsulation::Always;
    let assigned = &plan.assigned();
    desired(device, &Local { me: &me, subnet, underlay: None, encapsulation, assigned }, &peers)
}

/// Changes the kernel until nothing is left to change; returns how much was changed in the end.
fn settle(socket: &mut Socket, wanted: &Overlay) -> usize {
    let before = overlay::read(socket, "minionet").unwrap();
    let changes = diff(wanted, &before).unwrap();
    let failures = overlay::apply(socket, &wanted.device, &changes).unwrap();
    assert!(failures.is_empty(), "{failures:?}");
    let after = overlay::read(socket, "minionet").unwrap();
    assert_eq!(diff(wanted, &after), Ok(vec![]), "the kernel did not take over everything");
    changes.len()
}

#[test]
fn what_is_applied_is_read_back() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let objects = Objects { possible: true, ..Objects::default() };
        let nothing = Observed { objects, ..Observed::default() };
        assert_eq!(overlay::read(&mut socket, "minionet").unwrap(), nothing);
        assert!(settle(&mut socket, &overlay_of(3)) > 0);
        assert_eq!(settle(&mut socket, &overlay_of(3)), 0);
        // Three peers in two families: neighbour and route twice, forwarding entry and object once.
        assert_eq!(settle(&mut socket, &overlay_of(4)), 6);
        assert_eq!(settle(&mut socket, &overlay_of(1)), 18);
    });
}

#[test]
fn every_drift_is_repaired() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let wanted = overlay_of(2);
        settle(&mut socket, &wanted);
        let observed = overlay::read(&mut socket, "minionet").unwrap();
        let index = observed.device.as_ref().unwrap().index;
        let damages = [
            vec![Change::RemoveNeighbour("10.32.2.1".parse().unwrap())],
            vec![Change::RemoveRoute(*observed.routes.iter().next().unwrap())],
            vec![Change::RemoveFdb("0e:6d:00:00:00:02".parse().unwrap(), IpAddr::from([172, 20, 0, 2]))],
            vec![Change::RemoveObject(object::number([10, 32, 2, 1].into()))],
            vec![Change::RemoveAddress("10.32.1.1".parse().unwrap(), 32)],
            observed.routes.iter().map(|r| Change::RemoveRoute(*r)).collect(),
            // Last: a new device has a new number.
            vec![Change::DeleteDevice { index, reason: "test".into() }],
        ];
        for damage in damages {
            let failures = overlay::apply(&mut socket, &wanted.device, &damage).unwrap();
            assert!(failures.is_empty(), "{failures:?}");
            assert!(settle(&mut socket, &wanted) > 0, "{damage:?} was not noticed");
        }
    });
}

#[test]
fn a_changed_device_is_changed_back_in_place() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let wanted = overlay_of(2);
        settle(&mut socket, &wanted);
        let index = overlay::read(&mut socket, "minionet").unwrap().device.unwrap().index;
        let mut other = wanted.clone();
        other.device.mtu = 1400;
        other.device.mac = "0e:6d:00:00:00:63".parse().unwrap();
        other.device.local = IpAddr::from([172, 20, 0, 99]);
        assert!(settle(&mut socket, &other) > 0);
        assert!(settle(&mut socket, &wanted) > 0);
        let after = overlay::read(&mut socket, "minionet").unwrap().device.unwrap();
        assert_eq!(after.index, index, "the device was replaced");
        // Another VNI cannot be changed in place.
        other.device.vni = 99;
        settle(&mut socket, &other);
        let after = overlay::read(&mut socket, "minionet").unwrap().device.unwrap();
        assert_ne!(after.index, index);
    });
}

#[test]
fn a_thousand_peers_are_taken_in_one_go() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        assert!(settle(&mut socket, &overlay_of(1000)) >= 6000);
        assert_eq!(settle(&mut socket, &overlay_of(1000)), 0);
    });
}

#[test]
fn refusals_among_many_are_told_of_the_right_changes() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        settle(&mut socket, &overlay_of(0));
        let wanted = overlay_of(300);
        let changes = diff(&wanted, &overlay::read(&mut socket, "minionet").unwrap()).unwrap();
        // Some routes are added a second time, right after the first: in the middle of a datagram, and
        // in the next one.
        let (mut asked, mut twice) = (Vec::new(), Vec::new());
        for (position, change) in changes.into_iter().enumerate() {
            let again = matches!(change, Change::AddRoute { .. }) && position % 3 == 0;
            twice.extend(again.then(|| change.clone()));
            asked.extend(again.then(|| change.clone()));
            asked.push(change);
        }
        assert!(twice.len() > 100, "{} routes", twice.len());
        let failures = overlay::apply(&mut socket, &wanted.device, &asked).unwrap();
        assert!(failures.iter().all(|failure| failure.error.is_exists()), "{:?}", failures[0]);
        assert_eq!(failures.into_iter().map(|failure| failure.change).collect::<Vec<_>>(), twice);
        assert_eq!(settle(&mut socket, &wanted), 0, "the others were carried out");
    });
}

#[test]
fn a_refusal_names_the_object_and_the_reason() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let wanted = overlay_of(1);
        settle(&mut socket, &wanted);
        let mut twin = wanted.device.clone();
        twin.name = "twin".into();
        let error = socket.create_vtep(&twin).unwrap_err();
        assert!(error.is_exists());
        let text = error.to_string();
        assert!(text.contains("twin (VNI 4097, port 4789)"), "{text}");
        assert!(text.contains("specified VNI already exists"), "the kernel's explanation is missing: {text}");
    });
}

#[test]
fn a_route_that_leads_elsewhere_is_replaced_without_a_gap() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let wanted = overlay_of(3);
        settle(&mut socket, &wanted);
        let crossings = [
            // With the object that nobody refers to meanwhile.
            ("10.32.2.0/24", "10.32.3.0/24", 3),
            ("fd00:32:0:2::/64", "fd00:32:0:3::/64", 2),
        ];
        for (peer, other, changes) in crossings {
            let mut crossed = wanted.clone();
            crossed.routes.insert(peer.parse().unwrap(), wanted.routes[&other.parse().unwrap()]);
            // The right one is put before the other one, which then goes; and back.
            for target in [&crossed, &wanted] {
                assert_eq!(settle(&mut socket, target), changes);
                let observed = overlay::read(&mut socket, "minionet").unwrap();
                assert_eq!(observed.routes.len(), target.routes.len() + target.refused.len());
            }
        }
    });
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}: {status}");
}

/// The numbers of the objects that the routes to a network refer to.
fn objects_to(socket: &mut Socket, network: &str) -> Vec<Option<u32>> {
    let routes = overlay::read(socket, "minionet").unwrap().routes;
    routes.iter().filter(|route| route.dst.to_string() == network).map(|route| route.object).collect()
}

/// The number of the object for the second node, and its network.
const SECOND: u32 = u32::from_be_bytes([10, 32, 2, 1]);
const NETWORK: &str = "10.32.2.0/24";

#[test]
fn routes_refer_to_objects_and_those_that_do_not_stay() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let wanted = overlay_of(2);
        settle(&mut socket, &wanted);
        assert_eq!(objects_to(&mut socket, NETWORK), [Some(SECOND)]);
        // The kernel may leave out what the object says.
        minionet_netlink::sysctl::set("ipv4/nexthop_compat_mode", "0").unwrap();
        assert_eq!(settle(&mut socket, &wanted), 0);
        let route = overlay::read(&mut socket, "minionet").unwrap().routes;
        let route = route.iter().find(|route| route.dst.to_string() == NETWORK).unwrap();
        assert_eq!(route.gateway, Some(IpAddr::from([10, 32, 2, 1])));
        assert!(route.device.is_some());
        // As an earlier version made it.
        ip("nexthop del id 169869825");
        ip("route add 10.32.2.0/24 via 10.32.2.1 dev minionet onlink proto 109");
        assert_eq!(settle(&mut socket, &wanted), 0);
        assert_eq!(objects_to(&mut socket, NETWORK), [None]);
        // Without the peer nothing is left of it.
        settle(&mut socket, &overlay_of(0));
        assert_eq!(objects_to(&mut socket, NETWORK), []);
    });
}

#[test]
fn a_strangers_object_with_one_of_our_numbers_is_left_alone() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let wanted = overlay_of(2);
        ip("link set lo up");
        ip("nexthop add id 169869825 dev lo proto 196");
        settle(&mut socket, &wanted);
        assert_eq!(objects_to(&mut socket, NETWORK), [None]);
        ip("nexthop del id 169869825");
        assert_eq!(settle(&mut socket, &wanted), 0, "a route without an object is as right");
        settle(&mut socket, &overlay_of(0));
        settle(&mut socket, &wanted);
        assert_eq!(objects_to(&mut socket, NETWORK), [Some(SECOND)]);
        // One that takes over ours, which routes refer to.
        ip("nexthop replace id 169869825 via 10.32.3.1 dev minionet onlink proto 196");
        settle(&mut socket, &wanted);
        assert_eq!(objects_to(&mut socket, NETWORK), [None]);
        let found = socket.next_hop_objects().unwrap().unwrap();
        let stranger = found.iter().find(|object| object.number == SECOND).unwrap();
        assert_eq!((stranger.protocol, stranger.gateway), (196, Some([10, 32, 3, 1].into())));
        // A group of ours cannot be changed into what it should be.
        ip("nexthop del id 169869825");
        settle(&mut socket, &overlay_of(0));
        ip("nexthop add id 1 dev lo");
        ip("nexthop add id 169869825 group 1 proto 109");
        settle(&mut socket, &wanted);
        assert_eq!(objects_to(&mut socket, NETWORK), [None]);
    });
}

#[test]
fn an_object_that_somebody_changed_is_corrected() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let wanted = overlay_of(2);
        settle(&mut socket, &wanted);
        ip("link set lo up");
        for change in [
            "nexthop replace id 169869825 via 10.32.3.1 dev minionet onlink proto 109",
            "nexthop replace id 169869825 dev lo proto 109",
            "nexthop replace id 169869825 blackhole proto 109",
        ] {
            ip(change);
            assert_eq!(settle(&mut socket, &wanted), 1, "{change}");
            assert_eq!(objects_to(&mut socket, NETWORK), [Some(SECOND)]);
        }
        // One that nobody needs goes, whatever its number.
        ip("nexthop add id 77 via 10.32.2.1 dev minionet onlink proto 109");
        assert_eq!(settle(&mut socket, &wanted), 1);
        // With the device everything goes and comes again.
        ip("link set minionet down");
        assert_eq!(socket.next_hop_objects().unwrap().unwrap(), []);
        settle(&mut socket, &wanted);
        ip("link del minionet");
        settle(&mut socket, &wanted);
        assert_eq!(socket.next_hop_objects().unwrap().unwrap().len(), 2);
        assert!(socket.remove_next_hop_object(SECOND).unwrap());
        assert!(!socket.remove_next_hop_object(SECOND).unwrap());
    });
}

#[test]
fn only_objects_that_concern_us_are_told_of() {
    in_namespace(|| {
        let mut socket = Socket::open().unwrap();
        let wanted = overlay_of(2);
        settle(&mut socket, &wanted);
        ip("link set lo up");
        let mut monitor = Monitor::open(Source::Route).unwrap();
        let interest = Interest { device: "minionet".into(), protocol: 109, ..Interest::default() };
        let mut noticed = |change: &str| {
            ip(change);
            monitor.drain(&interest).unwrap().changed
        };
        assert!(!noticed("nexthop add id 7 dev lo proto 196"), "a routing daemon's");
        assert!(!noticed("nexthop del id 7"));
        assert!(noticed("nexthop add id 169869999 dev lo proto 196"), "one with a number of ours");
        assert!(noticed("nexthop del id 169869825"), "a route goes with it, without a word");
        assert_eq!(settle(&mut socket, &wanted), 2);
    });
}
