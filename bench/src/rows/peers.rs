//! Making the kernel hold many peers, and looking whether it still does.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use minionet_core::addr::Family;
use minionet_core::constants::{DEFAULT_PORT, DEFAULT_VNI, DEVICE, ROUTE_PROTOCOL_PEER};
use minionet_core::overlay::{
    Device, Encapsulation, Local, NextHop, Overlay, REFUSING_METRIC, desired, diff, overlay_mtu,
};
use minionet_core::plan::{AddressPlan, NodePlan, PlanSpec, PodNetwork};
use minionet_netlink::Socket;
use minionet_netlink::link::Which;
use minionet_netlink::overlay::{apply, read};
use netns_testbed::Host;

use super::Bench;
use crate::crowd;
use crate::finding::{Finding, Findings, Plot, Series, Target};
use crate::measure::{interleaved, ms};
use crate::raw::{self, Raw};
use crate::stats::{Summary, ratios};

/// How many peers, and how often they are programmed.
const PEERS: [(usize, usize); 3] = [(100, 20), (1000, 10), (5000, 5)];
/// How often the tables are read.
const AUDITS: usize = 40;
/// The node itself, which has no NIC here: only its tables are looked at.
const NODE: &str = "172.20.0.1";

fn plan() -> Result<AddressPlan> {
    let node_networks = vec!["172.20.0.0/24".parse()?, "192.168.0.0/19".parse()?];
    let pods = PodNetwork { network: "10.0.0.0/8".parse()?, node_prefix: 24 };
    Ok(AddressPlan::new(PlanSpec { node_networks, pod_networks: vec![pods] })?)
}

/// What the kernel is to hold with so many peers, as the daemon computes it.
pub fn overlay(peers: usize) -> Result<Overlay> {
    let plan = plan()?;
    let own: IpAddr = NODE.parse()?;
    let me = plan.node(own)?;
    let others: Vec<NodePlan> = (0..peers).map(|n| plan.node(crowd::address(n))).collect::<Result<_, _>>()?;
    let device = Device {
        name: DEVICE.to_owned(),
        vni: DEFAULT_VNI,
        port: DEFAULT_PORT,
        local: own,
        mac: me.mac,
        mtu: overlay_mtu(Family::V4, 1500),
    };
    let (subnet, encapsulation, assigned) =
        (plan.spec().node_networks[0], Encapsulation::Always, &plan.assigned());
    let local = Local { me: &me, subnet, underlay: None, encapsulation, assigned };
    Ok(desired(device, &local, &others))
}

/// Lets a host hold so many peers; the number of its VXLAN device.
pub fn hold(host: &Host, peers: usize) -> Result<u32> {
    ours(host, &overlay(peers)?)?;
    let link = host.run(Socket::open)??.link(Which::Name(DEVICE))?;
    Ok(link.context("the VXLAN device is gone")?.index)
}

/// What leads to one of the peers.
pub fn place(number: usize) -> Result<raw::Peer> {
    let plan = plan()?.node(crowd::address(number))?;
    let [block] = plan.blocks[..] else { bail!("pods of one family") };
    let (IpAddr::V4(node), IpAddr::V4(gateway)) = (plan.node, block.gateway) else { bail!("IPv4") };
    let IpAddr::V4(pods) = block.cidr.network() else { bail!("IPv4") };
    Ok(raw::Peer { node, mac: plan.mac.0, gateway, pods: (pods, block.cidr.prefix_len()) })
}

/// Who programs.
#[derive(Clone, Copy)]
enum Who {
    Ours,
    Iproute2,
    /// Nobody: the messages that we send, made before.
    Messages,
}

/// The row of programming from nothing.
pub fn program(bench: &Bench) -> Result<Findings> {
    let names = ["minionet", "ip -batch + bridge -batch"];
    let mut findings = Vec::new();
    let mut series = names.map(|name| Series { name: name.into(), points: Vec::new() });
    let mut each: Vec<Vec<Vec<f64>>> = Vec::new();
    for (peers, rounds) in PEERS {
        let wanted = overlay(peers)?;
        let (ip, bridge) = batches(&wanted);
        let mut sides = [Who::Ours, Who::Iproute2, Who::Messages];
        let samples = interleaved(bench.rounds(rounds), &mut sides, |who, _| {
            let host = Host::new("programmed")?;
            let took = match who {
                Who::Ours => ours(&host, &wanted)?,
                Who::Iproute2 => {
                    let start = Instant::now();
                    host.ip(&ip)?;
                    host.exec_with_input(["bridge", "-batch", "-"], bridge.as_bytes())?;
                    start.elapsed()
                }
                Who::Messages => messages(&host, peers)?,
            };
            holds(&host, &wanted)?;
            // Destroying it takes as long again. Left to the end of the namespace, the kernel would do so
            // during the next round, with the lock of all network configuration held.
            host.ip(&format!("link del {DEVICE}"))?;
            Ok(ms(took))
        })?;
        for (series, samples) in series.iter_mut().zip(&samples) {
            series.points.push((peers as f64, Summary::of(samples)));
        }
        let what = format!("{peers} peers from nothing against {}", names[1]);
        let (mine, theirs) = ((names[0], &samples[0][..]), (names[1], &samples[1][..]));
        findings.push(Finding::ratio(&what, Target::AtMost(1.1), "ms", mine, theirs));
        let per_peer = |samples: &Vec<f64>| samples.iter().map(|ms| ms * 1e3 / peers as f64).collect();
        each.push(samples.iter().map(per_peer).collect());
    }
    let (few, many) = (&each[1], &each[each.len() - 1]);
    let linear = Finding::ratio(
        "cost per peer with 5000 against that with 1000",
        Target::AtMost(1.2),
        "µs",
        ("5000 peers", &many[0]),
        ("1000 peers", &few[0]),
    );
    let linear = linear.with_floor("the same of the messages alone, made before", &ratios(&many[2], &few[2]));
    findings.push(linear.beside("messages of 5000", "µs", &many[2]).beside("of 1000", "µs", &few[2]).beside(
        "iproute2 with plain routes, 5000 against 1000",
        "×",
        &ratios(&many[1], &few[1]),
    ));
    let plot = Plot {
        name: "program",
        title: "Programming peers from nothing".into(),
        x: "peers",
        y: "ms",
        series: series.into(),
    };
    Ok(Findings { findings, plots: vec![plot] })
}

