mod kernel;
mod objects;

use proptest::prelude::*;

use self::kernel::{INDEX, apply};
use super::object::ObservedObject;
use super::*;
use crate::plan::{AddressPlan, PlanSpec, PodNetwork};

const UNDERLAY: u32 = 6;

fn plan() -> AddressPlan {
    let pod = |n: &str, node_prefix| PodNetwork { network: n.parse().unwrap(), node_prefix };
    AddressPlan::new(PlanSpec {
        node_networks: vec!["172.20.0.0/24".parse().unwrap()],
        pod_networks: vec![pod("10.32.0.0/12", 24), pod("fd00:32::/48", 64)],
    })
    .unwrap()
}

fn node(k: u8) -> NodePlan {
    plan().node(IpAddr::from([172, 20, 0, k])).unwrap()
}

fn device(k: u8) -> Device {
    let me = node(k);
    Device { name: "minionet".into(), vni: 4097, port: 4789, local: me.node, mac: me.mac, mtu: 1450 }
}

fn overlay(peers: &[u8]) -> Overlay {
    overlay_in(Encapsulation::Always, "172.20.0.0/24", peers)
}

fn overlay_in(encapsulation: Encapsulation, subnet: &str, peers: &[u8]) -> Overlay {
    let peers: Vec<NodePlan> = peers.iter().map(|k| node(*k)).collect();
    let subnet = subnet.parse().unwrap();
    let me = node(1);
    let assigned = &plan().assigned();
    desired(device(1), &Local { me: &me, subnet, underlay: Some(UNDERLAY), encapsulation, assigned }, &peers)
}

fn settle(desired: &Overlay, mut state: Observed) -> Observed {
    for change in diff(desired, &state).unwrap() {
        apply(&mut state, &change);
    }
    state
}

#[test]
fn an_empty_kernel_gets_everything_in_order() {
    let changes: Vec<String> =
        diff(&overlay(&[1, 2]), &Observed::default()).unwrap().iter().map(Change::to_string).collect();
    assert_eq!(
        changes,
        [
            "make the VXLAN device minionet (VNI 4097, port 4789, local 172.20.0.1)",
            "add the address 10.32.1.1",
            "add the address fd00:32:0:1::1",
            "set the neighbour 10.32.2.1 to 0e:6d:00:00:00:02",
            "set the neighbour fd00:32:0:2::1 to 0e:6d:00:00:00:02",
            "set the forwarding entry 0e:6d:00:00:00:02 to 172.20.0.2",
            "add the route 10.32.0.0/16, unreachable",
            "add the route fd00:32::/56, unreachable",
            "add the route 10.32.2.0/24 via 10.32.2.1",
            "add the route fd00:32:0:2::/64 via fd00:32:0:2::1",
        ]
    );
}

#[test]
fn a_peer_that_leaves_takes_its_entries_with_it_route_first() {
    let state = settle(&overlay(&[2, 3]), Observed::default());
    let changes: Vec<&str> = diff(&overlay(&[2]), &state).unwrap().iter().map(Change::object).collect();
    assert_eq!(changes, ["route", "route", "neighbour", "neighbour", "fdb"]);
}

#[test]
fn the_tables_tell_who_the_peers_were() {
    let mut state = settle(&overlay(&[2, 3]), Observed::default());
    state.fdb.insert((MacAddr([2, 0, 0, 0, 0, 1]), IpAddr::from([172, 20, 0, 9])));
    assert_eq!(state.nodes(), BTreeSet::from([node(2).node, node(3).node]));
}

#[test]
fn one_peer_costs_only_its_own_changes() {
    let state = settle(&overlay(&[2, 3, 4]), Observed::default());
    assert_eq!(diff(&overlay(&[2, 3, 4, 5]), &state).unwrap().len(), 5);
}

#[test]
fn what_is_new_is_known_without_reading_and_leads_to_the_same() {
    let (before, wanted) = (overlay(&[2, 3]), overlay(&[3, 4]));
    let mut state = settle(&before, Observed::default());
    let added = additions(&wanted, &before, &Objects::default());
    assert_eq!(
        added.iter().map(Change::object).collect::<Vec<_>>(),
        ["neighbour", "neighbour", "fdb", "route", "route"]
    );
    for change in &added {
        assert!(change.to_string().contains("4"), "{change} is about no newcomer");
        apply(&mut state, change);
    }
    // What goes is left to the difference, which finds nothing else to do.
    assert!(diff(&wanted, &state).unwrap().iter().all(Change::removes_peer));
    assert_eq!(settle(&wanted, state), settle(&wanted, Observed::default()));
}

#[test]
fn nothing_is_added_in_a_hurry_to_another_device() {
    let (before, mut wanted) = (overlay(&[2]), overlay(&[2, 3]));
    assert!(additions(&before, &before, &Objects::default()).is_empty());
    wanted.device.mtu -= 1;
    assert!(additions(&wanted, &before, &Objects::default()).is_empty());
}

