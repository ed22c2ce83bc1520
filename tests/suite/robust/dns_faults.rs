//! DNS fails in every known way, for longer than a peer may be missing: no packet between pods is
//! lost, and afterwards every node holds exactly the peers that there are.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Fault, Garbage, TcpAfterTruncation};
use nix::sys::signal::Signal;

use super::{Traffic, all, wait_for_exactly, wait_for_log};
use crate::overlay::{everybody_reaches_everybody, ip, number, wait_for_queries};

/// Two more than the eight of the random answers.
const NODES: u16 = 10;
/// How many nodes have pods that talk.
const TALKERS: usize = 4;
/// Datagrams a second from each talker.
const RATE: u32 = 500;
/// Datagrams of each talker during a fault: sending them takes more than twice the hold-down.
const DURING: usize = 600;
/// Queries of A and AAAA that six rounds of every node make.
const ROUNDS: u64 = 2 * 6 * NODES as u64;

/// The hold-down is shorter than every fault, and the guard against mass removal much longer. The
/// records live for no time, so that the nodes ask as often as they may.
const CONFIG: &str = "refresh_min = \"100ms\"\nrefresh_max = \"500ms\"\ndns_timeout = \"100ms\"\n\
                      missing_answers = 3\nhold_down = \"500ms\"\nmass_hold = \"20s\"\n";

pub fn trials() -> Vec<Trial> {
    trials![
        no_fault_of_dns_costs_a_packet_and_all_heal => [Need::Program("nft")],
        a_dead_peer_goes_from_random_samples_and_living_ones_stay => [Need::Program("nft")],
    ]
}

/// A fault: how it begins, how it ends, and whether the servers hear the nodes meanwhile.
struct Case {
    name: &'static str,
    begin: fn(&Cluster) -> Result<()>,
    end: fn(&Cluster) -> Result<()>,
    heard: bool,
}

impl Case {
    const fn heard(name: &'static str, begin: fn(&Cluster) -> Result<()>) -> Self {
        Self { name, begin, end: honest, heard: true }
    }
}

const CASES: [Case; 24] = [
    Case::heard("SERVFAIL", |cluster| everywhere(cluster, Fault::ServFail)),
    Case::heard("NXDOMAIN", |cluster| everywhere(cluster, Fault::NxDomain)),
    Case::heard("REFUSED", |cluster| everywhere(cluster, Fault::Refused)),
    Case::heard("empty", |cluster| everywhere(cluster, Fault::Empty)),
    Case::heard("timeout", |cluster| everywhere(cluster, Fault::Timeout)),
    Case::heard("truncated, TCP closed", |cluster| {
        everywhere(cluster, Fault::Truncated(TcpAfterTruncation::Closed))
    }),
    Case::heard("truncated, TCP hung", |cluster| {
        everywhere(cluster, Fault::Truncated(TcpAfterTruncation::Hung))
    }),
    Case::heard("noise", |cluster| everywhere(cluster, Fault::Garbage(Garbage::Noise))),
    Case::heard("replies to other queries", |cluster| everywhere(cluster, Fault::Garbage(Garbage::WrongId))),
    Case::heard("replies cut in half", |cluster| everywhere(cluster, Fault::Garbage(Garbage::Cut))),
    Case::heard("slow within the time limit", |cluster| {
        everywhere(cluster, Fault::Slow(Duration::from_millis(50)))
    }),
    Case::heard("slower than the time limit", |cluster| {
        everywhere(cluster, Fault::Slow(Duration::from_millis(400)))
    }),
    Case::heard("the name is gone", |cluster| {
        cluster.dns_servers().for_each(|server| server.remove_name(&cluster.dns_name()));
        Ok(())
    }),
    Case {
        name: "no server listens",
        begin: |cluster| refuse(cluster, "udp dport 53 reject\ntcp dport 53 reject with tcp reset\n"),
        end: |cluster| refuse(cluster, ""),
        heard: false,
    },
    Case {
        name: "the cable of the server is cut",
        begin: |cluster| carrier(cluster, false),
        end: |cluster| carrier(cluster, true),
        heard: false,
    },
    Case {
        name: "resolv.conf names nobody's address",
        begin: |cluster| resolv_conf(cluster, "nameserver 172.20.0.99\n"),
        end: |cluster| resolv_conf(cluster, RESOLV_CONF),
        heard: false,
    },
    Case {
        name: "resolv.conf is empty",
        begin: |cluster| resolv_conf(cluster, ""),
        end: |cluster| resolv_conf(cluster, RESOLV_CONF),
        heard: false,
    },
    Case {
        name: "resolv.conf names the other server",
        begin: |cluster| resolv_conf(cluster, "nameserver 172.20.0.252\n"),
        end: |cluster| resolv_conf(cluster, RESOLV_CONF),
        // The first of the two servers is the one whose queries are counted.
        heard: false,
    },
    Case::heard("one of two resolvers fails", |cluster| second(cluster, Fault::NxDomain)),
    Case::heard("one of two resolvers has lost half", |cluster| {
        second(cluster, Fault::Partial(half(cluster)))
    }),
    Case::heard("one of two resolvers lies", |cluster| second(cluster, Fault::Lie(strangers(100)))),
    Case {
        name: "a record that flaps",
        begin: |cluster| {
            for _ in 0..3 {
                cluster.leave(1)?;
                // Half of what one round takes: less than the answers that must lack a peer.
                wait_for_queries(cluster, ROUNDS / 12)?;
                cluster.join(1)?;
                wait_for_queries(cluster, ROUNDS / 2)?;
            }
            Ok(())
        },
        end: |_| Ok(()),
        heard: true,
    },
    Case::heard("half of the records", |cluster| everywhere(cluster, Fault::Partial(half(cluster)))),
    Case::heard("eight records at random", |cluster| everywhere(cluster, Fault::RandomSubset(8))),
];

