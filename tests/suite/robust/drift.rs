//! Whatever is ours is deleted or changed by others, one thing by one and all at once, while the
//! daemon watches, while it hangs and while it is down: afterwards everything is as it was.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Node, Tables, eventually};
use nix::sys::signal::Signal;

use super::{LONG, print, wait_for_log};
use crate::overlay::{DEVICE, PATIENT, everybody_reaches_everybody, pod_per_node, tables_for};

/// No audit, and no answer of DNS that is anything new: only notifications are left to repair.
const UNAUDITED: &str = "audit_interval = \"1h\"\nrefresh_min = \"30s\"\nrefresh_max = \"1h\"\n";

pub fn trials() -> Vec<Trial> {
    trials![
        every_drift_is_repaired_whatever_the_daemon_was_doing => [Need::Program("nft")],
        lost_notifications_are_made_up_for,
    ]
}

/// What is done on node 1: each line is a command, but for those about a kernel setting.
const DAMAGES: [&[&str]; 36] = [
    &["ip link del minionet"],
    &["ip link set minionet down"],
    &["ip link set minionet mtu 1300"],
    &["ip link set minionet address 02:00:00:00:00:01"],
    &["ip link set minionet type vxlan local 172.20.0.77"],
    &["ip addr del 10.32.1.1/32 dev minionet"],
    &["ip addr flush dev minionet"],
    &["ip addr add 10.32.99.1/32 dev minionet"],
    &["ip route del 10.32.2.0/24"],
    &["ip route del 10.32.3.0/24"],
    &["ip route flush proto 109"],
    &["ip route replace 10.32.2.0/24 via 10.32.3.1 dev minionet onlink proto 109"],
    &["ip route add 10.32.77.0/24 via 10.32.2.1 dev minionet onlink proto 109"],
    &["ip route del unreachable 10.32.0.0/16"],
    &["ip route del unreachable 10.32.0.0/16", "ip route add unreachable 10.32.0.0/16 proto 109"],
    &[
        "ip route del 10.32.2.0/24",
        "ip route add 10.32.2.0/24 via 10.32.2.1 dev minionet onlink proto 109 metric 50",
    ],
    // An object for 10.32.99.1, which is nobody's; more of them in overlay::scale.
    &["ip nexthop add id 169894657 via 10.32.2.1 dev minionet onlink proto 109"],
    &["ip neigh del 10.32.2.1 dev minionet"],
    &["ip neigh flush dev minionet nud permanent"],
    &["ip neigh replace 10.32.2.1 lladdr 02:00:00:00:00:09 dev minionet nud permanent"],
    &["ip neigh replace 10.32.2.1 lladdr 0e:6d:00:00:00:02 dev minionet nud reachable"],
    &["bridge fdb del 0e:6d:00:00:00:02 dev minionet dst 172.20.0.2"],
    &["bridge fdb append 0e:6d:00:00:00:02 dev minionet dst 172.20.0.3"],
    &["bridge fdb replace 0e:6d:00:00:00:03 dev minionet dst 172.20.0.2"],
    &["nft flush ruleset"],
    &["nft delete element inet minionet members4 { 172.20.0.2 }"],
    &["nft add element inet minionet members4 { 172.20.0.99 }"],
    &["sysctl net.ipv4.ip_forward 0"],
    &["sysctl net.ipv4.conf.eth0.rp_filter 1"],
    &["sysctl net.ipv4.conf.minionet.rp_filter 1"],
    &["sysctl net.ipv4.conf.minionet.accept_redirects 1"],
    &["sysctl net.ipv6.conf.minionet.accept_redirects 1"],
    &["sysctl net.ipv6.conf.minionet.accept_ra 2"],
    // Made anew, as another VXLAN device.
    &[
        "ip link del minionet",
        "ip link add minionet type vxlan id 9 dstport 4790 local 172.20.0.1",
        "ip link set minionet up",
    ],
    // The same, but bound to the interface below it, and learning.
    &[
        "ip link del minionet",
        "ip link add minionet type vxlan id 4097 dstport 4789 local 172.20.0.1 dev eth0 learning",
    ],
    // Everything at once, as far as it lies on its own device.
    &[
        "nft flush ruleset",
        "ip route flush proto 109",
        "ip neigh flush dev minionet nud permanent",
        "bridge fdb del 0e:6d:00:00:00:02 dev minionet dst 172.20.0.2",
        "bridge fdb append 0e:6d:00:00:00:03 dev minionet dst 172.20.0.2",
        "ip addr del 10.32.1.1/32 dev minionet",
        "ip addr add 10.32.99.1/24 dev minionet",
        "ip link set minionet mtu 1300 address 02:00:00:00:00:01",
        "ip link set minionet down",
        "sysctl net.ipv4.ip_forward 0",
        "sysctl net.ipv6.conf.minionet.accept_ra 1",
    ],
];