#[test]
fn the_device_is_changed_in_place_where_the_kernel_can() {
    let state = settle(&overlay(&[2]), Observed::default());
    let moved = |f: fn(&mut ObservedDevice)| {
        let mut state = state.clone();
        f(state.device.as_mut().unwrap());
        diff(&overlay(&[2]), &state).unwrap().iter().map(Change::to_string).collect::<Vec<_>>()
    };
    assert_eq!(moved(|d| d.up = false), ["change the VXLAN device: up"]);
    assert_eq!(moved(|d| d.mtu = 1400), ["change the VXLAN device: MTU 1450"]);
    assert_eq!(moved(|d| d.local = None), ["change the VXLAN device: local 172.20.0.1"]);
    let mac = moved(|d| d.mac = Some(MacAddr::vtep(99)));
    assert_eq!(mac[0], "change the VXLAN device: MAC 0e:6d:00:00:00:01");
    assert_eq!(mac.len(), 3, "the kernel flushes the neighbours, so they are set again: {mac:?}");
    assert!(moved(|d| d.vni = 5)[0].contains("its VNI is 5 instead of 4097"));
    assert!(moved(|d| d.foreign_features = true)[1].starts_with("make"));
}

#[test]
fn neighbours_on_the_underlay_need_no_encapsulation() {
    let routes = |mode, subnet| {
        let overlay = overlay_in(mode, subnet, &[2, 200]);
        overlay.routes.into_values().collect::<Vec<_>>()
    };
    let direct = |k: u8| NextHop::Direct(IpAddr::from([172, 20, 0, k]));
    let v4 = |k: u8| NextHop::Vtep(node(k).blocks[0].gateway);
    let v6 = |k: u8| NextHop::Vtep(node(k).blocks[1].gateway);
    let half = "172.20.0.0/25";
    assert_eq!(routes(Encapsulation::Always, half), [v4(2), v4(200), v6(2), v6(200)]);
    assert_eq!(routes(Encapsulation::CrossSubnet, half), [direct(2), v4(200), v6(2), v6(200)]);
    assert_eq!(routes(Encapsulation::Never, half), [direct(2), v6(2), v6(200)]);
}

#[test]
fn what_the_underlays_routers_know_is_not_refused() {
    let refused = |mode| {
        let overlay = overlay_in(mode, "172.20.0.0/25", &[2]);
        overlay.refused.iter().map(Cidr::to_string).collect::<Vec<_>>()
    };
    let both = ["10.32.0.0/16", "fd00:32::/56"];
    assert_eq!(refused(Encapsulation::Always), both);
    assert_eq!(refused(Encapsulation::CrossSubnet), both);
    assert_eq!(refused(Encapsulation::Never), both[1..], "IPv6 is encapsulated all the same");
    // To the mode "never" before DNS has spoken: the refusal would be in the routers' way.
    let state = settle(&overlay(&[2]), Observed::default());
    let never = overlay_in(Encapsulation::Never, "172.20.0.0/25", &[2]);
    let mut changes = diff(&never, &state).unwrap();
    keep_peers(&mut changes, &never);
    assert!(changes.iter().any(|c| c.to_string() == "remove the route 10.32.0.0/16, unreachable"));
}

#[test]
fn a_block_that_is_the_end_of_what_is_assigned_has_both_routes() {
    let one = |text: &str| text.parse::<Cidr>().unwrap();
    let networks = ["172.20.0.0/31", "172.20.0.8/32"].map(one).to_vec();
    let pods = PodNetwork { network: one("10.32.0.0/12"), node_prefix: 24 };
    let plan = AddressPlan::new(PlanSpec { node_networks: networks, pod_networks: vec![pods] }).unwrap();
    let [me, peer] = ["172.20.0.1", "172.20.0.8"].map(|a| plan.node(a.parse().unwrap()).unwrap());
    let (subnet, encapsulation, assigned) = (one("172.20.0.0/24"), Encapsulation::Always, &plan.assigned());
    let local = Local { me: &me, subnet, underlay: None, encapsulation, assigned };
    let wanted = desired(device(1), &local, [&peer]);
    assert!(
        wanted.refused.contains(&peer.blocks[0].cidr) && wanted.routes.contains_key(&peer.blocks[0].cidr)
    );
    let state = settle(&wanted, Observed::default());
    assert_eq!(diff(&wanted, &state), Ok(vec![]));
    assert_eq!(state.routes.iter().filter(|r| r.dst == peer.blocks[0].cidr).count(), 2);
}

