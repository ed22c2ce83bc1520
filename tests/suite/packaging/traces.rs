//! A host before minionet came, and after it went: everything is compared, byte for byte.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Node, PodSpec, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::install::tree;
use super::{LONG, bare};
use crate::cni::support::link_names;
use crate::overlay::{PATIENT, everybody_reaches_everybody};

/// What a host has of its own on the disk.
const DIRECTORIES: [&str; 6] = ["/etc", "/run", "/var/lib", "/var/log", "/opt", "/usr/local"];

/// What a systemd that runs there keeps for itself.
const SYSTEMD: &str = "/run/systemd";

/// How long an answer may take that comes at once, before the question is repeated.
const SOON: Duration = Duration::from_secs(2);

/// Kernel settings that count or are made up anew with each reading.
const UNSTEADY: [&str; 2] = ["nf_conntrack_count", "stat_refresh"];

pub fn trials() -> Vec<Trial> {
    trials![
        nothing_is_left_of_a_node_that_was_one => [Need::Program("nft")],
        cleanup_removes_what_it_announced_and_nothing_of_others => [Need::Program("nft")],
        cleanup_refuses_while_the_daemon_or_pods_run => [Need::Program("nft")],
        settings_that_others_changed_since_are_left => [Need::Program("nft")],
    ]
}

/// Everything on a host that could be a trace.
#[derive(PartialEq)]
pub struct Host(BTreeMap<String, String>);

impl Host {
    /// Looks at all of it.
    pub fn read(node: &Node) -> Result<Self> {
        let mut all = BTreeMap::new();
        for (name, command) in [
            ("links", "ip -d -j link show"),
            ("addresses", "ip -j addr show"),
            ("routes", "ip -d -j route show table all"),
            ("routes6", "ip -6 -d -j route show table all"),
            ("rules", "ip -d -j rule show"),
            ("rules6", "ip -6 -d -j rule show"),
            // What the kernel learns by itself comes and goes.
            ("neighbours", "ip -d -j neigh show nud permanent"),
            ("forwarding", "bridge -d -j fdb show"),
            ("ruleset", "nft -s list ruleset"),
            ("namespaces", "ls /run/netns"),
        ] {
            all.insert(name.to_owned(), node.exec(command.split(' '))?);
        }
        let files = node.run(|| -> Result<_> {
            let mut files = BTreeMap::new();
            for directory in DIRECTORIES {
                files.extend(
                    tree(Path::new(directory))?.into_iter().filter(|(path, _)| !path.starts_with(SYSTEMD)),
                );
            }
            Ok((files, settings(Path::new("/proc/sys/net"))?))
        })??;
        all.extend(files.0.into_iter().map(|(path, content)| (path.display().to_string(), content)));
        all.extend(files.1.into_iter().map(|(path, value)| (path.display().to_string(), value)));
        Ok(Host(all))
    }

    /// Looks at all of it when the kernel has done what it does a moment after others: it gives
    /// interfaces link-local addresses, and addresses their routes.
    pub fn settled(node: &Node) -> Result<Self> {
        Ok(eventually("the kernel to be through with addresses", LONG, || {
            let links = node.json(["ip", "-j", "-6", "addr", "show", "up"])?;
            let local = node.exec(["ip", "-6", "route", "show", "table", "local", "type", "local"])?;
            let mut link_local = false;
            for link in links.as_array().context("links")? {
                for address in link["addr_info"].as_array().into_iter().flatten() {
                    let text = address["local"].as_str().context("an address")?;
                    ensure!(address["tentative"].is_null(), "{address}");
                    let route = format!("local {text} dev {}", link["ifname"].as_str().context("a name")?);
                    ensure!(local.contains(&route), "{route} is not in {local}");
                    link_local |= link["ifname"] == "eth0" && address["scope"] == "link";
                }
            }
            ensure!(link_local, "eth0 has no link-local address: {links}");
            Self::read(node)
        })?)
    }

