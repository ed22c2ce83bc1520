//! Answers too large for UDP.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{Cluster, eventually};

use super::{PATIENT, everybody_reaches_everybody, number, pod_per_node, tables_for, wait_for_tables};

/// Records of one name; 73 fit into the 1232 bytes of a datagram.
const RECORDS: u16 = 500;

pub fn trials() -> Vec<Trial> {
    trials![five_hundred_records_are_asked_for_over_tcp_and_programmed]
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
