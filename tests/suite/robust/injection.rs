//! Packets that nobody of the cluster sent in good faith: none reaches a pod, and all are counted.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use libtest_mimic::Trial;
use minionet_core::addr::MacAddr;
use minionet_tests::{Need, trials};
use netns_testbed::traffic::Ping;
use netns_testbed::{Capture, Cluster, Frame, Namespace, Pod, eventually};

use super::counted;
use crate::overlay::{DEVICE, PATIENT, PORT, SILENCE, ip, pod_per_node};

/// The comments of the rules that drop.
const NOT_A_MEMBER: &str = "not a member";
/// The comment of the rule that counts and lets pass.
const OF_ANOTHER: &str = "of another network";
const PRETENDS: &str = "a pod that pretends to be a node";
const FORGED: &str = "not the pod's own address";

/// The network identifier where none is configured.
pub const VNI: u32 = 4097;
/// What each sender repeats.
const TIMES: u64 = 5;
/// The port of the pods that bad packets are for; nobody listens there.
const TARGET: u16 = 7777;
/// The MACs of the nodes' ends of the tunnel: a prefix and the number of the node.
pub const VTEPS: [[u8; 6]; 2] = [[0x0e, 0x6d, 0, 0, 0, 1], [0x0e, 0x6d, 0, 0, 0, 2]];
/// Pods of both families.
pub const CONFIG: &str = "pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]";

pub fn trials() -> Vec<Trial> {
    trials![
        only_members_get_vxlan_into_a_pod => [Need::Program("nft")],
        a_members_address_is_all_that_a_member_is_known_by,
        a_foreign_network_on_the_same_port_is_left_alone_and_kept_out => [Need::Program("nft")],
        a_pod_cannot_pretend_to_be_a_node => [Need::Program("nft")],
        a_pod_cannot_forge_its_address => [Need::Program("nft")],
        a_forged_hardware_address_ends_at_the_pods_own_link,
        the_same_over_an_ipv6_underlay => [Need::Program("nft")],
    ]
}

/// An Ethernet frame with a datagram to [`TARGET`].
fn datagram(macs: [[u8; 6]; 2], from: IpAddr, to: IpAddr, payload: &[u8]) -> Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2(macs[0], macs[1]);
    let packet = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
        _ => anyhow::bail!("{from} and {to} are of different families"),
    };
    let mut frame = Vec::new();
    packet.udp(TARGET, TARGET).write(&mut frame, payload)?;
    Ok(frame)
}

/// A frame in VXLAN: RFC 7348, section 5.
pub fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    [&[0x08, 0, 0, 0, a, b, c, 0], frame].concat()
}

/// Sends a datagram to the overlay's port of a host.
pub fn tunnel(from: &Namespace, to: IpAddr, payload: &[u8]) -> Result<()> {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = from.run(|| UdpSocket::bind((any, 0)))?.context("open a socket")?;
    socket.send_to(payload, SocketAddr::from((to, PORT))).with_context(|| format!("send to {to}"))?;
    Ok(())
}

/// The frame that a pod of node 1 could have sent to the pod of node 2 for which all are.
fn plausible(pods: &[Pod], payload: &[u8]) -> Result<Vec<u8>> {
    datagram(VTEPS, pods[0].address(), pods[1].address(), payload)
}

fn carries(frame: &Frame, payload: &[u8]) -> bool {
    frame.packet.as_ref().is_some_and(|packet| packet.payload == payload)
}

/// Expects that nothing with this payload reached a pod: what was sent after it has arrived.
fn nothing_arrived(capture: &Capture, from: &Pod, to: &Pod, payload: &[u8]) -> Result<()> {
    from.ping(to.address(), PATIENT)?;
    let bad = capture.frames().into_iter().find(|frame| carries(frame, payload));
    ensure!(bad.is_none(), "it arrived: {bad:?}");
    Ok(())
}

/// Waits until a rule of a node counted so many more packets than before; more are an error, but
/// for what the kernels of pods send by themselves from their link-local addresses.
fn expect_counted(node: &Namespace, comment: &str, before: u64, more: u64) -> Result<()> {
    eventually(&format!("{} to count {more} packets", node.name()), PATIENT, || {
        let found = counted(node, comment)? - before;
        let enough = if comment == FORGED { found >= more } else { found == more };
        ensure!(enough, "it counted {found} as \"{comment}\"");
        anyhow::Ok(())
    })?;
    Ok(())
}

