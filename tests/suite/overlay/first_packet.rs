//! The first packet after ADD passes, and nothing had to be asked for before it.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::traffic::Ping;
use netns_testbed::{Capture, Cluster, Frame, Packet, Transport};

use super::{DEVICE, PATIENT, host_end};

pub fn trials() -> Vec<Trial> {
    trials![the_first_packet_passes_without_asking_for_neighbours]
}

/// Every node of a link, RFC 4291 section 2.7.1.
const ALL_NODES: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));

/// ARP, or the IPv6 messages that ask for a neighbour and answer: RFC 826, RFC 4861 section 4.3.
///
/// Not the check for duplicates of a link-local address (RFC 4862, section 5.4.2) and its announcement
/// (RFC 4861, section 7.2.6), which the kernel of a pod makes by itself some time later, and which
/// keep nothing waiting.
fn asks_for_a_neighbour(frame: &Frame) -> bool {
    let discovery = |packet: &Packet| {
        let to_nobody = packet.source.is_unspecified() || packet.destination == ALL_NODES;
        let of_itself = to_nobody && packet.payload.starts_with(&[0xfe, 0x80]);
        let asks = matches!(packet.transport, Transport::Icmp { kind: 135 | 136, .. });
        packet.source.is_ipv6() && asks && !of_itself
    };
    frame.ethertype == 0x0806 || frame.packet.as_ref().is_some_and(discovery)
}

fn the_first_packet_passes_without_asking_for_neighbours() -> Result<()> {
    let config = "pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]";
    Cluster::builder("cncfdemo").nodes(2).config(config).run(|cluster| {
        let (near, far) = (cluster.node(0).add_pod("near")?, cluster.node(1).add_pod("far")?);
        let gateways = ["10.32.1.1", "fd00:32:0:1::1"].map(|text| text.parse::<IpAddr>().unwrap());
        let targets: Vec<IpAddr> = [far.addresses(), near.addresses(), gateways.to_vec()].concat();
        let lasting = [
            Capture::start(&far, "eth0")?,
            Capture::start(cluster.node(1), host_end(&far)?)?,
            Capture::start(&near, "eth0")?,
            Capture::start(cluster.node(0), DEVICE)?,
            Capture::start(cluster.node(1), DEVICE)?,
        ];
        for (count, target) in targets.into_iter().enumerate() {
            let pod = cluster.node(0).add_pod(&format!("pod{count}"))?;
            let captures = [Capture::start(&pod, "eth0")?, Capture::start(cluster.node(0), host_end(&pod)?)?];
            // One request, and it is answered.
            pod.ping(target, PATIENT).context("the first packet of a pod")?;
            let own = pod.addresses().into_iter().find(|own| own.is_ipv4() == target.is_ipv4());
            let own = own.context("an address of the target's family")?;
            // The other way it is the first packet as well, for the far side.
            Ping::to(own).send(cluster.node(1), PATIENT)?;
            for capture in captures.iter().chain(&lasting) {
                let asked = capture.frames().into_iter().find(asks_for_a_neighbour);
                ensure!(asked.is_none(), "on the way to {target}: {asked:?}");
            }
            ensure!(
                captures.iter().all(|capture| capture.frames().iter().any(|frame| frame.involves(target)))
            );
        }
        Ok(())
    })
}
