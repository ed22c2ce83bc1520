//! Daemons that end and start again, with and without DNS, while pods talk.

use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::traffic::{ContinuousPing, UdpStream};
use netns_testbed::{Cluster, Fault, Node, Pod, Tables, eventually};
use nix::sys::signal::Signal;

use super::{
    DEVICE, HASTY, PATIENT, everybody_reaches_everybody, pod_per_node, tables_for, wait_for_members,
    wait_for_queries, wait_for_tables,
};

/// Packets before, between and after what is done to the daemons.
const SOME: usize = 20;

pub fn trials() -> Vec<Trial> {
    trials![
        no_packet_is_lost_when_a_daemon_is_killed_and_started,
        no_packet_is_lost_when_a_daemon_is_stopped_and_started,
        a_restart_without_dns_keeps_every_peer,
        a_reboot_without_dns_restores_every_peer,
        a_route_that_leads_elsewhere_is_mended_before_dns_answers,
        who_left_while_a_daemon_was_down_is_removed_after_its_start,
    ]
}

/// Traffic between two pods in both directions, of which nothing may be lost.
struct Talk {
    pings: [ContinuousPing; 2],
    streams: [UdpStream; 2],
}

impl Talk {
    fn start(a: &Pod, b: &Pod) -> Result<Self> {
        let ping = |from: &Pod, to: &Pod| ContinuousPing::start(from, to.address(), Duration::from_millis(2));
        let stream = |from: &Pod, to: &Pod| UdpStream::start(from, to, to.address(), 200);
        Ok(Self { pings: [ping(a, b)?, ping(b, a)?], streams: [stream(a, b)?, stream(b, a)?] })
    }

    /// Waits until some more packets went each way.
    fn go_on(&self) -> Result<()> {
        self.pings.iter().try_for_each(|ping| ping.wait_for_replies(SOME, PATIENT))?;
        self.streams.iter().try_for_each(|stream| stream.wait_for_arrivals(SOME, PATIENT))?;
        Ok(())
    }

    fn end_without_loss(self) -> Result<()> {
        for ping in self.pings {
            ping.stop_without_loss()?;
        }
        for stream in self.streams {
            stream.stop_without_loss()?;
        }
        Ok(())
    }
}

fn restart_under_traffic(signal: Signal) -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config(HASTY).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        everybody_reaches_everybody(&pods)?;
        let talk = Talk::start(&pods[0], &pods[1])?;
        for round in 0..3 {
            for node in cluster.nodes() {
                talk.go_on()?;
                let status = node.kill_daemon(signal)?;
                ensure!(
                    status.success() == (signal == Signal::SIGTERM),
                    "{} ended with {status}",
                    node.name()
                );
                talk.go_on()?;
                node.start_daemon()?;
                // Until it has asked DNS and acted on the answer several times.
                wait_for_queries(cluster, 8)?;
                ensure!(node.daemon_exit().is_none(), "round {round}: {:?}", node.daemon_exit());
            }
        }
        wait_for_members(&[cluster.node(0), cluster.node(1)], &[1, 2])?;
        talk.go_on()?;
        talk.end_without_loss()
    })
}

fn no_packet_is_lost_when_a_daemon_is_killed_and_started() -> Result<()> {
    restart_under_traffic(Signal::SIGKILL)
}

fn no_packet_is_lost_when_a_daemon_is_stopped_and_started() -> Result<()> {
    restart_under_traffic(Signal::SIGTERM)
}

fn a_restart_without_dns_keeps_every_peer() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(3).config(HASTY).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        let node = cluster.node(0);
        everybody_reaches_everybody(&pods)?;
        let talk = Talk::start(&pods[0], &pods[1])?;
        for fault in [Fault::Timeout, Fault::ServFail, Fault::Empty] {
            cluster.dns().set_fault(fault);
            node.kill_daemon(Signal::SIGKILL)?;
            // What it lost meanwhile it repairs from what it saved.
            node.ip("route del 10.32.3.0/24")?;
            node.start_daemon()?;
            wait_for_tables(node, &tables_for([2, 3]))?;
            wait_for_queries(cluster, 8)?;
            wait_for_tables(node, &tables_for([2, 3]))?;
        }
        talk.end_without_loss()?;
        everybody_reaches_everybody(&pods)
    })
}

fn a_reboot_without_dns_restores_every_peer() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(3).config(HASTY).run(|cluster| {
        let mut pods = pod_per_node(cluster)?;
        cluster.dns().set_fault(Fault::Timeout);
        let node = cluster.node(0);
        reboot(node)?;
        pods.remove(0).vanish()?;
        node.start_daemon()?;
        wait_for_tables(node, &tables_for([2, 3]))?;
        eventually("the node's facts", PATIENT, || node.read("/run/minionet/node.json"))?;
        // As the runtime does after a reboot.
        pods.push(node.add_pod("after")?);
        everybody_reaches_everybody(&pods)
    })
}

fn a_route_that_leads_elsewhere_is_mended_before_dns_answers() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(3).config(HASTY).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        wait_for_tables(node, &tables_for([2, 3]))?;
        cluster.dns().set_fault(Fault::Timeout);
        node.kill_daemon(Signal::SIGKILL)?;
        // One that leads to another peer, and one to a peer of which nothing else is known.
        node.ip("route replace 10.32.2.0/24 via 10.32.3.1 dev minionet onlink proto 109\n\
             route add 10.32.9.0/24 via 10.32.3.1 dev minionet onlink proto 109")?;
        node.start_daemon()?;
        let route = |to: &str| Ok::<_, anyhow::Error>(node.exec(["ip", "route", "show", to])?);
        eventually("the route to lead to its peer", PATIENT, || {
            let found = route("10.32.2.0/24")?;
            ensure!(found.lines().count() == 1 && found.contains("via 10.32.2.1"), "{found}");
            anyhow::Ok(())
        })?;
        pods[0].ping(pods[1].address(), PATIENT)?;
        wait_for_queries(cluster, 8)?;
        ensure!(route("10.32.9.0/24")?.contains("via 10.32.3.1"), "it may still be right");
        cluster.dns().set_fault(None);
        wait_for_tables(node, &tables_for([2, 3]))
    })
}

/// Leaves of a node what a reboot leaves: files on its disk, and nothing in the kernel or in /run.
fn reboot(node: &Node) -> Result<()> {
    node.kill_daemon(Signal::SIGKILL)?;
    let links = node.json(["ip", "-j", "link", "show"])?;
    let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    for name in names.filter(|name| name.starts_with("mnet") || *name == DEVICE) {
        node.ip(&format!("link del {name}"))?;
    }
    node.exec(["rm", "-r", "/run/minionet"])?;
    node.sysctl([("net.ipv4.ip_forward", "0")])?;
    ensure!(Tables::read(node, DEVICE).is_err(), "the device is still there");
    Ok(())
}

fn who_left_while_a_daemon_was_down_is_removed_after_its_start() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(3).config(HASTY).run(|cluster| {
        let node = cluster.node(0);
        wait_for_tables(node, &tables_for([2, 3]))?;
        node.kill_daemon(Signal::SIGKILL)?;
        cluster.leave(2)?;
        // The first answers are failures: nobody is removed.
        cluster.dns().set_fault(Fault::ServFail);
        node.start_daemon()?;
        wait_for_queries(cluster, 8)?;
        wait_for_tables(node, &tables_for([2, 3]))?;
        cluster.dns().set_fault(None);
        wait_for_tables(node, &tables_for([2]))
    })
}