fn only_members_get_vxlan_into_a_pod() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config(CONFIG).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        let capture = Capture::start(&pods[1], "eth0")?;
        let target = cluster.node(1);
        // That the packets are proper, and would be taken, shows when a member sends one.
        let good = plausible(&pods, b"from a member")?;
        tunnel(cluster.node(0), target.address(), &vxlan(VNI, &good))?;
        capture.wait_for("a member's packet", PATIENT, |frame| carries(frame, b"from a member"))?;

        let bad = plausible(&pods, b"from a stranger")?;
        // More than one packet of the underlay holds: it comes in fragments.
        let large = plausible(&pods, &[b'x'; 3_000])?;
        for stranger in [cluster.dns_host(), cluster.router(), cluster.external()] {
            let before = counted(target, NOT_A_MEMBER)?;
            for _ in 0..TIMES {
                tunnel(stranger, target.address(), &vxlan(VNI, &bad))?;
                tunnel(stranger, target.address(), &vxlan(VNI, &large))?;
            }
            expect_counted(target, NOT_A_MEMBER, before, 2 * TIMES)?;
            nothing_arrived(&capture, &pods[0], &pods[1], b"from a stranger")?;
            nothing_arrived(&capture, &pods[0], &pods[1], &[b'x'; 3_000])?;
        }

        // Who is no member any more is a stranger, and who joins is none.
        cluster.dns().add(&cluster.dns_name(), &cluster.dns_host().addresses())?;
        eventually("a new member to be heard", PATIENT, || {
            tunnel(cluster.dns_host(), target.address(), &vxlan(VNI, &plausible(&pods, b"joined")?))?;
            pods[0].ping(pods[1].address(), PATIENT)?;
            ensure!(capture.frames().iter().any(|frame| carries(frame, b"joined")), "it is not heard");
            anyhow::Ok(())
        })?;
        Ok(())
    })
}

/// What the design cannot keep out, so that nobody believes that it does.
fn a_members_address_is_all_that_a_member_is_known_by() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        let capture = Capture::start(&pods[1], "eth0")?;
        let (stranger, target) = (cluster.dns_host(), cluster.node(1));
        let shown = target.json(["ip", "-j", "link", "show", "eth0"])?;
        let mac: MacAddr = shown[0]["address"].as_str().context("a hardware address")?.parse()?;
        let inner = vxlan(VNI, &plausible(&pods, b"in a member's name")?);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0x66], mac.0)
            .ipv4([172, 20, 0, 1], [172, 20, 0, 2], 64)
            .udp(50_000, PORT)
            .write(&mut frame, &inner)?;
        stranger.send_frame("eth0", &frame)?;
        capture.wait_for("the packet", PATIENT, |frame| carries(frame, b"in a member's name"))?;
        Ok(())
    })
}

fn a_foreign_network_on_the_same_port_is_left_alone_and_kept_out() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config(CONFIG).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        let capture = Capture::start(&pods[1], "eth0")?;
        let (node, target) = (cluster.node(0), cluster.node(1));
        let before = counted(target, NOT_A_MEMBER)?;
        pods[0].ping(pods[1].address(), PATIENT)?;
        ensure!(counted(target, OF_ANOTHER)? == 0, "packets of our own were counted");
        let foreign = plausible(&pods, b"of another network")?;
        // From a member and from a stranger.
        for (sent, from) in (1..).zip([&**node, cluster.dns_host()]) {
            for vni in [0, 1, VNI - 1, VNI + 1, 0x00ff_ffff] {
                tunnel(from, target.address(), &vxlan(vni, &foreign))?;
            }
            expect_counted(target, OF_ANOTHER, 0, sent * 5)?;
        }
        // A header without the flag that says that the identifier is valid.
        let mut invalid = vxlan(VNI, &foreign);
        invalid[0] = 0;
        tunnel(node, target.address(), &invalid)?;
        tunnel(node, target.address(), b"short")?;
        nothing_arrived(&capture, &pods[0], &pods[1], b"of another network")?;

        // Another tunnel on the same port, to a host that is no member.
        let other = cluster.dns_host();
        let remote = other.addresses()[0];
        for (host, own, far) in [(target.host(), 1, remote), (other, 2, target.address())] {
            host.ip(&format!(
                "link add other type vxlan id 77 dstport {PORT} local {} remote {far}\n\
                 addr add 192.0.2.{own}/24 dev other\nlink set other up",
                host.addresses()[0],
            ))?;
        }
        eventually("the other tunnel to carry", PATIENT, || Ping::to(ip("192.0.2.1")).send(other, SILENCE))?;
        ensure!(counted(target, OF_ANOTHER)? > 10, "it was not counted");
        ensure!(counted(target, NOT_A_MEMBER)? == before, "packets of others were dropped");
        pods[0].ping(pods[1].address(), PATIENT)?;
        Ok(())
    })
}