#[test]
fn a_change_of_the_mode_replaces_each_route_at_once() {
    let state = settle(&overlay(&[2, 3]), Observed::default());
    let wanted = overlay_in(Encapsulation::CrossSubnet, "172.20.0.0/24", &[2, 3]);
    let changes: Vec<String> = diff(&wanted, &state).unwrap().iter().map(Change::to_string).collect();
    assert_eq!(
        changes,
        [
            "add the route 10.32.2.0/24 via 172.20.0.2, not encapsulated",
            "remove the route 10.32.2.0/24",
            "add the route 10.32.3.0/24 via 172.20.0.3, not encapsulated",
            "remove the route 10.32.3.0/24",
        ]
    );
    assert_eq!(settle(&overlay(&[2, 3]), settle(&wanted, state.clone())), state);
}

#[test]
fn without_the_interface_direct_routes_wait() {
    let mut wanted = overlay_in(Encapsulation::CrossSubnet, "172.20.0.0/24", &[2]);
    wanted.underlay = None;
    let state = settle(&wanted, Observed::default());
    let leading: Vec<_> = state.routes.iter().filter(|r| !r.refuses).collect();
    assert_eq!(leading.len(), 1, "that of the other family, which is encapsulated");
    assert_eq!(diff(&wanted, &state), Ok(vec![]));
}

#[test]
fn a_strangers_device_is_not_deleted() {
    let mut state = settle(&overlay(&[2]), Observed::default());
    state.device.as_mut().unwrap().is_vxlan = false;
    assert_eq!(diff(&overlay(&[2]), &state), Err(NameTaken { name: "minionet".into() }));
}

#[test]
fn the_mtu_leaves_room_for_the_encapsulation() {
    assert_eq!(overlay_mtu(Family::V4, 1500), 1450);
    assert_eq!(overlay_mtu(Family::V6, 1500), 1430);
    assert_eq!(overlay_mtu(Family::V6, 40), 0);
    let blocks = node(1).blocks;
    assert_eq!(pod_mtu(Encapsulation::Never, &blocks[..1], Family::V4, 1500), 1500);
    assert_eq!(pod_mtu(Encapsulation::Never, &blocks, Family::V4, 1500), 1450, "IPv6 is encapsulated");
    assert_eq!(pod_mtu(Encapsulation::CrossSubnet, &blocks[..1], Family::V4, 1500), 1450);
}

/// Any state that a kernel could be in, our own or a stranger's doing.
fn any_observed() -> impl Strategy<Value = Observed> {
    let any_mac = (any::<bool>(), 0u32..6)
        .prop_map(|(ours, i)| if ours { MacAddr::vtep(i) } else { MacAddr([2, 0, 0, 0, 0, i as u8]) });
    let any_node = (0u8..6).prop_map(|k| IpAddr::from([172, 20, 0, k]));
    let any_gateway = (0u8..6, any::<bool>())
        .prop_map(|(k, v4)| if v4 { node(k).blocks[0].gateway } else { node(k).blocks[1].gateway });
    let any_device =
        (any::<[bool; 3]>(), 4096u32..4098, 1449u32..1451, 0u8..3).prop_map(|(b, vni, mtu, k)| {
            ObservedDevice {
                index: INDEX,
                up: b[0],
                is_vxlan: true,
                vni,
                port: 4789,
                local: Some(IpAddr::from([172, 20, 0, k])).filter(|_| b[2]),
                mac: Some(MacAddr::vtep(u32::from(k))),
                mtu,
                foreign_features: b[1],
            }
        });
    let any_neighbour = (proptest::option::of(any_mac.clone()), any::<bool>(), any::<bool>())
        .prop_map(|(mac, permanent, ours)| ObservedNeighbour { mac, permanent, ours });
    let any_metric = prop_oneof![Just(0u32), Just(50), Just(1024), Just(REFUSING_METRIC)];
    let any_route =
        (0u8..6, any::<[bool; 3]>(), proptest::option::of(any_gateway.clone()), 6u32..9, any_metric)
            .prop_map(|(k, [v4, refuses, all], gateway, device, metric)| {
                let block = node(k).blocks[usize::from(!v4)].cidr;
                let dst = if all { plan().assigned()[usize::from(!v4)] } else { block };
                let (gateway, device) = (gateway.filter(|_| !refuses), Some(device).filter(|_| !refuses));
                ObservedRoute { dst, metric, refuses, gateway, device, object: None }
            });
    let any_route = (any_route, 0usize..6);
    (
        proptest::option::of(any_device),
        proptest::collection::btree_set(
            (any_gateway.clone(), prop_oneof![Just(32u8), Just(24), Just(128)]),
            0..4,
        ),
        proptest::collection::btree_map(any_gateway, any_neighbour, 0..6),
        proptest::collection::btree_set((any_mac, any_node), 0..6),
        proptest::collection::vec(any_route, 0..6),
        objects::any_objects(),
    )
        .prop_map(|(device, addresses, neighbours, fdb, routes, objects)| {
            let gone = device.is_none().then_some(INDEX);
            let objects = gone.map_or(objects.clone(), |gone| objects.without_device(gone));
            let referring = routes.into_iter().map(|(route, pick)| objects::refer(route, &objects, pick));
            let routes = referring.filter(|r| gone.is_none() || r.device != gone).collect();
            match device {
                Some(_) => Observed { device, addresses, neighbours, fdb, routes, objects },
                None => Observed { routes, objects, ..Observed::default() },
            }
        })
}

