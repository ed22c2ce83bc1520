//! Answers too large for UDP.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{Cluster, Tables, eventually};

use super::{
    DEVICE, PATIENT, everybody_reaches_everybody, number, pod_per_node, tables_for, wait_for_tables,
};

/// Records of one name; 73 fit into the 1232 bytes of a datagram.
const RECORDS: u16 = 500;

/// The most records of one name.
const MOST: u32 = 4_092;

pub fn trials() -> Vec<Trial> {
    trials![
        five_hundred_records_are_asked_for_over_tcp_and_programmed,
        routes_to_many_peers_come_back_with_their_next_hop_objects,
        as_many_records_as_one_answer_holds_and_more_in_another_name,
    ]
}

fn five_hundred_records_are_asked_for_over_tcp_and_programmed() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").nodes(2).underlay("172.20.0.0/22");
    builder.config("node_networks = [\"172.20.0.0/22\"]").run(|cluster| {
        let pods = pod_per_node(cluster)?;
        ensure!(cluster.dns().queries().tcp == 0, "two records were asked for over TCP");
        let address =
            |number: u16| Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(172, 20, 0, 0)) + u32::from(number));
        let records: Vec<IpAddr> = (1..=RECORDS).map(|number| address(number).into()).collect();
        cluster.dns().set(&cluster.dns_name(), &records, 1)?;
        for node in cluster.nodes() {
            wait_for_tables(node, &tables_for((1..=RECORDS).filter(|peer| *peer != number(node))))?;
        }
        everybody_reaches_everybody(&pods)?;

        // Each time anew: over UDP first, then, as that is truncated, over TCP.
        let before = cluster.dns().queries();
        eventually("both nodes to ask again", PATIENT, || {
            let now = cluster.dns().queries();
            if now.tcp >= before.tcp + 2 && now.udp >= before.udp + 2 {
                Ok(())
            } else {
                Err(format!("{now:?}"))
            }
        })?;
        Ok(())
    })
}

/// Where there are many peers, IPv4 routes refer to next hop objects, whose numbers are the addresses
/// of VTEPs. The kernel removes a route with its object, and says so of the object alone.
fn routes_to_many_peers_come_back_with_their_next_hop_objects() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").nodes(2).underlay("172.20.0.0/22");
    builder.config("node_networks = [\"172.20.0.0/22\"]").run(|cluster| {
        let pods = pod_per_node(cluster)?;
        let address = |number: u16| IpAddr::from(Ipv4Addr::from_bits(0xac14_0000 + u32::from(number)));
        let records: Vec<IpAddr> = (1..=RECORDS).map(address).collect();
        cluster.dns().set(&cluster.dns_name(), &records, 1)?;
        let node = cluster.node(0);
        let wanted = tables_for(2..=RECORDS);
        wait_for_tables(node, &wanted)?;
        // Few peers were known when the second node was.
        let route = "10.32.3.0/24 nhid 169870081 via 10.32.3.1 dev minionet proto 109 onlink";
        ensure!(node.exec(["ip", "route", "show", "10.32.3.0/24"])?.trim() == route);
        let objects = || node.exec(["ip", "nexthop", "show", "proto", "109"]);
        let before = objects()?;
        for damage in [
            "nexthop del id 169870081",
            "nexthop replace id 169870081 via 10.32.4.1 dev minionet onlink proto 109",
            // For 10.47.0.1, which is nobody's.
            "nexthop add id 170852353 via 10.32.2.1 dev minionet onlink proto 109",
            "nexthop flush proto 109",
        ] {
            node.ip(damage)?;
            eventually(damage, PATIENT, || {
                let after = objects()?;
                ensure!(after == before, "{} objects", after.lines().count());
                anyhow::Ok(())
            })?;
            wait_for_tables(node, &wanted)?;
        }
        everybody_reaches_everybody(&pods)
    })
}

/// One answer over TCP has at most 65,535 octets, which are 4092 records; a second name has more.
/// One node programs all of them.
fn as_many_records_as_one_answer_holds_and_more_in_another_name() -> Result<()> {
    let config = "node_networks = [\"172.20.0.0/16\"]\npod_network = \"10.0.0.0/8\"\n\
                  roles = [\"minions\", \"masters\"]\nprobe_port = \"off\"\n";
    Cluster::builder("cncfdemo").nodes(1).underlay("172.20.0.0/16").config(config).run(|cluster| {
        let node = cluster.node(0);
        let address = |number: u32| IpAddr::from(Ipv4Addr::from_bits(0xac14_0000 + number));
        let minions: Vec<IpAddr> = (1..=MOST).map(address).collect();
        let masters: Vec<IpAddr> = (MOST - 100..=MOST + 400).map(address).collect();
        cluster.dns().set("masters.cncfdemo.k8s", &masters, 1)?;
        cluster.dns().set(&cluster.dns_name(), &minions, 1)?;
        eventually("all peers of both names", PATIENT * 3, || {
            let found = Tables::read(node, DEVICE)?;
            // All but the node itself.
            let wanted = (MOST + 399) as usize;
            let counts = [found.routes.len(), found.neighbours.len(), found.forwarding.len()];
            ensure!(counts == [wanted; 3], "{counts:?} of {wanted}");
            anyhow::Ok(())
        })?;
        Ok(())
    })
}
