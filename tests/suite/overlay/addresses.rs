//! Addresses, routes and MTU of pods, for all combinations of families: what ADD reports, what the
//! node's facts say and what the kernel holds are the same.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use ipnetwork::IpNetwork;
use libtest_mimic::Trial;
use minionet_core::handoff::NodeFacts;
use minionet_tests::trials;
use netns_testbed::traffic::Ping;
use netns_testbed::{Capture, Cluster, ClusterBuilder, Namespace, Node, Pod};
use serde_json::Value;

use super::{
    DEVICE, PATIENT, PORT, SILENCE, Server, everybody_reaches_everybody, host_end, ip, pod_per_node,
};

pub fn trials() -> Vec<Trial> {
    trials![
        ipv4_pods_over_ipv4,
        ipv4_pods_over_jumbo_frames,
        ipv4_pods_over_a_narrow_underlay,
        dual_stack_pods_over_ipv4,
        ipv6_pods_over_ipv4,
        ipv4_pods_over_ipv6,
        dual_stack_pods_over_ipv6,
        ipv6_pods_over_ipv6,
    ]
}

/// The blocks of the first node of 172.20.0.0/24 and of fd00:20::/116 with these pod networks.
const V4: (&str, &str) = ("10.32.0.0/12", "10.32.1.0/24");
const V6: (&str, &str) = ("fd00:32::/48", "fd00:32:0:1::/64");

/// A cluster with pods of some families.
fn pods_in(networks: &[(&str, &str)]) -> ClusterBuilder {
    let networks: Vec<&str> = networks.iter().map(|(network, _)| *network).collect();
    Cluster::builder("cncfdemo").nodes(2).config(&format!("pod_network = {networks:?}"))
}

fn over_ipv6(builder: ClusterBuilder) -> ClusterBuilder {
    builder.underlay("fd00:20::/64").config("node_networks = [\"fd00:20::/116\"]")
}

fn ipv4_pods_over_ipv4() -> Result<()> {
    agree(pods_in(&[V4]), &[V4], 1450)
}

fn ipv4_pods_over_jumbo_frames() -> Result<()> {
    agree(pods_in(&[V4]).mtu(9000), &[V4], 8950)
}

fn ipv4_pods_over_a_narrow_underlay() -> Result<()> {
    agree(pods_in(&[V4]).mtu(1400), &[V4], 1350)
}

fn dual_stack_pods_over_ipv4() -> Result<()> {
    agree(pods_in(&[V4, V6]), &[V4, V6], 1450)
}

fn ipv6_pods_over_ipv4() -> Result<()> {
    agree(pods_in(&[V6]), &[V6], 1450)
}

fn ipv4_pods_over_ipv6() -> Result<()> {
    agree(over_ipv6(pods_in(&[V4])), &[V4], 1430)
}

fn dual_stack_pods_over_ipv6() -> Result<()> {
    agree(over_ipv6(pods_in(&[V4, V6])), &[V4, V6], 1430)
}

fn ipv6_pods_over_ipv6() -> Result<()> {
    agree(over_ipv6(pods_in(&[V6])), &[V6], 1430)
}

/// Expects that everything about a pod of the first node agrees, and that the pods talk.
fn agree(builder: ClusterBuilder, families: &[(&str, &str)], mtu: u64) -> Result<()> {
    builder.run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        let pod = &pods[0];
        let blocks: Vec<IpNetwork> =
            families.iter().map(|(_, block)| block.parse()).collect::<Result<_, _>>()?;
        ensure!(pod.networks().len() == blocks.len(), "{}", pod.result());
        for (network, block) in pod.networks().iter().zip(&blocks) {
            ensure!(block.contains(network.ip()) && network.ip() != gateway(block), "{network} of {block}");
            ensure!(network.prefix() == if network.is_ipv4() { 32 } else { 128 }, "{network}");
        }
        facts_agree(node, &blocks, mtu)?;
        device_agrees(node, &blocks, mtu)?;
        pod_agrees(pod, &blocks, mtu)?;
        node_agrees(node, pod, mtu)?;
        packets_agree(cluster, &pods, usize::try_from(mtu)?)
    })
}

/// The first address of a block.
fn gateway(block: &IpNetwork) -> IpAddr {
    block.iter().nth(1).unwrap()
}

fn facts_agree(node: &Node, blocks: &[IpNetwork], mtu: u64) -> Result<()> {
    for file in ["/run/minionet/node.json", "/var/lib/minionet/node.json"] {
        let facts = NodeFacts::parse(&node.read(file)?)?;
        ensure!(facts.node == node.address() && u64::from(facts.mtu) == mtu, "{facts:?}");
        let found: Vec<(IpNetwork, IpAddr)> =
            facts.blocks.iter().map(|block| (block.cidr.into(), block.gateway)).collect();
        ensure!(found.iter().copied().eq(blocks.iter().map(|block| (*block, gateway(block)))), "{facts:?}");
    }
    Ok(())
}

fn device_agrees(node: &Node, blocks: &[IpNetwork], mtu: u64) -> Result<()> {
    let device = link(node, DEVICE)?;
    ensure!(device["mtu"] == mtu, "{device}");
    ensure!(
        global_addresses(&device)? == blocks.iter().map(|block| host(gateway(block))).collect(),
        "{device}"
    );
    let vxlan = &device["linkinfo"]["info_data"];
    let local = if node.address().is_ipv4() { &vxlan["local"] } else { &vxlan["local6"] };
    ensure!(*local == node.address().to_string() && vxlan["id"] == 4097 && vxlan["port"] == PORT, "{device}");
    ensure!(vxlan["learning"] == false && vxlan.get("link").is_none(), "{device}");
    Ok(())
}