fn a_pod_cannot_pretend_to_be_a_node() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config(CONFIG).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        let (node, far) = (cluster.node(0), cluster.node(1));
        let near = node.add_pod("near")?;
        let captures = [Capture::start(&pods[1], "eth0")?, Capture::start(&near, "eth0")?];
        let to_far = plausible(&pods, b"by a pod")?;
        let to_near = datagram([VTEPS[1], VTEPS[0]], pods[1].address(), near.address(), b"by a pod")?;
        let large = plausible(&pods, &[b'x'; 3_000])?;
        // Its own node by every address, and another one.
        let ways: [(&str, &[u8]); 6] = [
            ("172.20.0.1", &to_near),
            ("10.32.1.1", &to_near),
            ("fd00:32:0:1::1", &to_near),
            ("172.20.0.2", &to_far),
            ("10.32.2.1", &to_far),
            ("172.20.0.2", &large),
        ];
        let before = counted(node, PRETENDS)?;
        for (sent, (address, frame)) in (1..).zip(ways) {
            for _ in 0..TIMES {
                tunnel(&pods[0], ip(address), &vxlan(VNI, frame))?;
            }
            expect_counted(node, PRETENDS, before, sent * TIMES).context(address)?;
        }
        ensure!(counted(far, NOT_A_MEMBER)? == 0, "something of it came to the other node");
        for (capture, to) in captures.iter().zip([&pods[1], &near]) {
            nothing_arrived(capture, &pods[0], to, b"by a pod")?;
            nothing_arrived(capture, &pods[0], to, &[b'x'; 3_000])?;
        }
        // With an identifier of its own a pod may use VXLAN: what it says is between the two.
        tunnel(&pods[0], pods[1].address(), &vxlan(99, &to_far))?;
        captures[0].wait_for("the pod's own tunnel", PATIENT, |frame| {
            frame.vxlan(PORT).is_some_and(|vxlan| vxlan.vni == 99)
        })?;
        Ok(())
    })
}

/// Strangers and pods that send VXLAN over IPv6.
fn the_same_over_an_ipv6_underlay() -> Result<()> {
    let config = format!("{CONFIG}\nnode_networks = [\"fd00:20::/117\"]");
    Cluster::builder("cncfdemo").nodes(2).underlay("fd00:20::/64").config(&config).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        let (node, target) = (cluster.node(0), cluster.node(1));
        let capture = Capture::start(&pods[1], "eth0")?;
        let good = plausible(&pods, b"from a member")?;
        tunnel(node, target.address(), &vxlan(VNI, &good))?;
        capture.wait_for("a member's packet", PATIENT, |frame| carries(frame, b"from a member"))?;
        let bad = plausible(&pods, b"from a stranger")?;
        let large = plausible(&pods, &[b'x'; 3_000])?;
        let before = counted(target, NOT_A_MEMBER)?;
        for _ in 0..TIMES {
            tunnel(cluster.dns_host(), target.address(), &vxlan(VNI, &bad))?;
            tunnel(cluster.dns_host(), target.address(), &vxlan(VNI, &large))?;
        }
        expect_counted(target, NOT_A_MEMBER, before, 2 * TIMES)?;
        tunnel(node, target.address(), &vxlan(VNI + 1, &good))?;
        expect_counted(target, OF_ANOTHER, 0, 1)?;
        let before = counted(node, PRETENDS)?;
        let ways =
            [node.address(), target.address(), ip("fd00:32:0:1::1"), ip("fd00:32:0:2::1"), ip("10.32.1.1")];
        for (sent, address) in (1..).zip(ways) {
            for _ in 0..TIMES {
                tunnel(&pods[0], address, &vxlan(VNI, &bad))?;
            }
            expect_counted(node, PRETENDS, before, sent * TIMES).context(address)?;
        }
        nothing_arrived(&capture, &pods[0], &pods[1], b"from a stranger")
    })
}

