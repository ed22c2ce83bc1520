//! Nodes come and go by a change of DNS alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{Capture, Cluster, Frame, Node, Pod, Tables, eventually};

use super::{
    DEVICE, HASTY, PATIENT, PORT, SILENCE, everybody_reaches_everybody, ip, number, pod_per_node,
    wait_for_everybody, wait_for_members,
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_node_is_reached_from_every_pod_within_its_ttl_and_a_second,
        a_node_that_left_is_gone_from_every_table,
        a_node_that_comes_back_has_its_pods_again,
        a_node_outside_of_the_plan_is_refused,
        a_node_whose_own_record_is_missing_goes_on,
    ]
}

/// Of several nodes that join one after the other, one is reached in time: a busy machine may have
/// something else to do for a second, but not each time.
fn a_node_is_reached_from_every_pod_within_its_ttl_and_a_second() -> Result<()> {
    const TTL: u32 = 1;
    const BOUND: Duration = Duration::from_secs(TTL as u64 + 1);
    const TRIES: usize = 5;
    Cluster::builder("cncfdemo").nodes(3).ttl(TTL).run(|cluster| {
        let mut pods = pod_per_node(cluster)?;
        let mut times = Vec::new();
        while times.len() < TRIES && times.iter().all(|time| *time > BOUND) {
            let (index, time) = join(cluster, &pods)?;
            times.push(time);
            cluster.wait_ready()?;
            pods.push(cluster.node(index).add_pod("web")?);
            everybody_reaches_everybody(&pods)?;
        }
        ensure!(times.iter().any(|time| *time <= BOUND), "until every pod reached the newcomer: {times:?}");
        Ok(())
    })
}

/// Lets another node join: its index, and how long it took until all of these pods reached it.
fn join(cluster: &mut Cluster, pods: &[Pod]) -> Result<(usize, Duration)> {
    let index = cluster.add_node()?;
    let newcomer = cluster.node(index);
    // It runs and knows the others, but nobody knows it.
    eventually("the newcomer to ask DNS", PATIENT, || {
        newcomer.log().map_err(|e| e.to_string()).and_then(known)
    })?;
    ensure!(newcomer.ready().is_err(), "it is ready although DNS does not name it");
    let gateway = ip(&format!("10.32.{}.1", number(newcomer)));
    ensure!(pods.iter().all(|pod| pod.ping(gateway, SILENCE).is_err()), "it answers before it joined");
    let start = Instant::now();
    cluster.join(index)?;
    for pod in pods {
        eventually("the newcomer to answer", PATIENT, || pod.ping(gateway, SILENCE))?;
    }
    Ok((index, start.elapsed()))
}

/// Whether the log says that DNS does not name the node.
fn known(log: String) -> Result<(), String> {
    if log.contains("none of this node's addresses") { Ok(()) } else { Err(log) }
}

fn a_node_that_left_is_gone_from_every_table() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(4).config(HASTY).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        everybody_reaches_everybody(&pods)?;
        let all: Vec<&Node> = cluster.nodes().iter().collect();
        wait_for_members(&all, &[1, 2, 3, 4])?;

        cluster.leave(3)?;
        wait_for_members(&all[..3], &[1, 2, 3])?;
        for node in &all[..3] {
            // Of whatever kind, also one that is not read into `Tables`.
            for table in ["ip route show table all", "ip neigh", "bridge fdb"] {
                let text = node.exec(table.split(' '))?;
                for trace in ["10.32.4.", "172.20.0.4 self", "0e:6d:00:00:00:04"] {
                    ensure!(!text.contains(trace), "{trace} is left in `{table}` of {}: {text}", node.name());
                }
            }
        }
        let (left, stays) = (Capture::start(all[3], "eth0")?, Capture::start(&pods[0], "eth0")?);
        for pod in &pods[..3] {
            ensure!(pod.ping(pods[3].address(), SILENCE).is_err(), "it is still reached");
        }
        // It goes on speaking itself, to those whom it still knows.
        let to_it = |frame: &Frame| {
            frame.packet.as_ref().is_some_and(|packet| packet.destination == ip("172.20.0.4"))
        };
        let stray = left.frames().into_iter().find(|frame| frame.vxlan(PORT).is_some() && to_it(frame));
        ensure!(stray.is_none(), "it still gets {stray:?}");
        // It does not know that it left, and goes on to send; nobody takes it any more.
        ensure!(pods[3].ping(pods[0].address(), SILENCE).is_err(), "it still reaches others");
        left.wait_for("its packet", PATIENT, |frame| frame.vxlan(PORT).is_some())?;
        let from_it = |frame: &Frame| frame.packet.iter().any(|packet| packet.source == pods[3].address());
        let stray = stays.frames().into_iter().find(from_it);
        ensure!(stray.is_none(), "a pod still gets {stray:?}");
        everybody_reaches_everybody(&pods[..3])
    })
}

fn a_node_that_comes_back_has_its_pods_again() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(3).config(HASTY).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        let all: Vec<&Node> = cluster.nodes().iter().collect();
        for _ in 0..2 {
            cluster.leave(2)?;
            wait_for_members(&all[..2], &[1, 2])?;
            cluster.join(2)?;
            wait_for_members(&all, &[1, 2, 3])?;
            wait_for_everybody(&pods)?;
        }
        Ok(())
    })
}

fn a_node_outside_of_the_plan_is_refused() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config(HASTY).run(|cluster| {
        cluster.dns().add(&cluster.dns_name(), &[ip("172.21.0.9")])?;
        for node in cluster.nodes() {
            eventually("the refusal to be told", PATIENT, || {
                let log = node.log()?;
                let line = log.lines().find(|line| line.contains("172.21.0.9")).context(log.clone())?;
                ensure!(line.contains("node_networks") && line.contains("WARN"), "{line}");
                anyhow::Ok(())
            })?;
            let tables = Tables::read(node, DEVICE)?;
            ensure!(tables.routes.len() == 1 && tables.forwarding.len() == 1, "{tables:?}");
        }
        everybody_reaches_everybody(&pod_per_node(cluster)?)
    })
}

fn a_node_whose_own_record_is_missing_goes_on() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config(HASTY).run(|cluster| {
        let (node, other) = (cluster.node(0), cluster.node(1));
        let pods = pod_per_node(cluster)?;
        everybody_reaches_everybody(&pods)?;
        cluster.dns().set(&cluster.dns_name(), &other.addresses(), 1)?;
        eventually("the node to say it", PATIENT, || {
            let log = node.log()?;
            ensure!(log.contains("DNS does not list this node's own address 172.20.0.1"), "{log}");
            anyhow::Ok(())
        })?;
        // The others forget it, and it knows them all the same.
        wait_for_members(&[other], &[2])?;
        wait_for_members(&[node], &[1, 2])?;
        node.add_pod("new")?.ping(pods[0].address(), PATIENT)?;
        Ok(())
    })
}
