//! The life of a pod: addresses in its status, traffic to other nodes, host ports, and an end
//! without traces.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use minionet_tests::cri::proto::{PortMapping, Protocol};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::traffic::{Ping, TcpEcho};
use netns_testbed::{Node, eventually};

use super::bed::{Bed, PATIENT, cluster, is_clean, traces};

pub fn trials() -> Vec<Trial> {
    trials![
        a_pod_exchanges_traffic_with_another_minion => [Need::ContainerRuntime, Need::CniPlugin("loopback"), Need::Program("nft")],
        host_ports_lead_to_the_pod => [Need::ContainerRuntime, Need::CniPlugin("loopback"), Need::Program("nft")],
        the_network_is_ready_when_the_daemon_is => [Need::ContainerRuntime, Need::CniPlugin("loopback"), Need::Program("nft")],
    ]
}

/// The addresses of a pod as kubelet sees them.
fn addresses(bed: &Bed, pod: &str) -> Result<Vec<IpAddr>> {
    let addresses = bed.client.pod_addresses(pod)?;
    addresses.iter().map(|address| address.parse().with_context(|| address.clone())).collect()
}

fn a_pod_exchanges_traffic_with_another_minion() -> Result<()> {
    cluster(2).run(|cluster| {
        let (node, other) = (cluster.node(0), cluster.node(1));
        let far = other.add_pod("far")?;
        let bed = Bed::start(node)?;
        ensure!(bed.client.network_ready()?.status, "the network is not ready");
        let (pod, container) = bed.run(&bed.runtime.pod("web"))?;

        // IPv4 first, and the other as an additional one: what `kubectl get pod` shows.
        let addresses = addresses(&bed, &pod)?;
        let [v4 @ IpAddr::V4(_), v6 @ IpAddr::V6(_)] = addresses[..] else {
            anyhow::bail!("one address of each family expected: {addresses:?}");
        };
        ensure!(
            v4.to_string().starts_with("10.32.1.") && v6.to_string().starts_with("fd00:32:0:1:"),
            "{addresses:?}"
        );
        let inside = bed.exec(&container, &["ip", "address", "show", "eth0"])?;
        ensure!(inside.contains(&v4.to_string()) && inside.contains(&v6.to_string()), "{inside}");

        for (index, here) in addresses.iter().enumerate() {
            let there = far.addresses()[index];
            let ping = || Ping::to(*here).send(&far, Duration::from_secs(2));
            eventually("the pod to answer another minion's", PATIENT, ping)?;
            let echo = TcpEcho::start(&far, SocketAddr::new(there, 0))?;
            let port = echo.address().port();
            let said = format!("echo through-the-overlay | nc -w 60 {there} {port}");
            let answer = bed.exec(&container, &["sh", "-c", &said])?;
            ensure!(answer.trim() == "through-the-overlay", "{there}: {answer:?}");
        }
        bed.remove(&pod)?;
        is_clean(node)?;
        Ok(bed.runtime.stop()?)
    })
}

/// A server in the container that says something and where the question came from.
fn serve(bed: &Bed, pod: &str, config: &minionet_tests::cri::proto::PodSandboxConfig) -> Result<()> {
    let script = "while true; do echo served | nc -l -p 8080 >/dev/null; done";
    bed.runtime.run_container(pod, config, "server", &["sh", "-c", script])?;
    Ok(())
}

/// From outside, from another minion and from the node itself, to an address of the node.
fn host_ports_lead_to_the_pod() -> Result<()> {
    cluster(2).run(|cluster| {
        let (node, other) = (cluster.node(0), cluster.node(1));
        let bed = Bed::start(node)?;
        let mut config = bed.runtime.pod("web");
        config.port_mappings = vec![PortMapping {
            protocol: Protocol::Tcp.into(),
            container_port: 8080,
            host_port: 18080,
            host_ip: String::new(),
        }];
        let pod = bed.client.run_pod_sandbox(&config)?;
        serve(&bed, &pod, &config)?;
        for address in node.addresses() {
            for client in [cluster.external().namespace(), other.namespace(), node.namespace()] {
                let ask = format!("busybox nc -w 5 {address} 18080 </dev/null");
                let served = || -> Result<()> {
                    let answer = client.exec(["sh", "-c", &ask])?;
                    ensure!(answer.trim() == "served", "{answer:?}");
                    Ok(())
                };
                let what = format!("{address} to serve {}", client.name());
                eventually(&what, PATIENT, served)?;
            }
        }
        bed.remove(&pod)?;
        is_clean(node)?;
        Ok(bed.runtime.stop()?)
    })
}

/// containerd looks at the directory of configurations: the daemon's list appears when pods can
/// be attached, and not before.
fn the_network_is_ready_when_the_daemon_is() -> Result<()> {
    let cluster = cluster(1).start_without_daemons()?;
    let node: &Node = cluster.node(0);
    let bed = Bed::start(node)?;
    let before = bed.client.network_ready()?;
    ensure!(!before.status && before.message.contains("cni"), "{before:?}");
    ensure!(bed.pod("early").is_err(), "a pod got a network that there is not");
    node.start_daemon()?;
    cluster.wait_ready()?;
    let ready = || -> Result<()> {
        let now = bed.client.network_ready()?;
        ensure!(now.status, "{now:?}");
        Ok(())
    };
    eventually("the network to become ready", PATIENT, ready)?;
    let pod = bed.pod("web")?;
    ensure!(!traces(node)?.is_empty(), "the search for traces does not find a running pod");
    bed.remove(&pod)?;
    is_clean(node)?;
    Ok(bed.runtime.stop()?)
}
