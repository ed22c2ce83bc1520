//! A pod takes over the port of another while a client goes on sending.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{Cluster, eventually};

use super::{DUAL, PATIENT, SILENCE, Teller, UNDERLAY, UdpClient, ip, pod_with, ports};

pub fn trials() -> Vec<Trial> {
    trials![a_client_that_never_stops_reaches_the_new_pod, a_port_that_was_silent_answers_when_its_pod_comes]
}

/// UDP has no first packet: without the flush, the kernel would go on sending this client's
/// datagrams to the pod that is gone (kubernetes issue 102559).
fn a_client_that_never_stops_reaches_the_new_pod() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).underlay(UNDERLAY).config(DUAL).run(|cluster| {
        let node = cluster.node(0);
        let mapped = || ports(&[(5353, 53, "udp", "")]);
        for address in ["172.20.0.1", "fd00:20::1"] {
            let old = pod_with(node, "old", mapped())?;
            let server = Teller::start(&old, 53, "old")?;
            let client = UdpClient::open(cluster.external(), (ip(address), 5353).into())?;
            ensure!(client.ask(PATIENT)?.starts_with("old "));
            drop(server);
            old.delete()?;
            // Nobody has the port now, and the client goes on.
            ensure!(client.ask(SILENCE).is_err(), "somebody answers");
            let new = pod_with(node, "new", mapped())?;
            let _server = Teller::start(&new, 53, "new")?;
            let answer = eventually("the new pod to answer", PATIENT, || client.ask(SILENCE))?;
            ensure!(answer.starts_with("new "), "{answer}");
            new.delete()?;
        }
        Ok(())
    })
}

fn a_port_that_was_silent_answers_when_its_pod_comes() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        // What the node itself answers first is remembered as well; from outside and from inside.
        let host = Teller::start(node, 5353, "node")?;
        let clients = [
            UdpClient::open(cluster.external(), (node.address(), 5353).into())?,
            UdpClient::open(node, (ip("127.0.0.1"), 5353).into())?,
        ];
        for client in &clients {
            ensure!(client.ask(PATIENT)?.starts_with("node "));
        }
        drop(host);
        let pod = pod_with(node, "web", ports(&[(5353, 53, "udp", "")]))?;
        let _server = Teller::start(&pod, 53, "web")?;
        for client in &clients {
            let answer = eventually("the pod to answer", PATIENT, || client.ask(SILENCE))?;
            ensure!(answer.starts_with("web "), "{answer}");
        }
        Ok(())
    })
}
