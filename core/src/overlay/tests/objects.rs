//! Next hop objects: who refers to them, and what happens where they are not as they were left.

use super::*;
use crate::overlay::object::{could_be_ours, number};

/// A kernel that has objects, and holds nothing yet.
fn bare() -> Observed {
    Observed { objects: Objects { possible: true, ..Objects::default() }, ..Observed::default() }
}

/// The gateway of a node's IPv4 block, and its number.
fn gateway(k: u8) -> (Ipv4Addr, u32) {
    match node(k).blocks[0].gateway {
        IpAddr::V4(gateway) => (gateway, number(gateway)),
        IpAddr::V6(_) => panic!("the first block is of IPv4"),
    }
}

fn texts(desired: &Overlay, state: &Observed) -> Vec<String> {
    diff(desired, state).unwrap().iter().map(Change::to_string).collect()
}

/// What refers to no object leads to the same place.
fn without_objects(state: &Observed) -> Observed {
    let plain = |r: &ObservedRoute| ObservedRoute { object: None, ..*r };
    let objects = Objects { found: BTreeMap::new(), ..state.objects };
    Observed { routes: state.routes.iter().map(plain).collect(), objects, ..state.clone() }
}

#[test]
fn an_object_comes_before_its_route_and_goes_after_it() {
    let state = settle(&overlay(&[2]), bare());
    assert_eq!(state.objects.found.keys().copied().collect::<Vec<_>>(), [gateway(2).1]);
    assert_eq!(
        texts(&overlay(&[2, 3]), &state),
        [
            "set the neighbour 10.32.3.1 to 0e:6d:00:00:00:03",
            "set the neighbour fd00:32:0:3::1 to 0e:6d:00:00:00:03",
            "set the forwarding entry 0e:6d:00:00:00:03 to 172.20.0.3",
            "make the next hop object 169870081 for 10.32.3.1",
            "add the route 10.32.3.0/24 via 10.32.3.1",
            "add the route fd00:32:0:3::/64 via fd00:32:0:3::1",
        ]
    );
    let leaving: Vec<&str> = diff(&overlay(&[]), &state).unwrap().iter().map(Change::object).collect();
    assert_eq!(leaving, ["route", "route", "nexthop", "neighbour", "neighbour", "fdb"]);
    let mut early = diff(&overlay(&[]), &state).unwrap();
    keep_peers(&mut early, &overlay(&[]));
    assert_eq!(early, [], "nothing goes before it is known who the peers are");
}

#[test]
fn objects_are_for_many_routes_into_the_overlay() {
    let with = |count: u32, via: fn(Ipv4Addr) -> NextHop| {
        let address = |k: u32| Ipv4Addr::from_bits(0x0a20_0001 + (k << 8));
        let route = |k: u32| (format!("{}/32", address(k)).parse().unwrap(), via(address(k)));
        Overlay { routes: (0..count).map(route).collect(), ..overlay(&[]) }
    };
    let tunnel = |gateway: Ipv4Addr| NextHop::Vtep(gateway.into());
    assert!(object::pay([&with(256, tunnel)]) && !object::pay([&with(255, tunnel)]));
    assert!(object::pay([&with(255, tunnel), &with(1, tunnel)]));
    assert!(!object::pay([&with(5000, |gateway| NextHop::Direct(gateway.into()))]));
    for (possible, pay) in [(true, true), (true, false), (false, true)] {
        let objects = Objects { possible, ..Objects::default() }.if_they(pay);
        assert_eq!(objects.possible, possible && pay);
    }
}

#[test]
fn newcomers_get_their_objects_without_a_look() {
    let (before, wanted) = (overlay(&[2]), overlay(&[2, 3]));
    let mut state = settle(&before, bare());
    let added = additions(&wanted, &before, &state.objects.taken());
    assert_eq!(added.iter().filter(|change| change.object() == "nexthop").count(), 1);
    added.iter().for_each(|change| apply(&mut state, change));
    assert_eq!(diff(&wanted, &state), Ok(vec![]));
}