    /// What is not the same on another host.
    fn differences(&self, other: &Self) -> String {
        let mut text = String::new();
        for key in self.0.keys().chain(other.0.keys()) {
            let (before, after) = (self.0.get(key), other.0.get(key));
            let short = |value: Option<&String>| match value {
                None => "nothing".to_owned(),
                Some(value) => value.chars().take(400).collect(),
            };
            if before != after && !text.contains(&format!("\n{key}: ")) {
                // Writing to a string does not fail.
                let _ = write!(text, "\n{key}: {} became {}", short(before), short(after));
            }
        }
        text
    }
}

/// Every setting below a directory of `/proc/sys` that can be read.
fn settings(directory: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(settings(&path)?);
        } else if !UNSTEADY.iter().any(|name| path.ends_with(name))
            && let Ok(value) = fs::read_to_string(&path)
        {
            found.insert(path, value);
        }
    }
    Ok(found)
}

/// Waits until what minionet made known to the kernel's own bookkeeping has settled, and compares.
pub fn expect_same(node: &Node, before: &Host) -> Result<()> {
    eventually("the host to be as it was", LONG, || {
        let after = Host::read(node)?;
        ensure!(*before == after, "{}", before.differences(&after));
        anyhow::Ok(())
    })?;
    Ok(())
}

/// A cluster of both families whose first node is about to become one: its daemon has not run.
fn before_the_first_start(config: &str) -> Result<(Cluster, Host)> {
    let cluster = Cluster::builder("cncfdemo")
        .nodes(2)
        .config("pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]")
        .config(config)
        .start_without_daemons()?;
    let node = cluster.node(0);
    bare(node)?;
    // As the distribution leaves them; the testbed's hosts are not hardened.
    node.sysctl([("net.ipv6.conf.eth0.accept_ra", "1"), ("net.ipv4.conf.all.accept_redirects", "0")])?;
    // What the testbed keeps there, and what daemons log, is none of minionet's.
    node.write("/var/log/minionetd.log", "")?;
    let before = Host::settled(node)?;
    Ok((cluster, before))
}

/// A pod with everything that a pod can have.
fn demanding() -> PodSpec {
    let capabilities = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 8_000_000, "egressRate": 8_000_000, "egressBurst": 8_000_000},
    });
    let Value::Object(capabilities) = capabilities else { return PodSpec::default() };
    PodSpec { capabilities, ..PodSpec::default() }
}

/// Installs, runs, attaches pods that talk, and detaches most of them as a runtime does.
fn live(cluster: &Cluster) -> Result<()> {
    let node = cluster.node(0);
    node.minionetd(["install"])?;
    cluster.nodes().iter().try_for_each(Node::start_daemon)?;
    cluster.wait_ready()?;
    let pods = [
        node.add_pod_with("demanding", demanding())?,
        node.add_pod("plain")?,
        cluster.node(1).add_pod("far")?,
    ];
    // The peer may be a moment behind.
    eventually("the other node to answer", LONG, || pods[0].ping(pods[2].address(), SOON))?;
    everybody_reaches_everybody(&pods)?;
    pods.into_iter().try_for_each(|pod| Ok(pod.delete()?))
}

fn forget_log(node: &Node) -> Result<()> {
    Ok(node.write("/var/log/minionetd.log", "")?)
}

fn nothing_is_left_of_a_node_that_was_one() -> Result<()> {
    for order in [["cleanup", "uninstall"], ["uninstall", "cleanup"]] {
        let (cluster, before) = before_the_first_start("encapsulation = \"cross-subnet\"")?;
        let node = cluster.node(0);
        live(&cluster)?;
        node.kill_daemon(Signal::SIGTERM)?;
        for command in order {
            let said = node.minionetd([command])?;
            ensure!(!said.contains("keep"), "{command}: {said}");
        }
        forget_log(node)?;
        expect_same(node, &before).with_context(|| order.join(", then "))?;
        ensure!(node.minionetd(["cleanup"])?.trim() == "nothing of minionet's is here");
    }
    Ok(())
}

