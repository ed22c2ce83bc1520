use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pods(text: &str, node_prefix: u8) -> PodNetwork {
    PodNetwork { network: cidr(text), node_prefix }
}

fn plan(nodes: &[&str], pods: &[PodNetwork]) -> Result<AddressPlan, PlanError> {
    let node_networks = nodes.iter().map(|n| cidr(n)).collect();
    AddressPlan::new(PlanSpec { node_networks, pod_networks: pods.to_vec() })
}

#[test]
fn a_person_can_read_the_default_plan() {
    let plan = plan(&["172.20.0.0/24"], &[pods("fd00:32::/48", 64), pods("10.32.0.0/12", 24)]).unwrap();
    let node = plan.node(ip("172.20.0.12")).unwrap();
    assert_eq!(node.index, 12);
    assert_eq!(node.mac.to_string(), "0e:6d:00:00:00:0c");
    assert_eq!(node.blocks[0], Block { cidr: cidr("10.32.12.0/24"), gateway: ip("10.32.12.1") });
    assert_eq!(node.blocks[1], Block { cidr: cidr("fd00:32:0:c::/64"), gateway: ip("fd00:32:0:c::1") });
    assert_eq!(plan.owner(ip("10.32.12.77")), Some(ip("172.20.0.12")));
    assert_eq!(plan.owner(ip("fd00:32:0:c::9")), Some(ip("172.20.0.12")));
    assert_eq!(plan.owner(ip("10.33.0.1")), None, "block 256 belongs to no possible node");
    assert_eq!(plan.owner(ip("10.48.0.1")), None);
}

#[test]
fn what_is_assigned_is_what_nodes_can_own() {
    let assigned = |nodes: &[&str], networks: &[PodNetwork]| -> Vec<String> {
        plan(nodes, networks).unwrap().assigned().iter().map(Cidr::to_string).collect()
    };
    let both = [pods("10.32.0.0/12", 24), pods("fd00:32::/48", 64)];
    assert_eq!(assigned(&["172.20.0.0/24"], &both), ["10.32.0.0/16", "fd00:32::/56"]);
    assert_eq!(assigned(&["172.20.0.0/20"], &both[..1]), ["10.32.0.0/12"]);
    let odd = assigned(&["172.20.0.0/24", "192.168.7.0/30", "192.168.8.1/32"], &both[..1]);
    assert_eq!(odd, ["10.32.0.0/16", "10.33.0.0/22", "10.33.4.0/24"]);
}

#[test]
fn nodes_of_further_networks_follow_the_first() {
    let plan = plan(&["172.20.0.0/24", "192.168.7.0/28"], &[pods("10.32.0.0/12", 24)]).unwrap();
    assert_eq!(plan.node(ip("192.168.7.3")).unwrap().index, 256 + 3);
    assert_eq!(plan.owner(ip("10.33.3.1")), Some(ip("192.168.7.3")));
    assert_eq!(plan.capacity(), 272);
    assert_eq!(plan.all().count(), 272);
}

#[test]
fn an_ipv6_underlay_works_the_same() {
    let plan = plan(&["fd00:1::/112"], &[pods("10.0.0.0/8", 24), pods("fd00:32::/48", 64)]).unwrap();
    let node = plan.node(ip("fd00:1::1:2")).unwrap_err();
    assert!(node.to_string().contains("outside of node_networks (fd00:1::/112)"), "{node}");
    let node = plan.node(ip("fd00:1::102")).unwrap();
    assert_eq!(node.blocks[0].cidr, cidr("10.1.2.0/24"));
    assert_eq!(plan.underlay(), Family::V6);
}

