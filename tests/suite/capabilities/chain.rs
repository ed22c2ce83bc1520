//! The reference plugins behind ours, as they come with Debian.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{CNI_PLUGINS, Need, trials};
use netns_testbed::cni::ConfigList;
use netns_testbed::traffic::Ping;
use netns_testbed::{Binaries, Cluster, Namespace, Node, Pod, PodSpec, eventually};
use serde_json::{Map, Value, json};

use crate::cni::support::link_names;

use super::{DUAL, PATIENT, Teller, UNDERLAY, ask_tcp, ask_udp, ip, ports};

pub fn trials() -> Vec<Trial> {
    trials![
        a_chained_portmap_maps => [Need::CniPlugin("portmap"), Need::Program("iptables")],
        a_chained_bandwidth_limits => [Need::CniPlugin("bandwidth")],
        a_chained_tuning_changes_what_it_may => [Need::CniPlugin("tuning")],
        a_chained_tuning_changes_the_mac => [Need::CniPlugin("tuning")],
        a_chained_firewall_admits => [Need::CniPlugin("firewall"), Need::Program("iptables")],
    ]
}

/// Runs a test on a node whose runtime has a list with another plugin behind ours.
fn chained(plugin: Value, test: impl FnOnce(&Cluster, &Node) -> Result<()>) -> Result<()> {
    let ours = Binaries::locate()?;
    let directory = tempfile::tempdir()?;
    let kind = plugin["type"].as_str().context("a type")?;
    for (program, from) in
        [("minionet", ours.directory()), ("minionetd", ours.directory()), (kind, Path::new(CNI_PLUGINS))]
    {
        symlink(from.join(program), directory.path().join(program))?;
    }
    let binaries = Binaries::in_directory(directory.path());
    let list = json!({
        "name": "chained", "cniVersion": "1.0.0",
        "plugins": [{"type": "minionet", "capabilities": {"mac": true, "ips": true}}, plugin],
    });
    let builder = Cluster::builder("cncfdemo").nodes(1).underlay(UNDERLAY).config(DUAL);
    builder.binaries(binaries).run(|cluster| {
        let node = cluster.node(0);
        node.write("/etc/cni/net.d/05-chained.conflist", list.to_string())?;
        test(cluster, node)
    })
}

fn pod(node: &Node, capabilities: Value) -> Result<Pod> {
    let capabilities = capabilities.as_object().cloned().context("capabilities are an object")?;
    Ok(node.add_pod_with("web", PodSpec { capabilities, ..PodSpec::default() })?)
}

fn a_chained_portmap_maps() -> Result<()> {
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    chained(portmap, |cluster, node| {
        let web = pod(node, ports(&[(8080, 80, "tcp", ""), (8080, 80, "udp", "")]))?;
        let _server = Teller::start(&web, 80, "web")?;
        let server = (node.address(), 8080).into();
        ensure!(ask_tcp(cluster.external(), server, PATIENT)? == "web 198.51.100.1");
        ensure!(ask_udp(cluster.external(), server, PATIENT)? == "web 198.51.100.1");
        ensure!(ask_tcp(node, (ip("127.0.0.1"), 8080).into(), PATIENT)?.starts_with("web "));
        ensure!(ask_tcp(&web, server, PATIENT)?.starts_with("web "), "hairpin");
        // Ours alone: Debian's portmap (1.1.1) looks for the rules of each family in both.
        let list = ConfigList::load(node)?;
        let stdin = list.configuration(&list.plugins()[0], web.result(), &Map::new());
        let answer = node.cni_exec("CHECK", web.attachment(), stdin.to_string(), |call| call)?;
        ensure!(answer.success(), "{answer:?}");
        let address = web.address().to_string();
        web.delete()?;
        let rules = node.exec(["iptables-save", "-t", "nat"])?;
        ensure!(!rules.contains(&address), "{rules}");
        Ok(())
    })
}

fn a_chained_bandwidth_limits() -> Result<()> {
    let bandwidth = json!({"type": "bandwidth", "capabilities": {"bandwidth": true}});
    chained(bandwidth, |_, node| {
        let before = link_names(node)?;
        let limits = json!({"bandwidth": {"ingressRate": 16_000_000, "ingressBurst": 800_000,
            "egressRate": 16_000_000, "egressBurst": 800_000}});
        let web = pod(node, limits)?;
        let queues = node.exec(["tc", "qdisc", "show"])?;
        ensure!(queues.matches("qdisc tbf").count() == 2, "{queues}");
        web.check()?;
        web.delete()?;
        eventually("everything to be gone", PATIENT, || {
            let now = link_names(node)?;
            ensure!(now == before, "{now:?} instead of {before:?}");
            anyhow::Ok(())
        })?;
        Ok(())
    })
}