/// What is in the pod's namespace.
fn pod_agrees(pod: &Pod, blocks: &[IpNetwork], mtu: u64) -> Result<()> {
    let interfaces = pod.result()["interfaces"].as_array().context("interfaces")?;
    let inside =
        interfaces.iter().position(|interface| interface.get("sandbox").is_some()).context("eth0")?;
    let (reported, link) = (&interfaces[inside], link(pod, "eth0")?);
    ensure!(reported["name"] == "eth0" && reported["sandbox"] == pod.attachment().netns, "{reported}");
    ensure!(reported["mac"] == link["address"] && link["mtu"] == mtu, "{reported} and {link}");
    // Reported since CNI 1.1.0.
    ensure!(reported["mtu"] == mtu, "{reported}");
    ensure!(global_addresses(&link)? == pod.networks().into_iter().collect(), "{link}");

    let ips = pod.result()["ips"].as_array().context("ips")?;
    for (reported, block) in ips.iter().zip(blocks) {
        let gateway = gateway(block).to_string();
        ensure!(reported["interface"] == inside && reported["gateway"] == gateway, "{reported}");
        let (family, everything) = if block.is_ipv4() { ("-4", "0.0.0.0/0") } else { ("-6", "::/0") };
        let routes = pod.json(["ip", "-j", family, "route", "show", "default"])?;
        let only = routes.as_array().filter(|routes| routes.len() == 1).context("one default route")?;
        ensure!(only[0]["gateway"] == gateway && only[0]["dev"] == "eth0", "{routes}");
        let told = pod.result()["routes"].as_array().context("routes")?;
        let told = told.iter().any(|route| route["dst"] == everything && route["gw"] == gateway);
        ensure!(told, "{}", pod.result());
    }
    Ok(())
}

/// What is on the host for the pod.
fn node_agrees(node: &Node, pod: &Pod, mtu: u64) -> Result<()> {
    let name = host_end(pod)?;
    let link = link(node, name)?;
    ensure!(link["mtu"] == mtu, "{link}");
    let interfaces = pod.result()["interfaces"].as_array().context("interfaces")?;
    let reported = interfaces.iter().find(|interface| interface["name"] == name).context("the host's end")?;
    ensure!(reported["mac"] == link["address"], "{reported} and {link}");
    for address in pod.addresses() {
        let target = address.to_string();
        let route = node.json(["ip", "-j", "route", "get", &target])?;
        ensure!(route[0]["dev"] == name, "{route}");
    }
    Ok(())
}

/// What can be sent: a packet as large as the MTU and no larger, over the right underlay.
fn packets_agree(cluster: &Cluster, pods: &[Pod], mtu: usize) -> Result<()> {
    everybody_reaches_everybody(pods)?;
    let capture = Capture::start(cluster.node(1), "eth0")?;
    for address in pods[1].addresses() {
        // Headers of IP (20 or 40) and ICMP (8).
        let largest = mtu - if address.is_ipv4() { 28 } else { 48 };
        let ping = Ping::to(address).dont_fragment();
        ping.clone().payload(largest).send(&pods[0], PATIENT)?;
        ensure!(ping.payload(largest + 1).send(&pods[0], SILENCE).is_err(), "more than the MTU passed");
        Server::start(&pods[1], address)?.exchange(&pods[0], 20_000, 200_000)?;
    }
    let underlay = (cluster.node(0).address(), cluster.node(1).address());
    capture.wait_for("the tunnel between the nodes", PATIENT, |frame| {
        let outer = frame.packet.as_ref().map(|packet| (packet.source, packet.destination));
        frame.vxlan(PORT).is_some() && outer == Some(underlay)
    })?;
    let fragment =
        |frame: &&netns_testbed::Frame| frame.packet.as_ref().is_some_and(|packet| packet.fragment);
    let frames = capture.frames();
    ensure!(!frames.iter().any(|frame| fragment(&frame)), "the tunnel's packets do not fit the underlay");
    let largest = frames.iter().map(|frame| frame.length).max().unwrap_or(0);
    // 14 bytes of Ethernet, and what VXLAN adds to the MTU of the overlay.
    let overhead = if underlay.0.is_ipv4() { 50 } else { 70 };
    ensure!(largest == 14 + mtu + overhead, "the largest frame has {largest} bytes");
    ensure!(frames.iter().all(|frame| pods.iter().all(|pod| !frame.involves(pod.address()))));
    Ok(())
}

fn link(place: &Namespace, name: &str) -> Result<Value> {
    let mut shown = place.json(["ip", "-j", "-d", "addr", "show", "dev", name])?;
    Ok(shown[0].take())
}

fn host(address: IpAddr) -> IpNetwork {
    address.into()
}

/// The addresses of a link that are no link-local ones.
fn global_addresses(link: &Value) -> Result<BTreeSet<IpNetwork>> {
    let addresses = link["addr_info"].as_array().context("addresses")?;
    let global = addresses.iter().filter(|address| address["scope"] == "global");
    global
        .map(|address| {
            let prefix = u8::try_from(address["prefixlen"].as_u64().context("a prefix length")?)?;
            Ok(IpNetwork::new(ip(address["local"].as_str().context("an address")?), prefix)?)
        })
        .collect()
}
