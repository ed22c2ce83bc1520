//! What pods can do with the probe: nothing.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_core::probe::view::{PeerProbe, ProbeView};
use minionet_core::probe::{About, HEADER, Kind, Message};
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Pod, eventually};

use super::{PATIENT, cluster, opinion, results, wait};

pub fn trials() -> Vec<Trial> {
    trials![
        a_pod_gets_no_answer,
        a_pod_cannot_speak_for_a_vtep => [Need::Program("nft")],
    ]
}

/// What would make a difference if it were believed: another plan, in a request.
fn forged(node: IpAddr) -> Vec<u8> {
    let about = About { node, plan: 0xbad, mtu: 1, boot: [0xbb; 16], version: "forged".into() };
    Message { kind: Kind::Request, size: HEADER as u16, sequence: 1, token: 1, hears: false, about }.encode()
}

/// Sends a forged request from an address that the pod has; the socket waits for an answer.
fn send(pod: &Pod, from: IpAddr, to: SocketAddr, payload: &[u8]) -> Result<UdpSocket> {
    let socket = pod.run(|| -> std::io::Result<UdpSocket> {
        let socket = UdpSocket::bind((from, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        socket.send_to(payload, to)?;
        Ok(socket)
    })??;
    Ok(socket)
}

fn is_forged(peer: &PeerProbe) -> bool {
    peer.version.as_deref() == Some("forged") || peer.boot.as_deref() == Some("bb".repeat(16).as_str())
}

/// Where a node listens, and what it has counted so far.
fn port(cluster: &Cluster, node: usize) -> Result<(SocketAddr, ProbeView)> {
    Ok((format!("10.32.{}.1:4797", node + 1).parse()?, results(cluster.node(node))?))
}

/// How many packets the first node has dropped because their source was not the pod's.
fn dropped(cluster: &Cluster) -> Result<u64> {
    let chain = cluster.node(0).exec(["nft", "list", "chain", "inet", "minionet", "from_pods"])?;
    let line = chain.lines().find(|line| line.contains("not the pod's own address"));
    let mut words = line.context("the guard has no rule")?.split_whitespace();
    words
        .find(|word| *word == "packets")
        .and_then(|_| words.next())
        .context("no counter")?
        .parse()
        .map_err(Into::into)
}

fn a_pod_gets_no_answer() -> Result<()> {
    cluster().nodes(2).run(|cluster| {
        wait(cluster, 0, 1, "alive", |p| p.rtt.is_some())?;
        let pod = cluster.node(0).add_pod("nosy")?;
        // Its own node, and another.
        for node in [0, 1] {
            let (to, before) = port(cluster, node)?;
            let socket = send(&pod, pod.address(), to, &forged(cluster.node(1).address()))?;
            eventually("the request to be counted", PATIENT, || {
                let strangers = results(cluster.node(node))?.counters.strangers;
                if strangers > before.counters.strangers { Ok(()) } else { Err(anyhow::anyhow!("not yet")) }
            })?;
            let answer = socket.recv(&mut [0; 200]);
            ensure!(answer.is_err(), "node {node} answered a pod with {answer:?} octets");
        }
        ensure!(!is_forged(&opinion(cluster, 0, 1)?));
        Ok(())
    })
}

fn a_pod_cannot_speak_for_a_vtep() -> Result<()> {
    cluster().nodes(3).run(|cluster| {
        wait(cluster, 0, 1, "alive", |p| p.rtt.is_some())?;
        let pod = cluster.node(0).add_pod("liar")?;
        // The address of the second node's VTEP, in the pod.
        let claimed: IpAddr = "10.32.2.1".parse()?;
        pod.ip("addr add 10.32.2.1/32 dev lo")?;
        let before = dropped(cluster)?;
        for node in [0, 2] {
            let (to, _) = port(cluster, node)?;
            for _ in 0..3 {
                send(&pod, claimed, to, &forged(cluster.node(1).address())).context("send")?;
            }
        }
        // As many rounds as it takes to be sure that whatever came has been read.
        for node in [0, 2] {
            let seen = results(cluster.node(node))?;
            eventually("two more results", PATIENT, || {
                let now = results(cluster.node(node))?;
                if now.written > seen.written + 1 { Ok(()) } else { Err(anyhow::anyhow!("not yet")) }
            })?;
            let peer = opinion(cluster, node, 1)?;
            ensure!(!is_forged(&peer), "a pod was believed: {peer:?}");
        }
        let after = dropped(cluster)?;
        ensure!(after >= before + 6, "{before} and then {after} packets were dropped");
        Ok(())
    })
}