/// What the test bed wrote at the start: its two servers.
const RESOLV_CONF: &str = "nameserver 172.20.0.253\nnameserver 172.20.0.252\n";

fn everywhere(cluster: &Cluster, fault: Fault) -> Result<()> {
    cluster.dns_servers().for_each(|server| server.set_fault(fault.clone()));
    Ok(())
}

/// Only the second server; the first tells the truth.
fn second(cluster: &Cluster, fault: Fault) -> Result<()> {
    cluster.dns_servers().skip(1).for_each(|server| server.set_fault(fault.clone()));
    Ok(())
}

fn honest(cluster: &Cluster) -> Result<()> {
    let addresses: Vec<IpAddr> = cluster.nodes().iter().flat_map(|node| node.addresses()).collect();
    cluster.dns_servers().try_for_each(|server| {
        server.set(&cluster.dns_name(), &addresses, 0)?;
        server.set_fault(None);
        Ok(())
    })
}

/// The nodes with even numbers, so that every talker talks to one that is missing, or is missing.
fn half(cluster: &Cluster) -> Vec<IpAddr> {
    cluster.nodes().iter().filter(|node| number(node).is_multiple_of(2)).map(|node| node.address()).collect()
}

/// Addresses within the plan of which no node has one.
fn strangers(from: u8) -> Vec<IpAddr> {
    (from..from + 10).map(|number| IpAddr::from([172, 20, 0, number])).collect()
}

/// What the kernels of the servers refuse.
fn refuse(cluster: &Cluster, rules: &str) -> Result<()> {
    for host in cluster.dns_hosts() {
        host.nft(&format!(
            "table inet broken\ndelete table inet broken\n\
             table inet broken {{ chain input {{ type filter hook input priority 0;\n{rules}}}\n}}"
        ))?;
    }
    Ok(())
}

fn carrier(cluster: &Cluster, carrier: bool) -> Result<()> {
    for host in cluster.dns_hosts() {
        host.link("eth0")?.set_carrier(carrier)?;
    }
    Ok(())
}

fn resolv_conf(cluster: &Cluster, text: &str) -> Result<()> {
    Ok(cluster.nodes().iter().try_for_each(|node| node.write("/etc/resolv.conf", text))?)
}