#[test]
fn impossible_plans_are_refused_with_numbers_and_ways_out() {
    let v4 = || [pods("10.32.0.0/12", 24)];
    let cases: [(&[&str], &[PodNetwork], &[&str]); 12] = [
        (
            &["172.20.0.0/16"],
            &v4(),
            &[
                "172.20.0.0/16 has 65536 addresses; 10.32.0.0/12 holds 4096 blocks of /24",
                "list only the node subnets in use",
                "use pod_network 10.0.0.0/8",
                "use node_prefix 28 (13 pods on a node)",
            ],
        ),
        (&[], &v4(), &["set node_networks"]),
        (&["172.20.0.0/24"], &[], &["set pod_network"]),
        (&["172.20.0.0/24", "fd00::/120"], &v4(), &["mixes IPv4 (172.20.0.0/24) and IPv6 (fd00::/120)"]),
        (&["172.20.0.0/24", "172.20.0.128/25"], &v4(), &["overlap", "two positions"]),
        (&["10.32.5.0/24"], &v4(), &["10.32.5.0/24 and 10.32.0.0/12 overlap"]),
        (&["172.20.0.0/24"], &[pods("10.32.0.0/12", 31)], &["from 12 to 30"]),
        (&["172.20.0.0/24"], &[pods("10.32.0.0/12", 8)], &["from 12 to 30"]),
        (&["172.20.0.0/24"], &[pods("224.0.0.0/4", 24)], &["multicast"]),
        (&["127.0.0.0/24"], &v4(), &["loopback"]),
        (&["fd00::/64"], &v4(), &["a plan can tell 4294967296 apart"]),
        (&["172.20.0.0/24"], &[pods("10.32.0.0/12", 24), pods("10.64.0.0/12", 24)], &["two IPv4 networks"]),
    ];
    for (nodes, pods, parts) in cases {
        let error = plan(nodes, pods).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{error}\n  lacks: {part}");
        }
    }
}

#[test]
fn a_way_out_is_only_offered_when_it_works() {
    // 10.0.0.0/8 would swallow the nodes.
    let error = plan(&["10.200.0.0/16"], &[pods("10.32.0.0/12", 24)]).unwrap_err().to_string();
    assert!(!error.contains("pod_network 10.0.0.0/8"), "{error}");
    assert!(error.contains("node_prefix 28"), "{error}");
}

#[test]
fn every_offered_way_out_is_accepted() {
    assert!(plan(&["172.20.0.0/16"], &[pods("10.0.0.0/8", 24)]).is_ok());
    assert!(plan(&["172.20.0.0/16"], &[pods("10.32.0.0/12", 28)]).is_ok());
}

#[test]
fn the_digest_tells_plans_apart() {
    let digest = |nodes: &[&str], p: u8| plan(nodes, &[pods("10.32.0.0/12", p)]).unwrap().digest();
    let base = digest(&["172.20.0.0/24"], 24);
    assert_eq!(base, digest(&["172.20.0.0/24"], 24));
    assert_ne!(base, digest(&["172.20.0.0/24"], 25));
    assert_ne!(base, digest(&["172.20.0.0/24", "172.20.1.0/24"], 24));
    assert_ne!(
        digest(&["172.20.0.0/24", "172.20.1.0/24"], 24),
        digest(&["172.20.1.0/24", "172.20.0.0/24"], 24)
    );
}

/// A random plan that holds: some disjoint node networks, and pod networks with room for them.
fn any_plan() -> impl Strategy<Value = AddressPlan> {
    let underlay = prop_oneof![Just(Family::V4), Just(Family::V6)];
    let networks = proptest::collection::btree_map(0u8..200, 0u8..=10, 1..6);
    (underlay, networks, 0u8..4, 0u8..3, any::<[bool; 2]>()).prop_filter_map(
        "a plan without pod networks",
        |(underlay, networks, slack, extra, families)| {
            let node_networks: Vec<Cidr> = networks
                .into_iter()
                .map(|(slot, bits)| match underlay {
                    Family::V4 => Cidr::containing(ip(&format!("172.20.{slot}.0")), 32 - bits.min(8)),
                    Family::V6 => Cidr::containing(ip(&format!("fd00:1:{slot:x}::")), 128 - bits),
                })
                .collect::<Result<_, _>>()
                .ok()?;
            let total = error::node_addresses(&node_networks);
            let bits = (128 - (total.max(2) - 1).leading_zeros()) as u8 + extra;
            let mut pod_networks = Vec::new();
            if families[0] {
                let node_prefix = 30 - slack;
                let network = Cidr::containing(ip("10.0.0.0"), node_prefix - bits).ok()?;
                pod_networks.push(PodNetwork { network, node_prefix });
            }
            if families[1] {
                let node_prefix = 64 + slack;
                let network = Cidr::containing(ip("fd00:32::"), node_prefix - bits).ok()?;
                pod_networks.push(PodNetwork { network, node_prefix });
            }
            AddressPlan::new(PlanSpec { node_networks, pod_networks }).ok()
        },
    )
}

