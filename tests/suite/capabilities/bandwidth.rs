//! Limits: in each direction by itself, and out of the pod's reach.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{Cluster, Namespace, Node, eventually};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::{PATIENT, pod_with};

pub fn trials() -> Vec<Trial> {
    trials![
        each_direction_has_a_limit_of_its_own,
        the_burst_that_runtimes_send_does_not_undo_the_limit,
        a_limit_is_out_of_the_pods_reach_and_check_misses_it,
        limits_leave_nothing_behind,
        only_sensible_limits_are_taken,
    ]
}

/// What containerd sends where nobody asked for a burst.
const NO_OPINION: u64 = u32::MAX as u64;
/// The limit of most tests, in bits per second.
const RATE: u64 = 16_000_000;
/// How much is sent, in octets: half a second at that limit.
const AMOUNT: usize = 1_000_000;

/// How long it takes to send so many octets over a new connection, from before there is one: who
/// accepts it may be late, and find that much has come already.
fn transfer(from: &Namespace, to: &Namespace, address: IpAddr, octets: usize) -> Result<Duration> {
    let listener = to.run(|| TcpListener::bind((address, 0)))??;
    let server = listener.local_addr()?;
    let socket = from.run(|| Socket::new(Domain::for_address(server), Type::STREAM, None))??;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || -> Result<()> {
            socket.connect_timeout(&server.into(), PATIENT)?;
            let mut stream = TcpStream::from(socket);
            stream.write_all(&vec![7; octets])?;
            Ok(())
        });
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENT))?;
        let mut received = Vec::with_capacity(octets);
        stream.read_to_end(&mut received)?;
        let elapsed = start.elapsed();
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        ensure!(received.len() == octets, "{} of {octets} octets arrived", received.len());
        Ok(elapsed)
    })
}

/// From where, to where, and to which address there.
type Direction<'a> = (&'a Namespace, &'a Namespace, IpAddr);

/// Expects that no more got through than the limit lets through in that time, and the burst.
///
/// No machine is too slow for this, and none too fast.
fn is_limited(elapsed: Duration, octets: usize, rate: u64, burst: u64) -> Result<()> {
    let least = (octets as f64 - burst as f64) * 8.0 / rate as f64;
    // A twentieth for what was on the way when the clock started.
    ensure!(
        elapsed.as_secs_f64() > least * 0.95,
        "{octets} octets took {elapsed:?}, not {least} s: there is no limit"
    );
    Ok(())
}

fn each_direction_has_a_limit_of_its_own() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let peer = node.add_pod("peer")?;
        let bandwidth = |ingress: u64, egress: u64| {
            json!({"bandwidth": {"IngressRate": ingress, "IngressBurst": NO_OPINION,
                "EgressRate": egress, "EgressBurst": NO_OPINION}})
        };
        let free = node.add_pod("free")?;
        let down = pod_with(node, "down", bandwidth(RATE, 0))?;
        let up = pod_with(node, "up", bandwidth(0, RATE))?;
        // 50 ms at 16 Mbit/s are 100 000 octets.
        let limited = |elapsed: Duration| is_limited(elapsed, AMOUNT, RATE, 100_000);
        // On a busy machine one of several has to be quick; where there is a limit, none is.
        let free_of_limits = |from: &Namespace, to: &Namespace, address: IpAddr| -> Result<()> {
            Ok(eventually("a transfer without limits", PATIENT, || {
                let elapsed = transfer(from, to, address, AMOUNT)?;
                ensure!(limited(elapsed * 4).is_err(), "it took {elapsed:?}");
                anyhow::Ok(())
            })?)
        };
        free_of_limits(&peer, &free, free.address())?;
        for (pod, ingress_limited) in [(&down, true), (&up, false)] {
            let to_pod: Direction<'_> = (&peer, pod, pod.address());
            let from_pod: Direction<'_> = (pod, &peer, peer.address());
            let (slow, fast) = if ingress_limited { (to_pod, from_pod) } else { (from_pod, to_pod) };
            // A limit, not a wall: ten times as long would be no use to anybody.
            let wanted = Duration::from_secs_f64(AMOUNT as f64 * 8.0 / RATE as f64);
            let elapsed = eventually("a transfer at about the limit", PATIENT, || {
                let elapsed = transfer(slow.0, slow.1, slow.2, AMOUNT)?;
                ensure!(elapsed < wanted * 10, "{elapsed:?} instead of {wanted:?}");
                anyhow::Ok(elapsed)
            })?;
            limited(elapsed).context(pod.name().to_owned())?;
            free_of_limits(fast.0, fast.1, fast.2).context(pod.name().to_owned())?;
            pod.check()?;
        }
        Ok(())
    })
}

