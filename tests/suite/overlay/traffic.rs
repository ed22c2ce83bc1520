//! What pods on different nodes say to each other, and how it travels.

use anyhow::{Result, bail, ensure};
use ipnetwork::IpNetwork;
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{Capture, Cluster, Frame, Transport};

use super::{PATIENT, POD_NETWORK, PORT, Server, everybody_reaches_everybody, ip, pod_per_node};

/// From one byte over the edges of the MTU of 1450 (less 28 of headers for a datagram, 40 for a
/// segment) to far beyond it.
const SIZES: [usize; 10] = [1, 100, 1410, 1411, 1422, 1423, 1472, 1473, 9_000, 200_000];

/// The largest payload of an IPv4 datagram: 65535 less 28 bytes of headers.
const LARGEST: usize = 65_507;

pub fn trials() -> Vec<Trial> {
    trials![
        the_seed_example_talks_in_vxlan_and_nothing_else,
        another_vni_and_port_are_used_when_they_are_configured,
        nodes_of_several_subnets_form_one_overlay,
    ]
}

fn the_seed_example_talks_in_vxlan_and_nothing_else() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).run(|cluster| {
        let nodes = [cluster.node(0), cluster.node(1)];
        ensure!(nodes.map(|node| node.address()) == [ip("172.20.0.1"), ip("172.20.0.2")]);
        let pods = pod_per_node(cluster)?;
        for (pod, block) in pods.iter().zip(["10.32.1.0/24", "10.32.2.0/24"]) {
            ensure!(
                block.parse::<IpNetwork>()?.contains(pod.address()),
                "{} has {}",
                pod.name(),
                pod.address()
            );
        }
        let captures = [Capture::start(nodes[0], "eth0")?, Capture::start(nodes[1], "eth0")?];
        for (from, to) in [(0, 1), (1, 0)] {
            let server = Server::start(&pods[to], pods[to].address())?;
            for bytes in SIZES {
                server.exchange(&pods[from], bytes.min(LARGEST), bytes)?;
            }
        }
        for capture in captures {
            let frames = capture.frames();
            frames.iter().try_for_each(|frame| is_proper(frame, 4097, PORT))?;
            for (from, to) in [("172.20.0.1", "172.20.0.2"), ("172.20.0.2", "172.20.0.1")] {
                for protocol in [1, 6, 17] {
                    let carried = |frame: &&Frame| {
                        let outer = frame.packet.as_ref().map(|packet| (packet.source, packet.destination));
                        let inner = frame.vxlan(PORT).and_then(|vxlan| vxlan.inner.packet);
                        let inner = inner.filter(|inner| !inner.fragment && inner.protocol == protocol);
                        outer == Some((ip(from), ip(to))) && inner.is_some()
                    };
                    let count = frames.iter().filter(carried).count();
                    // A request or a reply of every size that is no more than the MTU.
                    ensure!(count >= 5, "{count} whole packets of protocol {protocol} from {from}");
                }
            }
        }
        Ok(())
    })
}

/// Expects of a frame on the underlay that pods' packets are inside of VXLAN, and the VXLAN as it
/// must be between 172.20.0.1 and 172.20.0.2.
fn is_proper(frame: &Frame, vni: u32, port: u16) -> Result<()> {
    let pods: IpNetwork = POD_NETWORK.parse()?;
    let Some(packet) = &frame.packet else { return Ok(()) };
    for address in [packet.source, packet.destination] {
        ensure!(!pods.contains(address), "a pod's packet outside of the tunnel: {frame:?}");
    }
    ensure!(!packet.fragment, "the tunnel's packets are fragmented: {frame:?}");
    let Transport::Udp { destination, .. } = packet.transport else { return Ok(()) };
    if ![PORT, port].contains(&destination) {
        return Ok(());
    }
    ensure!(destination == port, "{frame:?}");
    let Some(vxlan) = frame.vxlan(port) else { bail!("no VXLAN packet: {frame:?}") };
    let inner = vxlan.inner.packet.as_ref();
    // The probe's to a peer that seems dead, as at the start of a busy machine: the same from every
    // plan, and to whoever hears it.
    if vxlan.inner.destination == [0xff; 6] && inner.is_some_and(|inner| inner.source.is_unspecified()) {
        ensure!(vxlan.vni == vni, "network {} instead of {vni}", vxlan.vni);
        return Ok(());
    }
    let pods_only =
        inner.is_some_and(|inner| pods.contains(inner.source) && pods.contains(inner.destination));
    ensure!(pods_only, "{vxlan:?}");
    if inner.is_some_and(|inner| inner.fragment) {
        // The far node puts a fragment's next headers before it where it lies (ip_do_fragment in
        // net/ipv4/ip_output.c), and all of this machine sees that, a capture included.
        return Ok(());
    }
    ensure!(vxlan.vni == vni, "network {} instead of {vni}", vxlan.vni);
    // The index of 172.20.0.1 in 172.20.0.0/24 is 1: the MAC is the prefix 0e:6d and the index.
    let mac = |node| match node {
        node if node == ip("172.20.0.1") => [0x0e, 0x6d, 0, 0, 0, 1],
        _ => [0x0e, 0x6d, 0, 0, 0, 2],
    };
    ensure!(vxlan.inner.source == mac(packet.source), "{vxlan:?}");
    ensure!(vxlan.inner.destination == mac(packet.destination), "{vxlan:?}");
    Ok(())
}

fn another_vni_and_port_are_used_when_they_are_configured() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").nodes(2);
    builder.config("vni = 16777215\nport = 8472").run(|cluster| {
        let capture = Capture::start(cluster.node(1), "eth0")?;
        let pods = pod_per_node(cluster)?;
        everybody_reaches_everybody(&pods)?;
        capture.wait_for("a packet of the tunnel", PATIENT, |frame| {
            frame.vxlan(8472).is_some_and(|vxlan| vxlan.inner.involves(pods[0].address()))
        })?;
        capture.frames().iter().try_for_each(|frame| is_proper(frame, 16_777_215, 8472))
    })
}

fn nodes_of_several_subnets_form_one_overlay() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").underlay("172.20.0.0/24").underlay("172.20.7.0/24").nodes(4);
    builder.config("node_networks = [\"172.20.0.0/24\", \"172.20.7.0/24\"]").run(|cluster| {
        let pods = pod_per_node(cluster)?;
        // The first node of the second subnet is number 256 + 1 of all.
        ensure!("10.33.1.0/24".parse::<IpNetwork>()?.contains(pods[1].address()), "{}", pods[1].address());
        everybody_reaches_everybody(&pods)
    })
}