/// What the daemon does when the damage is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Daemon {
    Watches,
    Hangs,
    IsDown,
}

impl Daemon {
    /// Does the damage; returns when the daemon can begin to repair it.
    fn suffers(self, node: &Node, damage: &[&str]) -> Result<()> {
        match self {
            // While several things are done one after the other it would repair the first of them.
            Self::Watches if damage.len() == 1 => inflict(node, damage),
            Self::Watches | Self::Hangs => {
                node.signal_daemon(Signal::SIGSTOP)?;
                inflict(node, damage)?;
                Ok(node.signal_daemon(Signal::SIGCONT)?)
            }
            Self::IsDown => {
                node.kill_daemon(Signal::SIGKILL)?;
                inflict(node, damage)?;
                Ok(node.start_daemon()?)
            }
        }
    }
}

/// Executes lines whose first word is the program.
fn inflict(node: &Node, lines: &[&str]) -> Result<()> {
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["sysctl", key, value] => node.sysctl([(key, value)])?,
            _ => drop(node.exec(words).with_context(|| format!("`{line}`"))?),
        }
    }
    Ok(())
}

/// Everything that is ours on a node.
#[derive(PartialEq, Debug)]
struct State {
    device: Vec<String>,
    tables: Tables,
    /// Routes of all devices, and of none, with our protocol number.
    routes: String,
    settings: Vec<String>,
    rules: String,
}

/// The kernel settings that the overlay depends on, and what they are.
const SETTINGS: [(&str, &str); 6] = [
    ("ipv4/ip_forward", "1\n"),
    ("ipv4/conf/eth0/rp_filter", "2\n"),
    ("ipv4/conf/minionet/rp_filter", "2\n"),
    ("ipv4/conf/minionet/accept_redirects", "0\n"),
    ("ipv6/conf/minionet/accept_redirects", "0\n"),
    ("ipv6/conf/minionet/accept_ra", "0\n"),
];

impl State {
    fn read(node: &Node) -> Result<Self> {
        // Without the counters.
        let rules = node.exec(["nft", "-s", "list", "ruleset"])?;
        // An IPv4 route that was added anew comes before others to the same network.
        let listed = node.exec(["ip", "route", "show", "proto", "109"])?;
        let mut routes: Vec<&str> = listed.lines().map(str::trim_end).collect();
        routes.sort_unstable();
        let settings = settings(node)?;
        let (device, tables) = (device(node)?, Tables::read(node, DEVICE)?);
        Ok(Self { device, tables, routes: routes.join("\n"), settings, rules })
    }
}

fn settings(node: &Node) -> Result<Vec<String>> {
    let setting = |(key, _): &(&str, &str)| node.read(format!("/proc/sys/net/{key}"));
    Ok(SETTINGS.iter().map(setting).collect::<Result<_, _>>()?)
}

/// What is set on the device itself.
fn device(node: &Node) -> Result<Vec<String>> {
    let shown = node.json(["ip", "-j", "-d", "addr", "show", "dev", DEVICE])?;
    let addresses = shown[0]["addr_info"].as_array().context("addresses")?;
    let mut device: Vec<String> =
        addresses.iter().map(|address| format!("{}/{}", address["local"], address["prefixlen"])).collect();
    device.sort();
    device.extend(["address", "mtu"].map(|key| format!("{key} {}", shown[0][key])));
    device.push(format!("up {}", shown[0]["flags"].to_string().contains("\"UP\"")));
    let data = &shown[0]["linkinfo"]["info_data"];
    device.extend(["id", "port", "local", "link", "learning"].map(|key| format!("{key} {}", data[key])));
    Ok(device)
}