fn no_fault_of_dns_costs_a_packet_and_all_heal() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").nodes(usize::from(NODES)).ttl(0).dns_servers(2);
    builder.config(CONFIG).run(|cluster| {
        let members: Vec<u16> = (1..=NODES).collect();
        let pods = cluster.nodes()[..TALKERS]
            .iter()
            .map(|node| Ok(node.add_pod("web")?))
            .collect::<Result<Vec<_>>>()?;
        wait_for_exactly(&all(cluster), &members)?;
        everybody_reaches_everybody(&pods)?;
        for case in &CASES {
            run(cluster, case, &members, |cluster, case| {
                let traffic = Traffic::circle(&pods, RATE)?;
                (case.begin)(cluster)?;
                traffic.go_on(DURING)?;
                if case.heard {
                    wait_for_queries(cluster, ROUNDS)?;
                }
                Ok(traffic)
            })
            .context(case.name)?;
        }
        // While samples come nobody can be removed; the end of that is waited for.
        for node in cluster.nodes() {
            wait_for_log(node, &["no resolver answers with random samples any more"])?;
        }
        // Others in the place of everybody: the guard holds those that there were, and then the
        // others, until it believes that they are gone.
        let replaced =
            Case::heard("all records replaced", |cluster| everywhere(cluster, Fault::Lie(strangers(120))));
        run(cluster, &replaced, &members, |cluster, case| {
            let traffic = Traffic::circle(&pods, RATE)?;
            (case.begin)(cluster)?;
            traffic.go_on(DURING)?;
            wait_for_queries(cluster, ROUNDS)?;
            Ok(traffic)
        })
        .context(replaced.name)?;

        // That nobody was removed is due to the faults, and not to long thresholds.
        cluster
            .dns_servers()
            .try_for_each(|server| server.remove(&cluster.dns_name(), &[ip("172.20.0.9")]))?;
        wait_for_exactly(&all(cluster)[..8], &[1, 2, 3, 4, 5, 6, 7, 8, 10])
    })
}

/// A resolver tells eight random records of eleven. A node dies and its record goes: it is removed,
/// as the probe finds it dead and no answer has it. Another node's record goes, but it lives: it
/// stays as long as the answers are samples.
fn a_dead_peer_goes_from_random_samples_and_living_ones_stay() -> Result<()> {
    let config = format!("{CONFIG}probe_interval = \"500ms\"\nsampling_absence = \"2s\"\n");
    Cluster::builder("cncfdemo").nodes(12).ttl(0).config(&config).run(|cluster| {
        let everybody: Vec<u16> = (1..=12).collect();
        wait_for_exactly(&all(cluster), &everybody)?;
        let pods = [0, 1, 9, 10]
            .map(|node| cluster.node(node).add_pod("web"))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        everybody_reaches_everybody(&pods)?;
        everywhere(cluster, Fault::RandomSubset(8))?;
        for node in cluster.nodes() {
            wait_for_log(node, &["a resolver answers with random samples"])?;
        }
        let traffic = Traffic::circle(&pods, RATE)?;
        let (unlisted, dead) = (10, 11);
        cluster.node(dead).kill_daemon(Signal::SIGKILL)?;
        cluster.node(dead).ip("link set eth0 down")?;
        cluster.leave(dead)?;
        cluster.leave(unlisted)?;
        let living = &all(cluster)[..dead];
        wait_for_exactly(living, &everybody[..dead])?;
        for node in living {
            wait_for_log(node, &["peer 172.20.0.12 removed"])?;
        }
        // Longer than anybody may be missing.
        wait_for_queries(cluster, 2 * ROUNDS)?;
        wait_for_exactly(living, &everybody[..dead])?;
        traffic.end_without_loss()?;
        // Complete answers again: what they lack is gone.
        cluster.dns_servers().for_each(|server| server.set_fault(None));
        let listed = &all(cluster)[..unlisted];
        wait_for_exactly(listed, &everybody[..unlisted])
    })
}

/// One fault from its beginning until every node is exact again.
fn run(
    cluster: &Cluster,
    case: &Case,
    members: &[u16],
    during: impl FnOnce(&Cluster, &Case) -> Result<Traffic>,
) -> Result<()> {
    let traffic = during(cluster, case)?;
    (case.end)(cluster)?;
    wait_for_exactly(&all(cluster), members)?;
    traffic.go_on(20)?;
    traffic.end_without_loss()?;
    Ok(())
}