/// What the daemon does in a round: reads, compares, changes.
fn ours(host: &Host, wanted: &Overlay) -> Result<std::time::Duration> {
    let mut socket = host.run(Socket::open)??;
    socket.enlarge_buffers();
    let start = Instant::now();
    let changes = diff(wanted, &read(&mut socket, DEVICE)?)?;
    let failures = host.run(|| apply(&mut socket, &wanted.device, &changes))??;
    let took = start.elapsed();
    ensure!(failures.is_empty(), "{:?}", failures[0]);
    Ok(took)
}

/// The kernel's part of it: nothing but sending what leads to the peers, which was made before, on a host
/// that has the device.
fn messages(host: &Host, peers: usize) -> Result<std::time::Duration> {
    let device = hold(host, 0)?;
    let places: Vec<raw::Peer> = (0..peers).map(place).collect::<Result<_>>()?;
    let datagrams = raw::datagrams(device, &places);
    let mut raw = Raw::open(host)?;
    let start = Instant::now();
    datagrams.iter().try_for_each(|datagram| raw.send(datagram))?;
    Ok(start.elapsed())
}

/// The kernel holds exactly what it should.
fn holds(host: &Host, wanted: &Overlay) -> Result<()> {
    let mut socket = host.run(Socket::open)??;
    let changes = diff(wanted, &read(&mut socket, DEVICE)?)?;
    let kinds: BTreeSet<&str> = changes.iter().map(|change| change.object()).collect();
    ensure!(changes.is_empty(), "{} differences of {kinds:?}", changes.len());
    Ok(())
}

/// The same as anybody would write it, without next hop objects, in lines for `ip -batch` and `bridge -batch`.
fn batches(wanted: &Overlay) -> (String, String) {
    let (device, mut ip, mut bridge) = (&wanted.device, String::new(), String::new());
    let _ = writeln!(
        ip,
        "link add {} address {} mtu {} type vxlan id {} dstport {} local {} nolearning\nlink set {} addrgenmode none\nlink set {} up",
        device.name, device.mac, device.mtu, device.vni, device.port, device.local, device.name, device.name
    );
    for address in &wanted.addresses {
        let _ = writeln!(ip, "addr add {address}/32 dev {}", device.name);
    }
    for (address, mac) in &wanted.neighbours {
        let _ = writeln!(
            ip,
            "neigh add {address} lladdr {mac} dev {} nud permanent protocol {ROUTE_PROTOCOL_PEER}",
            device.name
        );
    }
    for (mac, node) in &wanted.fdb {
        let _ = writeln!(bridge, "fdb add {mac} dev {} dst {node} self permanent", device.name);
    }
    for (network, via) in &wanted.routes {
        if let NextHop::Vtep(via) = via {
            let _ = writeln!(
                ip,
                "route add {network} via {via} dev {} onlink proto {ROUTE_PROTOCOL_PEER}",
                device.name
            );
        }
    }
    for network in &wanted.refused {
        let _ = writeln!(
            ip,
            "route add unreachable {network} metric {REFUSING_METRIC} proto {ROUTE_PROTOCOL_PEER}"
        );
    }
    (ip, bridge)
}

/// Who looks.
#[derive(Clone, Copy)]
enum Look {
    Audit,
    Dumps,
}

/// The row of the audit that finds nothing.
pub fn audit(bench: &Bench) -> Result<Findings> {
    let (peers, _) = PEERS[PEERS.len() - 1];
    let wanted = overlay(peers)?;
    let host = Host::new("audited")?;
    ours(&host, &wanted)?;
    let mut socket = host.run(Socket::open)??;
    let device = socket.link(Which::Name(DEVICE))?.map_or(0, |link| link.index);
    let mut raw = Raw::open(&host)?;
    let samples = interleaved(bench.rounds(AUDITS), &mut [Look::Audit, Look::Dumps], |look, _| {
        let start = Instant::now();
        match look {
            Look::Audit => {
                let changes = diff(&wanted, &read(&mut socket, DEVICE)?)?;
                ensure!(changes.is_empty(), "there are {} differences", changes.len());
            }
            Look::Dumps => {
                let octets = raw.dumps(device)?;
                ensure!(octets > 100 * peers, "the dumps have {octets} octets");
            }
        }
        Ok(ms(start.elapsed()))
    })?;
    let ours = ("read and compared", samples[0].as_slice());
    let theirs = ("read and thrown away", samples[1].as_slice());
    let what = format!("audit of {peers} peers against the dumps alone");
    Ok(vec![Finding::ratio(&what, Target::AtMost(3.0), "ms", ours, theirs)].into())
}