proptest! {
    #[test]
    fn no_two_nodes_share_anything(plan in any_plan(), seeds in proptest::collection::vec(any::<u64>(), 2..40)) {
        let spec = plan.spec().clone();
        let addrs: BTreeSet<IpAddr> = seeds
            .iter()
            .filter_map(|s| {
                let net = spec.node_networks[*s as usize % spec.node_networks.len()];
                net.nth(u128::from(s >> 8) % net.size())
            })
            .collect();
        let nodes: Vec<NodePlan> = addrs.iter().map(|a| plan.node(*a).unwrap()).collect();
        for (i, a) in nodes.iter().enumerate() {
            prop_assert_eq!(a.blocks.len(), spec.pod_networks.len());
            for (block, pods) in a.blocks.iter().zip(&spec.pod_networks) {
                prop_assert!(pods.network.contains(block.cidr.network()));
                prop_assert!(block.cidr.prefix_len() >= pods.network.prefix_len());
                prop_assert!(block.cidr.contains(block.gateway));
                prop_assert_eq!(plan.owner(block.gateway), Some(a.node));
            }
            for b in &nodes[i + 1..] {
                prop_assert_ne!(a.mac, b.mac);
                for x in &a.blocks {
                    prop_assert!(b.blocks.iter().all(|y| !x.cidr.overlaps(&y.cidr)));
                }
            }
        }
    }

    #[test]
    fn appending_a_network_renumbers_nobody(plan in any_plan(), pick in any::<u64>()) {
        let mut longer = plan.spec().clone();
        longer.node_networks.push(match plan.underlay() {
            Family::V4 => cidr("192.168.1.0/30"),
            Family::V6 => cidr("fd00:2::/126"),
        });
        // A plan that gets too full is refused, which renumbers nobody either.
        if let Ok(longer) = AddressPlan::new(longer) {
            let networks = &plan.spec().node_networks;
            let net = networks[pick as usize % networks.len()];
            let addr = net.nth(u128::from(pick >> 8) % net.size()).unwrap();
            prop_assert_eq!(plan.node(addr).unwrap(), longer.node(addr).unwrap());
        }
    }

    #[test]
    fn every_block_and_no_other_is_assigned(plan in any_plan()) {
        let assigned = plan.assigned();
        for pods in &plan.spec().pod_networks {
            let parts = assigned.iter().filter(|a| a.family() == pods.network.family());
            let blocks: u128 = parts.map(|a| 1u128 << (pods.node_prefix - a.prefix_len())).sum();
            prop_assert_eq!(blocks, plan.capacity());
        }
        prop_assert!(assigned.iter().enumerate().all(|(i, a)| assigned[i + 1..].iter().all(|b| !a.overlaps(b))));
        for node in plan.all() {
            for block in &node.blocks {
                let inside = |a: &&Cidr| a.contains(block.cidr.network()) && a.prefix_len() <= block.cidr.prefix_len();
                prop_assert_eq!(assigned.iter().filter(inside).count(), 1);
            }
        }
    }

    #[test]
    fn an_address_outside_is_refused(plan in any_plan(), addr in any::<[u8; 16]>(), v4 in any::<bool>()) {
        let addr: IpAddr = if v4 { [addr[0], addr[1], addr[2], addr[3]].into() } else { addr.into() };
        let inside = plan.spec().node_networks.iter().any(|n| n.contains(addr));
        prop_assert_eq!(plan.node(addr).is_ok(), inside);
    }
}