/// The hardware addresses of a pod's interface and of the host's end of its link.
fn link_macs(pod: &Pod) -> Result<[[u8; 6]; 2]> {
    let interfaces = pod.result()["interfaces"].as_array().context("interfaces in the result")?;
    let mac = |inside: bool| {
        let interface = interfaces.iter().find(|interface| interface.get("sandbox").is_some() == inside);
        let text = interface.and_then(|interface| interface["mac"].as_str()).context("a hardware address")?;
        anyhow::Ok(text.parse::<MacAddr>().map_err(anyhow::Error::from)?.0)
    };
    Ok([mac(true)?, mac(false)?])
}

fn a_pod_cannot_forge_its_address() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config(CONFIG).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        let node = cluster.node(0);
        let near = node.add_pod("near")?;
        let (liar, macs) = (&pods[0], link_macs(&pods[0])?);
        let of = |pod: &Pod, v4: bool| {
            pod.addresses().into_iter().find(|address| address.is_ipv4() == v4).context("an address")
        };
        // Its own address passes: the packets are proper.
        let captures = [Capture::start(&pods[1], "eth0")?, Capture::start(&near, "eth0")?];
        for v4 in [true, false] {
            let frame = datagram(macs, of(liar, v4)?, of(&pods[1], v4)?, b"in its own name")?;
            liar.send_frame("eth0", &frame)?;
            captures[0].wait_for("a pod's own packet", PATIENT, |frame| {
                carries(frame, b"in its own name")
                    && frame.packet.as_ref().is_some_and(|p| p.source.is_ipv4() == v4)
            })?;
        }
        // A neighbour, somebody else's pods, the node, its gateway, another node, a stranger,
        // nobody, oneself in the wrong way.
        let forged = [
            of(&near, true)?,
            ip("10.32.1.250"),
            of(&pods[1], true)?,
            ip("172.20.0.1"),
            ip("10.32.1.1"),
            ip("172.20.0.2"),
            ip("198.51.100.1"),
            ip("192.0.2.66"),
            ip("0.0.0.0"),
            ip("127.0.0.1"),
            of(&near, false)?,
            ip("fd00:32:0:1::fa"),
            of(&pods[1], false)?,
            ip("fd00:32:0:1::1"),
            ip("2001:db8::66"),
            ip("fe80::66"),
            ip("::"),
        ];
        let before = counted(node, FORGED)?;
        for (sent, source) in (1..).zip(forged) {
            for (capture, target) in captures.iter().zip([&pods[1], &near]) {
                let frame = datagram(macs, source, of(target, source.is_ipv4())?, b"in another's name")?;
                for _ in 0..TIMES {
                    liar.send_frame("eth0", &frame)?;
                }
                nothing_arrived(capture, liar, target, b"in another's name")?;
            }
            expect_counted(node, FORGED, before, sent * 2 * TIMES).with_context(|| source.to_string())?;
        }
        Ok(())
    })
}

/// There is no layer 2 between pods: the node routes, and sends on with its own address. So a
/// forged one is as good as none, and the node takes none from packets that are not about it.
fn a_forged_hardware_address_ends_at_the_pods_own_link() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        let (node, macs) = (cluster.node(0), link_macs(&pods[0])?);
        let neighbours = || Ok::<_, anyhow::Error>(node.exec(["ip", "neigh", "show", "proto", "110"])?);
        let before = neighbours()?;
        let capture = Capture::start(cluster.node(1), DEVICE)?;
        for forged in [[2, 0, 0, 0, 0, 0x66], VTEPS[1], macs[1]] {
            let frame = datagram([forged, macs[1]], pods[0].address(), pods[1].address(), &forged)?;
            pods[0].send_frame("eth0", &frame)?;
            let seen = capture.wait_for("the packet", PATIENT, |frame| carries(frame, &forged))?;
            ensure!(seen.source == VTEPS[0] && seen.destination == VTEPS[1], "{seen:?}");
        }
        ensure!(
            !before.is_empty() && neighbours()? == before,
            "the node learned from the pod: {}",
            neighbours()?
        );
        pods[1].ping(pods[0].address(), PATIENT)?;
        Ok(())
    })
}
