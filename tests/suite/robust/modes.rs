//! Neighbours on the underlay are reached without encapsulation if that is asked for, also by a
//! change while packets flow.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::traffic::Ping;
use netns_testbed::{Capture, Cluster, Frame, Node, Pod, eventually};
use nix::sys::signal::Signal;

use super::{LONG, Traffic, print, wait_for_answer};
use crate::overlay::{DEVICE, PATIENT, PORT, everybody_reaches_everybody, pod_per_node};

/// Datagrams a second, from each of the nodes' pods.
const RATE: u32 = 1_000;
/// Two IPv4 subnets.
const SUBNETS: [&str; 2] = ["172.20.0.0/24", "172.20.7.0/24"];

pub fn trials() -> Vec<Trial> {
    trials![
        cross_subnet_encapsulates_between_subnets_only,
        cross_subnet_over_an_ipv6_underlay,
        never_encapsulates_nothing,
        modes_are_changed_at_run_time,
    ]
}

/// How a packet between two pods travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    Encapsulated,
}

/// Sends a packet from a pod to another and back, and looks at the wire at the first one's node.
fn expect_way(node: &Node, from: &Pod, to: &Pod, v4: bool, expected: Way) -> Result<()> {
    let of = |pod: &Pod| {
        let address = pod.addresses().into_iter().find(|address| address.is_ipv4() == v4);
        address.with_context(|| format!("no address of the family of {}", pod.name()))
    };
    let ends = (of(from)?, of(to)?);
    let capture = Capture::start(node, "eth0")?;
    Ping::to(ends.1).send(from, PATIENT)?;
    for (source, destination) in [ends, (ends.1, ends.0)] {
        let is = |frame: &Frame| is_between(frame, source, destination);
        let inside = |frame: &Frame| frame.vxlan(PORT).is_some_and(|vxlan| is(&vxlan.inner));
        let way = |frame: &Frame| match (is(frame), inside(frame)) {
            (true, _) => Some(Way::Direct),
            (_, true) => Some(Way::Encapsulated),
            _ => None,
        };
        let what = format!("a packet from {source} to {destination}");
        let seen = capture.wait_for(&what, PATIENT, |frame| way(frame).is_some())?;
        ensure!(way(&seen) == Some(expected), "{what}: {expected:?} expected, seen {seen:?}");
    }
    Ok(())
}

fn is_between(frame: &Frame, source: IpAddr, destination: IpAddr) -> bool {
    frame.packet.as_ref().is_some_and(|packet| (packet.source, packet.destination) == (source, destination))
}

/// Nodes 1 and 3 are in the first subnet, 2 and 4 in the second.
fn two_subnets(cluster: &Cluster, pods: &[Pod], v4: bool, direct: Way) -> Result<()> {
    // The router between the subnets has to ask for the nodes first.
    for from in pods {
        for address in pods.iter().flat_map(Pod::addresses) {
            wait_for_answer(from, address)?;
        }
    }
    for (from, to) in [(0, 2), (1, 3), (2, 0), (0, 1), (0, 3), (1, 2), (3, 0)] {
        let expected = if from % 2 == to % 2 { direct } else { Way::Encapsulated };
        expect_way(cluster.node(from), &pods[from], &pods[to], v4, expected)
            .with_context(|| format!("from node {} to node {}", from + 1, to + 1))?;
    }
    Ok(())
}

fn cross_subnet_encapsulates_between_subnets_only() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").underlay(SUBNETS[0]).underlay(SUBNETS[1]).nodes(4);
    let config = format!(
        "node_networks = {SUBNETS:?}\nencapsulation = \"cross-subnet\"\n\
         pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]"
    );
    builder.config(&config).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        two_subnets(cluster, &pods, true, Way::Direct)?;
        // An IPv6 route has no IPv4 next hop: over this underlay IPv6 is always encapsulated.
        two_subnets(cluster, &pods, false, Way::Encapsulated)
    })
}