fn cleanup_removes_what_it_announced_and_nothing_of_others() -> Result<()> {
    let (cluster, _) = before_the_first_start("")?;
    let node = cluster.node(0);
    // What looks like ours to somebody in a hurry.
    node.ip(
        "link add mnetfake type veth peer name other\nlink add minionet0 type bridge\n\
         route add 10.99.0.0/24 via 172.20.0.254 proto 108\nneigh add 172.20.0.99 lladdr 02:00:00:00:00:01 dev eth0",
    )?;
    node.nft("add table ip minionet\nadd chain ip minionet c\nadd table inet other\nadd chain inet other c")?;
    node.write("/etc/cni/net.d/20-other.conflist", "{}\n")?;
    let before = Host::settled(node)?;
    cluster.nodes().iter().try_for_each(Node::start_daemon)?;
    cluster.wait_ready()?;
    let pods = [node.add_pod_with("demanding", demanding())?, node.add_pod("plain")?];
    everybody_reaches_everybody(&pods)?;
    node.kill_daemon(Signal::SIGKILL)?;
    let running = Host::settled(node)?;
    let announced = node.minionetd(["cleanup", "--pods", "--dry-run"])?;
    ensure!(Host::read(node)? == running, "a dry run changed something");
    let removed = node.minionetd(["cleanup", "--pods"])?;
    ensure!(
        announced.replace("to be removed; nothing was", "removed") == removed,
        "{announced} instead of {removed}"
    );
    for pod in pods {
        // The runtime's part; DEL has nothing left to do, and works.
        pod.delete()?;
    }
    node.exec(["rm", "-rf", "/run/minionet"])?;
    forget_log(node)?;
    expect_same(node, &before)
}

fn cleanup_refuses_while_the_daemon_or_pods_run() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let refuse = |words: &[&str], reason: &str| -> Result<()> {
            let before = link_names(node)?;
            let words = ["cleanup"].into_iter().chain(words.iter().copied());
            let error = node.minionetd(words).unwrap_err().to_string();
            ensure!(error.contains(reason), "{error}");
            ensure!(link_names(node)? == before && node.exists("/run/minionet/node.json")?);
            Ok(())
        };
        refuse(&["--pods"], "minionetd runs and would put everything back")?;
        let pods = [node.add_pod("one")?, node.add_pod("two")?];
        node.kill_daemon(Signal::SIGKILL)?;
        refuse(&[], "2 pods run on this network: drain the node first, or cut them off with --pods")?;
        pods[0].ping(pods[1].address(), PATIENT)?;
        // Pods whose namespaces are gone do not run any more.
        for pod in pods {
            pod.vanish()?;
        }
        eventually("the kernel to remove their interfaces", LONG, || {
            ensure!(!link_names(node)?.iter().any(|name| name.starts_with("mnet")));
            anyhow::Ok(())
        })?;
        node.minionetd(["cleanup"])?;
        ensure!(!node.exists("/run/minionet")? && !node.exists("/var/lib/minionet")?);
        Ok(())
    })
}

fn settings_that_others_changed_since_are_left() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let forward =
            || Ok::<_, anyhow::Error>(node.read("/proc/sys/net/ipv4/ip_forward")?.trim().to_owned());
        ensure!(forward()? == "1");
        node.kill_daemon(Signal::SIGTERM)?;
        let kept = node.minionetd(["cleanup", "--keep-sysctls", "--dry-run"])?;
        ensure!(!kept.contains("setting"), "{kept}");
        // A hardening tool turned it off already, and then somebody needed it: not ours any more.
        node.sysctl([("net.ipv4.ip_forward", "0")])?;
        let announced = node.minionetd(["cleanup", "--dry-run"])?;
        ensure!(!announced.contains("ip_forward"), "{announced}");
        node.sysctl([("net.ipv4.ip_forward", "1")])?;
        let announced = node.minionetd(["cleanup", "--dry-run"])?;
        ensure!(announced.contains("setting    net/ipv4/ip_forward back to 0"), "{announced}");
        node.minionetd(["cleanup"])?;
        ensure!(forward()? == "0");
        Ok(())
    })
}