#[test]
fn routes_of_an_earlier_version_stay_as_they_are() {
    let wanted = overlay(&[2, 3]);
    let state = without_objects(&settle(&wanted, bare()));
    assert_eq!(diff(&wanted, &state), Ok(vec![]));
    // New ones refer to objects, and the old ones go like any other.
    let more = settle(&overlay(&[2, 3, 4]), state.clone());
    assert_eq!(more.objects.found.keys().copied().collect::<Vec<_>>(), [gateway(4).1]);
    assert_eq!(settle(&overlay(&[4]), more), settle(&overlay(&[4]), bare()));
    // One that leads elsewhere is replaced as ever.
    let mut wrong = state;
    let astray =
        |r: &ObservedRoute| ObservedRoute { gateway: r.gateway.map(|_| node(5).blocks[0].gateway), ..*r };
    wrong.routes =
        wrong.routes.iter().map(|r| if r.dst == node(2).blocks[0].cidr { astray(r) } else { *r }).collect();
    assert_eq!(
        texts(&wanted, &wrong),
        [
            "make the next hop object 169869825 for 10.32.2.1",
            "add the route 10.32.2.0/24 via 10.32.2.1",
            "remove the route 10.32.2.0/24"
        ]
    );
}

#[test]
fn a_kernel_without_objects_gets_plain_routes() {
    let state = settle(&overlay(&[2, 3]), Observed::default());
    assert!(state.routes.iter().all(|route| route.object.is_none()));
    // Should it refuse more of them, those that are there stay of use.
    let mut refusing = settle(&overlay(&[2]), bare());
    refusing.objects.possible = false;
    let after = settle(&overlay(&[2, 3]), refusing);
    assert_eq!(after.objects.found.len(), 1);
    assert_eq!(after.routes.iter().filter(|route| route.object.is_some()).count(), 1);
}

#[test]
fn a_strangers_object_is_neither_used_nor_touched() {
    let wanted = overlay(&[2, 3]);
    let mut state = bare();
    let stranger = ObservedObject { ours: false, gateway: Some(gateway(2).0.into()), device: Some(INDEX) };
    state.objects.found.insert(gateway(2).1, stranger);
    let early = additions(&wanted, &overlay(&[]), &state.objects.taken());
    assert_eq!(early.iter().filter(|change| change.object() == "nexthop").count(), 1, "only that of 3");
    let after = settle(&wanted, state);
    let objects = |state: &Observed, k: u8| -> Vec<Option<u32>> {
        let found = state.routes.iter().filter(|r| r.dst == node(k).blocks[0].cidr);
        found.map(|r| r.object).collect()
    };
    assert_eq!((objects(&after, 2), objects(&after, 3)), (vec![None], vec![Some(gateway(3).1)]));
    // One that takes ours over, with the route that refers to it.
    let mut taken = settle(&wanted, bare());
    taken.objects.found.insert(gateway(2).1, stranger);
    assert_eq!(
        texts(&wanted, &taken),
        ["add the route 10.32.2.0/24 via 10.32.2.1", "remove the route 10.32.2.0/24"]
    );
    let after = settle(&wanted, taken);
    assert_eq!((objects(&after, 2), after.objects.found[&gateway(2).1]), (vec![None], stranger));
}