fn cross_subnet_over_an_ipv6_underlay() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").underlay("fd00:20::/64").underlay("fd00:27::/64").nodes(4);
    let config = "node_networks = [\"fd00:20::/117\", \"fd00:27::/117\"]\nencapsulation = \"cross-subnet\"\n\
                  pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]";
    builder.config(config).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        two_subnets(cluster, &pods, false, Way::Direct)?;
        two_subnets(cluster, &pods, true, Way::Encapsulated)
    })
}

fn never_encapsulates_nothing() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(3).config("encapsulation = \"never\"").run(|cluster| {
        let capture = Capture::start(cluster.node(0), "eth0")?;
        let pods = pod_per_node(cluster)?;
        everybody_reaches_everybody(&pods)?;
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            expect_way(cluster.node(from), &pods[from], &pods[to], true, Way::Direct)?;
        }
        let tunnelled = capture.frames().into_iter().find(|frame| frame.vxlan(PORT).is_some());
        ensure!(tunnelled.is_none(), "{tunnelled:?}");
        Ok(())
    })
}

/// Node after node takes over a mode, while packets flow between all.
fn change(cluster: &Cluster, pods: &[Pod], mode: &str, way: Way) -> Result<(u32, usize)> {
    let traffic = Traffic::circle(pods, RATE)?;
    traffic.go_on(50)?;
    for node in cluster.nodes() {
        let config = format!("encapsulation = \"{mode}\"\n");
        node.write("/etc/minionet/minionet.toml", config)?;
        node.signal_daemon(Signal::SIGHUP)?;
        let device = if way == Way::Direct { "eth0" } else { "minionet" };
        eventually(&format!("{} to be in the mode {mode}", node.name()), LONG, || {
            let routes = node.exec(["ip", "-4", "route", "show", "proto", "109"])?;
            let leading: Vec<&str> =
                routes.lines().filter(|route| !route.starts_with("unreachable")).collect();
            ensure!(leading.len() == pods.len() - 1, "{routes}");
            ensure!(leading.iter().all(|route| route.contains(&format!("dev {device}"))), "{routes}");
            // What the underlay's routers know leaves by the default route.
            ensure!(routes.contains("unreachable") == (mode != "never"), "{routes}");
            anyhow::Ok(())
        })?;
    }
    let ended = traffic.end();
    for (index, from) in pods.iter().enumerate() {
        expect_way(cluster.node(index), from, &pods[(index + 1) % pods.len()], true, way)?;
    }
    Ok(ended)
}

/// Also where the kernel's filter of sources is strict, as on many hosts, for all interfaces and for
/// each: a node takes what comes in both ways, whichever its own mode sends by.
fn modes_are_changed_at_run_time() -> Result<()> {
    for filter in ["1", "0"] {
        Cluster::builder("cncfdemo").nodes(3).config("encapsulation = \"always\"").run(|cluster| {
            for node in cluster.nodes() {
                let names = ["all", "default", "eth0", DEVICE];
                let names = names.map(|name| format!("net.ipv4.conf.{name}.rp_filter"));
                node.sysctl(names.iter().map(|name| (name.as_str(), filter)))?;
            }
            let pods = pod_per_node(cluster)?;
            everybody_reaches_everybody(&pods)?;
            for node in cluster.nodes() {
                // It is noticed, and only where it has to be changed.
                let expected = if filter == "1" { "2" } else { "0" };
                eventually(&format!("the filter of {}", node.name()), LONG, || {
                    for name in ["eth0", DEVICE] {
                        let found = node.read(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"))?;
                        ensure!(found.trim() == expected, "that of {name} is {found}");
                    }
                    anyhow::Ok(())
                })?;
            }
            let modes = [
                ("cross-subnet", Way::Direct),
                ("always", Way::Encapsulated),
                ("never", Way::Direct),
                ("cross-subnet", Way::Direct),
                ("always", Way::Encapsulated),
            ];
            for (mode, way) in modes {
                let (sent, lost) = change(cluster, &pods, mode, way).with_context(|| mode.to_owned())?;
                print(&format!("modes: to {mode} with rp_filter {filter}: {lost} of {sent} datagrams lost"));
                ensure!(lost == 0, "{lost} of {sent} datagrams were lost on the way to {mode}");
            }
            everybody_reaches_everybody(&pods)
        })?;
    }
    Ok(())
}