fn a_chained_tuning_changes_what_it_may() -> Result<()> {
    let tuning = json!({"type": "tuning", "mtu": 1300, "promisc": true,
"sysctl": {"net.core.somaxconn": "500"}});
    chained(tuning, |_, node| {
        let web = pod(node, json!({}))?;
        let shown = web.exec(["ip", "-o", "link", "show", "eth0"])?;
        for part in ["mtu 1300", "PROMISC"] {
            ensure!(shown.contains(part), "{part}: {shown}");
        }
        ensure!(web.exec(["sysctl", "-n", "net.core.somaxconn"])?.trim() == "500");
        web.check()?;
        Ok(web.delete()?)
    })
}

/// Setting a MAC, be it the same, makes a kernel forget its neighbours, permanent ones as well.
fn a_chained_tuning_changes_the_mac() -> Result<()> {
    let tuning = json!({"type": "tuning", "capabilities": {"mac": true}, "mac": "02:00:00:00:00:77"});
    chained(tuning, |cluster, node| {
        // By the configuration of tuning; by the runtime, which tells both of us.
        for (capabilities, mac) in
            [(json!({}), "02:00:00:00:00:77"), (json!({"mac": "02:00:00:00:00:78"}), "02:00:00:00:00:78")]
        {
            let web = pod(node, capabilities)?;
            let shown = web.exec(["ip", "-o", "link", "show", "eth0"])?;
            ensure!(shown.contains(mac), "{shown}");
            web.check().context("CHECK")?;
            // Each is the first packet, on either side.
            let outside = cluster.external().addresses();
            for (address, target) in web.addresses().into_iter().zip([&outside[0], &outside[1]]) {
                ensure!(address.is_ipv4() == target.is_ipv4(), "{address} and {target}");
                Ping::to(address).send(node, PATIENT).with_context(|| format!("to {address}"))?;
                web.ping(*target, PATIENT).with_context(|| format!("from {address}"))?;
            }
            web.check().context("CHECK after the first packets")?;
            nobody_knows_anybody(node, &web)?;
            for address in web.addresses() {
                Ping::to(address).send(node, PATIENT).with_context(|| format!("to {address}"))?;
            }
            // What is learned grows old, and is asked for anew.
            for (side, device) in sides(node, &web)? {
                let settings = format!(
                    "for settings in /proc/sys/net/ipv[46]/neigh/{device}; do \
                     echo 10 > $settings/base_reachable_time_ms; echo 0 > $settings/delay_first_probe_time; done"
                );
                side.exec(["sh", "-c", &settings])?;
            }
            nobody_knows_anybody(node, &web)?;
            for target in &outside {
                web.ping(*target, PATIENT).with_context(|| format!("to {target}"))?;
            }
            for (side, device) in sides(node, &web)? {
                eventually("what is known to grow old", PATIENT, || {
                    let fresh = side.exec(["ip", "neigh", "show", "nud", "reachable", "dev", device])?;
                    ensure!(fresh.is_empty(), "{fresh}");
                    anyhow::Ok(())
                })?;
            }
            for address in web.addresses() {
                Ping::to(address).send(node, PATIENT).with_context(|| format!("to {address}"))?;
            }
            web.delete()?;
        }
        Ok(())
    })
}

/// Both sides of a pod's link.
fn sides<'a>(node: &'a Node, pod: &'a Pod) -> Result<[(&'a Namespace, &'a str); 2]> {
    let host = pod.result()["interfaces"][0]["name"].as_str().context("the host's end")?;
    Ok([(node, host), (pod, "eth0")])
}

/// Makes both sides of a pod's link forget each other.
fn nobody_knows_anybody(node: &Node, pod: &Pod) -> Result<()> {
    for (side, device) in sides(node, pod)? {
        for family in ["-4", "-6"] {
            // What was on the way may be learned again.
            eventually("everybody to be forgotten", PATIENT, || {
                side.exec(["ip", family, "neigh", "flush", "nud", "all", "dev", device])?;
                let left = side.exec(["ip", family, "neigh", "show", "nud", "all", "dev", device])?;
                ensure!(!left.contains("lladdr") || left.contains("NOARP"), "{left}");
                anyhow::Ok(())
            })?;
        }
    }
    Ok(())
}

fn a_chained_firewall_admits() -> Result<()> {
    let firewall = json!({"type": "firewall", "backend": "iptables"});
    chained(firewall, |cluster, node| {
        // A host whose policy admits nobody: the firewall plugin makes the exceptions.
        node.exec(["iptables", "-P", "FORWARD", "DROP"])?;
        let web = pod(node, json!({}))?;
        web.ping(cluster.external().addresses()[0], PATIENT)?;
        web.check()?;
        let address = web.address().to_string();
        web.delete()?;
        let rules = node.exec(["iptables-save", "-t", "filter"])?;
        ensure!(!rules.contains(&address), "{rules}");
        Ok(())
    })
}
