//! Packets to pods that nobody owns: refused at once, and never on the underlay in a pod's name.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{Capture, Cluster, Pod, eventually};

use super::LONG;
use crate::overlay::{DEVICE, PATIENT, everybody_reaches_everybody, ip, pod_per_node};

/// Pods of both families; answers of DNS count at once.
const CONFIG: &str = "pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]\nrefresh_min = \"100ms\"\n\
                      refresh_max = \"200ms\"\nmissing_answers = 1\nhold_down = \"0s\"\n";

pub fn trials() -> Vec<Trial> {
    trials![a_pod_is_refused_what_no_node_owns, a_foreign_route_for_all_pods_comes_before_ours]
}

/// How a pod fails to connect.
fn failure(pod: &Pod, to: IpAddr) -> Result<ErrorKind> {
    let connect = || TcpStream::connect_timeout(&SocketAddr::new(to, 80), PATIENT);
    match pod.run(connect)? {
        Ok(_) => anyhow::bail!("{to} answers"),
        Err(error) => Ok(error.kind()),
    }
}

fn refused(pod: &Pod, to: IpAddr) -> Result<()> {
    let kind = failure(pod, to)?;
    // IPv6 says of such a route that there is none (ICMPv6 type 1, code 0).
    let expected = if to.is_ipv4() { ErrorKind::HostUnreachable } else { ErrorKind::NetworkUnreachable };
    ensure!(kind == expected, "{} to {to}: {kind}", pod.name());
    Ok(())
}

fn a_pod_is_refused_what_no_node_owns() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(3).config(CONFIG).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        everybody_reaches_everybody(&pods)?;
        let wires = [Capture::start(node, "eth0")?, Capture::start(node, DEVICE)?];
        let gone = pods[2].addresses();
        cluster.leave(2)?;
        eventually("the peer to be gone", LONG, || {
            for (family, block) in [("-4", "10.32.3.0/24"), ("-6", "fd00:32:0:3::/64")] {
                let routes = node.exec(["ip", family, "route", "show", block])?;
                ensure!(routes.is_empty(), "{routes}");
            }
            anyhow::Ok(())
        })?;
        let before: Vec<usize> = wires.iter().map(|wire| wire.frames().len()).collect();
        // A block of no node, an address of no pod in the node's own block, a peer that left.
        let mut nobody = ["10.32.77.5", "fd00:32:0:4d::5", "10.32.1.200", "fd00:32:0:1::c8"].map(ip).to_vec();
        nobody.extend(gone);
        for to in &nobody {
            refused(&pods[0], *to)?;
        }
        // What was sent after them has arrived.
        pods[0].ping(pods[1].address(), PATIENT)?;
        for (wire, before) in wires.iter().zip(before) {
            for frame in wire.frames().iter().skip(before) {
                ensure!(!nobody.iter().any(|to| frame.involves(*to)), "{frame:?}");
            }
        }
        // What can be nobody's pod leaves as it always did: service addresses may lie there.
        for (to, way) in [("10.47.0.1", "via 172.20.0.254"), ("198.51.100.1", "via 172.20.0.254")] {
            let route = node.exec(["ip", "route", "get", to])?;
            ensure!(route.contains(way), "{route}");
        }
        pods[0].ping(ip("198.51.100.1"), PATIENT)?;
        Ok(())
    })
}

fn a_foreign_route_for_all_pods_comes_before_ours() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config("audit_interval = \"1s\"").run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        let wire = Capture::start(node, "eth0")?;
        refused(&pods[0], ip("10.32.77.5"))?;
        let foreign = "10.32.0.0/16 via 172.20.0.254 dev eth0";
        node.ip(&format!("route add {foreign}"))?;
        // It is somebody's decision where those packets go, and peers are not concerned.
        let asked = pods[0].ping(ip("10.32.77.5"), PATIENT / 40);
        ensure!(asked.is_err(), "somebody answers");
        wire.wait_for("a packet by the foreign route", PATIENT, |frame| frame.involves(ip("10.32.77.5")))?;
        everybody_reaches_everybody(&pods)?;
        // Both stay, through a repair of ours.
        node.ip("route del unreachable 10.32.0.0/16 proto 109")?;
        eventually("our route behind theirs", LONG, || {
            let routes = node.exec(["ip", "route", "show", "10.32.0.0/16"])?;
            let lines: Vec<&str> = routes.lines().map(str::trim_end).collect();
            ensure!(
                lines.len() == 2 && lines[0] == foreign && lines[1].starts_with("unreachable"),
                "{routes}"
            );
            anyhow::Ok(())
        })?;
        ensure!(!node.log()?.contains("ERROR"), "{}", node.log()?);
        node.ip(&format!("route del {foreign}"))?;
        refused(&pods[0], ip("10.32.77.5"))
    })
}