#[test]
fn an_object_that_was_changed_is_corrected_in_place() {
    let wanted = overlay(&[2, 3]);
    let right = settle(&wanted, bare());
    let mut state = right.clone();
    let elsewhere = Some(gateway(3).0.into());
    state.objects.found.get_mut(&gateway(2).1).unwrap().gateway = elsewhere;
    let follow = |r: &ObservedRoute| match r.object == Some(gateway(2).1) {
        true => ObservedRoute { gateway: elsewhere, ..*r },
        false => *r,
    };
    state.routes = state.routes.iter().map(follow).collect();
    assert_eq!(texts(&wanted, &state), ["correct the next hop object 169869825 for 10.32.2.1"]);
    assert_eq!(settle(&wanted, state), right);
    // One that is gone took its route along.
    let mut state = right.clone();
    state.objects.found.remove(&gateway(2).1);
    state.routes.retain(|route| route.object != Some(gateway(2).1));
    assert_eq!(diff(&wanted, &state).unwrap().len(), 2);
    assert_eq!(settle(&wanted, state), right);
}

#[test]
fn beside_a_route_with_an_object_one_without_is_too_much() {
    let wanted = overlay(&[2]);
    let right = settle(&wanted, bare());
    let mut state = right.clone();
    state.routes.extend(without_objects(&right).routes);
    assert_eq!(texts(&wanted, &state), ["remove the route 10.32.2.0/24"]);
    assert_eq!(settle(&wanted, state), right);
}

#[test]
fn a_change_of_the_mode_takes_the_objects_away_and_back() {
    let state = settle(&overlay(&[2]), bare());
    let direct = overlay_in(Encapsulation::CrossSubnet, "172.20.0.0/24", &[2]);
    let after = settle(&direct, state.clone());
    assert!(after.objects.found.is_empty(), "a direct route has no object");
    assert_eq!(settle(&overlay(&[2]), after), state);
}

#[test]
fn the_numbers_of_objects_are_far_from_those_that_are_counted() {
    assert!(could_be_ours(number(Ipv4Addr::new(1, 0, 0, 0))) && could_be_ours(u32::MAX));
    assert!(!could_be_ours(0) && !could_be_ours((1 << 24) - 1));
}

/// Any objects: ours and strangers', right and wrong.
pub(super) fn any_objects() -> impl Strategy<Value = Objects> {
    let any_gateway = (0u8..6).prop_map(|k| gateway(k).0);
    let any_object = (any::<bool>(), proptest::option::of(any_gateway.clone()), 6u32..9).prop_map(
        |(ours, gateway, device)| ObservedObject {
            ours,
            gateway: gateway.map(IpAddr::V4),
            device: Some(device),
        },
    );
    let any_number = prop_oneof![any_gateway.prop_map(number), Just(0x0a20_6301)];
    let found = proptest::collection::btree_map(any_number, any_object, 0..5);
    (found, any::<bool>()).prop_map(|(found, possible)| Objects { found, possible })
}

/// The route as it is when it refers to one of these objects, if there are enough of them.
pub(super) fn refer(route: ObservedRoute, objects: &Objects, pick: usize) -> ObservedRoute {
    match objects.found.iter().nth(pick) {
        Some((number, object)) if !route.refuses && route.dst.network().is_ipv4() => {
            ObservedRoute { gateway: object.gateway, device: object.device, object: Some(*number), ..route }
        }
        _ => route,
    }
}

/// How many objects there should be at the most.
pub(super) fn most(desired: &Overlay) -> usize {
    desired.routes.keys().filter(|dst| dst.network().is_ipv4()).count()
}

/// Each of ours is referred to, and no stranger's; strangers' are as they were, unless they went with
/// a device.
pub(super) fn are_in_order(before: &Observed, after: &Observed) {
    let referred: BTreeSet<u32> = after.routes.iter().filter_map(|route| route.object).collect();
    let ours: BTreeSet<u32> =
        after.objects.found.iter().filter(|(_, object)| object.ours).map(|(number, _)| *number).collect();
    assert_eq!(referred, ours);
    let strangers = after.objects.taken().found;
    assert!(strangers.iter().all(|(number, object)| before.objects.found.get(number) == Some(object)));
    let stayed = before.objects.taken().found.into_iter().filter(|(_, object)| object.device != Some(INDEX));
    assert!(stayed.into_iter().all(|(number, object)| strangers.get(&number) == Some(&object)));
}