fn the_burst_that_runtimes_send_does_not_undo_the_limit() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let peer = node.add_pod("peer")?;
        for (burst, cut) in
            [(json!(NO_OPINION), 100_000), (json!(34_359_738_360u64), 100_000), (json!(3_200_000), 400_000)]
        {
            let bandwidth = json!({"bandwidth": {"ingressRate": RATE, "ingressBurst": burst}});
            let pod = pod_with(node, "web", bandwidth)?;
            let elapsed = transfer(&peer, &pod, pod.address(), AMOUNT)?;
            is_limited(elapsed, AMOUNT, RATE, cut).with_context(|| format!("burst {burst}"))?;
            pod.delete()?;
        }
        Ok(())
    })
}

fn a_limit_is_out_of_the_pods_reach_and_check_misses_it() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let peer = node.add_pod("peer")?;
        let both = json!({"bandwidth": {"ingressRate": RATE, "egressRate": RATE}});
        let pod = pod_with(node, "web", both)?;
        let interfaces = pod.result()["interfaces"].as_array().context("interfaces")?.clone();
        let named = |kind: &str| {
            let name = interfaces.iter().filter_map(|i| i["name"].as_str()).find(|n| n.starts_with(kind));
            name.map(str::to_owned).with_context(|| format!("{kind}* in {interfaces:?}"))
        };
        let (host, ifb) = (named("mnet")?, named("mifb")?);
        ensure!(
            interfaces[1]["name"] == "eth0" && pod.result()["ips"][0]["interface"] == 1,
            "{interfaces:?}"
        );

        // What a pod with every capability can do about it.
        let _nothing_there = pod.exec(["tc", "qdisc", "del", "dev", "eth0", "root"]);
        pod.exec(["tc", "qdisc", "replace", "dev", "eth0", "root", "pfifo"])?;
        is_limited(transfer(&pod, &peer, peer.address(), AMOUNT)?, AMOUNT, RATE, 100_000)?;
        pod.check()?;

        for damage in [
            vec!["tc", "qdisc", "del", "dev", &host, "root"],
            vec![
                "tc", "qdisc", "replace", "dev", &host, "root", "tbf", "rate", "1gbit", "burst", "1mb",
                "limit", "2mb",
            ],
            vec!["tc", "qdisc", "del", "dev", &ifb, "root"],
            vec!["tc", "qdisc", "del", "dev", &host, "clsact"],
            vec!["ip", "link", "del", &ifb],
        ] {
            let pod =
                pod_with(node, "damaged", json!({"bandwidth": {"ingressRate": RATE, "egressRate": RATE}}))?;
            let ours = |name: &str| rename(&pod.result()["interfaces"], name);
            let words: Vec<String> = damage.iter().map(|word| ours(word)).collect();
            pod.check()?;
            node.exec(&words)?;
            ensure!(pod.check().is_err(), "CHECK does not see {words:?}");
            pod.delete()?;
        }
        Ok(())
    })
}

/// The interface of another attachment that is what `word` is of the first, or the word itself.
fn rename(interfaces: &Value, word: &str) -> String {
    let kind = ["mnet", "mifb"].into_iter().find(|kind| word.starts_with(kind));
    let names = interfaces.as_array().into_iter().flatten().filter_map(|i| i["name"].as_str());
    let name = kind.and_then(|kind| names.into_iter().find(|name| name.starts_with(kind)));
    name.unwrap_or(word).to_owned()
}

fn limits_leave_nothing_behind() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let both = json!({"bandwidth": {"ingressRate": RATE, "egressRate": RATE}});
        pod_with(node, "deleted", both.clone())?.delete()?;
        let no_device = |node: &Node| -> Result<()> {
            let links = node.exec(["ip", "-o", "link"])?;
            ensure!(!links.contains("mifb") && !links.contains("mnet"), "{links}");
            Ok(())
        };
        // The daemon destroys what DEL took away.
        eventually("the devices to be gone", PATIENT, || no_device(node))?;
        // Another ADD for the same container finds its names free, or makes them so.
        pod_with(node, "deleted", both.clone())?.delete()?;
        node.kill_daemon(nix::sys::signal::Signal::SIGKILL)?;
        pod_with(node, "deleted", both)?.delete()?;
        no_device(node)
    })
}

fn only_sensible_limits_are_taken() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        for (bandwidth, part) in [
            (json!({"ingressRate": -1}), "ingressRate"),
            (json!({"ingressRate": 1}), "ingressRate"),
            (json!({"egressBurst": 1000}), "egressRate"),
            (json!({"egressRate": "fast"}), "egressRate"),
        ] {
            let made = pod_with(node, "web", json!({"bandwidth": bandwidth}));
            let text = format!("{:#}", made.err().context(part)?);
            ensure!(text.contains("\"code\": 7") && text.contains(part), "{text}");
        }
        // Extremes that a kernel counts in 64 bits, or in few octets.
        for rate in [8, 1_000, 40_000_000_000u64, 1 << 53] {
            let both = json!({"bandwidth": {"ingressRate": rate, "egressRate": rate}});
            let pod = pod_with(node, "web", both)?;
            pod.check().with_context(|| format!("{rate} bits per second"))?;
            pod.delete()?;
        }
        Ok(())
    })
}