proptest! {
    #[test]
    fn from_any_state_the_result_is_the_desired_one(
        state in any_observed(),
        peers in proptest::collection::btree_set(2u8..6, 0..4),
        mode in prop_oneof![
            Just(Encapsulation::Always), Just(Encapsulation::CrossSubnet), Just(Encapsulation::Never)
        ],
    ) {
        let peers: Vec<u8> = peers.into_iter().collect();
        let desired = overlay_in(mode, "172.20.0.0/30", &peers);
        // Two for the device, and one for each thing that is or should be.
        let is = state.addresses.len() + state.neighbours.len() + state.fdb.len() + state.routes.len();
        let is = is + state.objects.found.len();
        let should = desired.addresses.len() + desired.neighbours.len() + desired.fdb.len();
        let should = should + objects::most(&desired);
        let changes = diff(&desired, &state).unwrap().len();
        prop_assert!(changes <= 2 + is + should + desired.routes.len() + desired.refused.len());
        let after = settle(&desired, state.clone());
        objects::are_in_order(&state, &after);
        let device = after.device.clone().unwrap();
        prop_assert!(device.up);
        prop_assert_eq!(device.mac, Some(desired.device.mac));
        let addresses: BTreeSet<IpAddr> = after.addresses.iter().map(|(a, _)| *a).collect();
        prop_assert_eq!(&addresses, &desired.addresses);
        for (addr, mac) in &desired.neighbours {
            prop_assert_eq!(after.neighbours[addr].mac, Some(*mac));
        }
        prop_assert!(after.neighbours.iter().all(|(a, n)| !n.ours || desired.neighbours.contains_key(a)));
        let fdb: BTreeMap<MacAddr, IpAddr> = after.fdb.iter().filter(|(m, _)| m.is_vtep()).copied().collect();
        prop_assert_eq!(&fdb, &desired.fdb);
        let (refusing, leading): (Vec<&ObservedRoute>, Vec<_>) = after.routes.iter().partition(|r| r.refuses);
        prop_assert_eq!(leading.len(), desired.routes.len());
        prop_assert!(leading.iter().all(|r| r.metric == default_metric(r.dst.family())));
        prop_assert_eq!(refusing.iter().map(|r| r.dst).collect::<BTreeSet<_>>(), desired.refused.clone());
        prop_assert!(refusing.iter().all(|r| r.metric == REFUSING_METRIC));
        prop_assert_eq!(diff(&desired, &after), Ok(vec![]));
    }

    #[test]
    fn nothing_that_leads_to_a_peer_goes_before_it_is_known_who_they_are(
        state in any_observed(),
        peers in proptest::collection::btree_set(2u8..6, 0..4),
    ) {
        let peers: Vec<u8> = peers.into_iter().collect();
        let desired = overlay(&peers);
        let mut changes = diff(&desired, &state).unwrap();
        let replaced = changes.iter().any(|c| matches!(c, Change::DeleteDevice { .. }));
        keep_peers(&mut changes, &desired);
        let mut after = state.clone();
        for change in &changes {
            apply(&mut after, change);
        }
        let leads = |s: &Observed, gone: Option<u32>| -> BTreeSet<Cidr> {
            s.routes.iter().filter(|r| !r.refuses && (gone.is_none() || r.device != gone)).map(|r| r.dst).collect()
        };
        // Where there was a way before, there is one; where there should be one, it is the right one.
        prop_assert!(leads(&after, None).is_superset(&leads(&state, replaced.then_some(INDEX))));
        let wrong = |r: &&ObservedRoute| {
            !r.refuses && desired.routes.get(&r.dst).is_some_and(|via| r.gateway != Some(via.address()))
        };
        prop_assert_eq!(after.routes.iter().find(wrong), None);
    }

    #[test]
    fn what_is_not_ours_stays(state in any_observed()) {
        let foreign = |s: &Observed| {
            let fdb: Vec<_> = s.fdb.iter().filter(|(m, _)| !m.is_vtep()).copied().collect();
            (fdb, s.objects.taken())
        };
        // A device that has to be replaced takes everything on it along.
        let replaced = diff(&overlay(&[2]), &state).unwrap().iter().any(|c| matches!(c, Change::DeleteDevice { .. }));
        if !replaced {
            prop_assert_eq!(foreign(&settle(&overlay(&[2]), state.clone())), foreign(&state));
        }
    }
}
