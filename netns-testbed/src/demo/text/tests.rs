use std::net::IpAddr;

use minionet_core::plan::{AddressPlan, PlanSpec, PodNetwork};

use super::*;
use crate::demo::report::{Entries, Forgotten, Reached};

fn fits(text: &str) {
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
}

#[test]
fn the_plan_of_a_dual_stack_cluster_is_a_table() {
    let network = |network: &str, node_prefix| PodNetwork { network: network.parse().unwrap(), node_prefix };
    let spec = PlanSpec {
        node_networks: vec!["172.20.0.0/24".parse().unwrap()],
        pod_networks: vec![network("10.32.0.0/12", 24), network("fd00:32::/48", 64)],
    };
    let nodes = (1..=12).map(|number| (format!("node{number}"), IpAddr::from([172, 20, 0, number])));
    let planned = Plan::of(&AddressPlan::new(spec).unwrap(), nodes).unwrap();
    let text = plan(&planned, Paint::PLAIN);
    fits(&text);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1], "Address plan");
    assert!(lines[2].starts_with("nodes in 172.20.0.0/24, pods in 10.32.0.0/12 and fd00:32::/48;"), "{text}");
    assert!(lines[5].starts_with("node1   172.20.0.1       1  10.32.1.0/24"), "{text}");
    assert!(lines[6].trim_start().starts_with("fd00:32:0:1::/64"), "{text}");
    assert_eq!(lines.len(), 5 + 2 * 12);
}

#[test]
fn a_pod_is_a_line_with_all_its_addresses() {
    let pod = PodReport {
        name: "pod1-1".into(),
        node: "node1".into(),
        interface: "eth0".into(),
        addresses: vec![[10, 32, 1, 2].into(), [0xfd00, 0x32, 0, 1, 0, 0, 0, 2].into()],
    };
    let text = pods(&[pod], Paint::PLAIN);
    assert!(text.contains("\npod1-1  node1  eth0       10.32.1.2  fd00:32:0:1::2\n"), "{text}");
}

#[test]
fn a_join_names_the_time_of_all_and_of_each() {
    let reached = |pod: &str, time| Reached { pod: pod.into(), address: [10, 32, 4, 2].into(), ms: time };
    let mut report = Join {
        node: "node4".into(),
        address: [172, 20, 0, 4].into(),
        ttl_s: 1,
        ready_ms: 412.345,
        attached_ms: 420.0,
        reached: vec![reached("pod1-1", Some(611.9)), reached("pod1-2", Some(987.2))],
        all_ms: Some(987.2),
        back: Vec::new(),
    };
    let text = join(&report, Paint::PLAIN);
    fits(&text);
    assert!(text.contains("   987 ms  every pod had reached that pod\n"), "{text}");
    assert!(text.contains("first answers over IPv4, in ms:\n  pod1-1 612   pod1-2 987\n"), "{text}");
    report.all_ms = None;
    report.reached[1].ms = None;
    let text = join(&report, Paint::PLAIN);
    assert!(text.contains("    never  every pod") && text.contains("pod1-2 never"), "{text}");
}

#[test]
fn a_leave_shows_what_each_kernel_held() {
    let report = Leave {
        node: "node3".into(),
        address: [172, 20, 0, 3].into(),
        missing_answers: 2,
        hold_down_s: 1,
        forgotten: vec![Forgotten {
            node: "node1".into(),
            before: Entries { routes: 2, neighbours: 2, fdb: 1 },
            after: Entries { routes: 0, neighbours: 0, fdb: 0 },
            ms: Some(2345.6),
        }],
        all_ms: Some(2345.6),
        others_sent: 900,
        others_lost: 0,
    };
    let text = leave(&report, Paint::PLAIN);
    fits(&text);
    assert!(text.contains("node1  2 -> 0  2 -> 0      1 -> 0         2346 ms\n"), "{text}");
    assert!(text.contains("        0  of 900 requests between the others were lost\n"), "{text}");
}