fn every_drift_is_repaired_whatever_the_daemon_was_doing() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(3).ttl(3600).config(UNAUDITED).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        // As on many hosts: without it there is no filter to be made loose.
        node.sysctl([("net.ipv4.conf.all.rp_filter", "1")])?;
        eventually("all peers", PATIENT, || {
            let found = Tables::read(node, DEVICE)?;
            ensure!(found == tables_for([2, 3]), "{found:?}");
            let settings = settings(node)?;
            ensure!(settings == SETTINGS.map(|(_, value)| value), "{settings:?}");
            anyhow::Ok(())
        })?;
        let expected = State::read(node)?;
        for daemon in [Daemon::Watches, Daemon::Hangs, Daemon::IsDown] {
            let mut slowest = (Duration::ZERO, "");
            for damage in DAMAGES {
                let took = repair(node, daemon, damage, &expected)
                    .with_context(|| format!("{damage:?} while the daemon {daemon:?}"))?;
                print(&format!(
                    "drift: {:>7.1} ms, {daemon:?}: {}",
                    took.as_secs_f64() * 1e3,
                    damage.join("; ")
                ));
                slowest = slowest.max((took, damage[0]));
            }
            print(&format!("drift: {daemon:?}, slowest: {:?} ({})", slowest.0, slowest.1));
            everybody_reaches_everybody(&pods)?;
        }
        Ok(())
    })
}

/// The daemon hangs while so much is changed that the kernel loses notifications (ENOBUFS), that
/// of a removed route among them: nothing is left but to look at everything.
fn lost_notifications_are_made_up_for() -> Result<()> {
    let config = format!("{UNAUDITED}log_level = \"debug\"\n");
    Cluster::builder("cncfdemo").nodes(3).ttl(3600).config(&config).run(|cluster| {
        let node = cluster.node(0);
        let holds = || {
            let found = Tables::read(node, DEVICE)?;
            ensure!(found == tables_for([2, 3]), "{found:?}");
            anyhow::Ok(())
        };
        eventually("all peers", PATIENT, holds)?;
        node.signal_daemon(Signal::SIGSTOP)?;
        let mut flood = String::new();
        for number in 0..8_000 {
            let (high, low) = (number / 250, number % 250);
            flood.push_str(&format!("route add 198.18.{high}.{low}/32 dev eth0\n"));
        }
        node.ip(&flood)?;
        node.ip(&flood.replace("route add", "route del"))?;
        node.ip("route del 10.32.2.0/24")?;
        let start = Instant::now();
        node.signal_daemon(Signal::SIGCONT)?;
        eventually("the repair", LONG, holds)?;
        print(&format!("drift: {:.1} ms after lost notifications", start.elapsed().as_secs_f64() * 1e3));
        wait_for_log(node, &["notifications were lost"])?;
        // And what happens later is noticed as before.
        node.ip("route del 10.32.3.0/24")?;
        eventually("another repair", LONG, holds)?;
        Ok(())
    })
}

/// How long after the damage everything is as it was.
fn repair(node: &Node, daemon: Daemon, damage: &[&str], expected: &State) -> Result<Duration> {
    daemon.suffers(node, damage)?;
    let start = Instant::now();
    eventually("the repair", LONG, || {
        let found = State::read(node)?;
        ensure!(found == *expected, "{found:?} instead of {expected:?}");
        anyhow::Ok(())
    })?;
    let took = start.elapsed();
    // A repair that goes on for ever would show as changes that follow this one. The last of them
    // may be told after it was seen.
    let changes = || Ok::<_, anyhow::Error>(node.log()?.matches("kernel:").count());
    let right = eventually("the repair to end", PATIENT, || {
        let before = changes()?;
        let right = State::read(node)? == *expected;
        ensure!(!right || changes()? == before, "the repair goes on: {}", node.log()?);
        anyhow::Ok(right)
    })?;
    ensure!(right, "it was right for a moment only");
    Ok(took)
}
