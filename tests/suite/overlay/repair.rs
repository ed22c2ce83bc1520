//! What others do to the kernel's tables is undone at once, and what is theirs is left alone.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Node, Pod, Tables, eventually};

use super::{DEVICE, PATIENT, SILENCE, ip, pod_per_node, tables_for, wait_for_tables};

/// No audit, and no answer of DNS that is anything new: only notifications are left to repair.
const UNAUDITED: &str = "audit_interval = \"1h\"\nrefresh_min = \"30s\"\nrefresh_max = \"1h\"\n";

pub fn trials() -> Vec<Trial> {
    trials![
        every_object_is_repaired_at_once,
        flushed_rules_are_repaired_at_once => [Need::Program("nft")],
        an_interface_that_was_away_is_used_again,
        what_belongs_to_others_is_left_alone,
    ]
}

/// What is done, with `ip -batch`, or `bridge` where the line begins with that word.
const DAMAGES: [&str; 13] = [
    "link del minionet",
    "link set minionet down",
    "link set minionet mtu 1300",
    "link set minionet address 02:00:00:00:00:01",
    "addr del 10.32.1.1/32 dev minionet",
    "addr add 10.32.99.1/32 dev minionet",
    "route del 10.32.2.0/24",
    "route replace 10.32.2.0/24 via 10.32.3.1 dev minionet onlink proto 109",
    "neigh del 10.32.2.1 dev minionet",
    "neigh replace 10.32.2.1 lladdr 02:00:00:00:00:09 dev minionet nud permanent proto 109",
    "bridge fdb del 0e:6d:00:00:00:02 dev minionet dst 172.20.0.2",
    "bridge fdb append 0e:6d:00:00:00:02 dev minionet dst 172.20.0.3",
    "route add 10.32.77.0/24 via 10.32.2.1 dev minionet onlink proto 109",
];

fn every_object_is_repaired_at_once() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(3).ttl(3600).config(UNAUDITED).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        let expected = tables_for([2, 3]);
        let device = device(node)?;
        for damage in DAMAGES {
            match damage.strip_prefix("bridge ") {
                Some(words) => drop(node.exec(std::iter::once("bridge").chain(words.split(' ')))?),
                None => node.ip(damage)?,
            }
            eventually("the repair", PATIENT, || {
                ensure!(self::device(node)? == device, "{:?} instead of {device:?}", self::device(node)?);
                ensure!(Tables::read(node, DEVICE)? == expected, "{:?}", Tables::read(node, DEVICE)?);
                anyhow::Ok(())
            })
            .context(damage)?;
            for pod in &pods[1..] {
                pods[0].ping(pod.address(), PATIENT).context(damage)?;
            }
        }
        Ok(())
    })
}

/// What is set on the device itself.
fn device(node: &Node) -> Result<Vec<String>> {
    let shown = node.json(["ip", "-j", "-d", "addr", "show", "dev", DEVICE])?;
    let addresses = shown[0]["addr_info"].as_array().context("addresses")?;
    let addresses = addresses.iter().filter(|address| address["scope"] == "global");
    let mut device: Vec<String> =
        addresses.map(|address| format!("{}/{}", address["local"], address["prefixlen"])).collect();
    device.extend(["address", "mtu"].map(|key| format!("{key} {}", shown[0][key])));
    device.push(format!("up {}", shown[0]["flags"].to_string().contains("\"UP\"")));
    Ok(device)
}

fn flushed_rules_are_repaired_at_once() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).ttl(3600).config(UNAUDITED).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        // Without what was counted: pods' kernels speak from their link-local addresses.
        let rules = || node.exec(["nft", "-s", "list", "ruleset"]);
        let before = rules()?;
        for damage in ["flush ruleset", "delete table inet minionet", "flush table inet minionet"] {
            node.nft(damage)?;
            eventually("the rules to be there again", PATIENT, || {
                let now = rules()?;
                ensure!(now == before, "{now} instead of {before}");
                anyhow::Ok(())
            })
            .context(damage)?;
            pods[0].ping(ip("198.51.100.1"), PATIENT).context(damage)?;
        }
        Ok(())
    })
}

fn an_interface_that_was_away_is_used_again() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        let reach = |pods: &[Pod]| pods[0].ping(pods[1].address(), SILENCE);
        node.remove_nic("eth0")?;
        ensure!(reach(&pods).is_err(), "the far pod answers without an underlay");
        ensure!(Tables::read(node, DEVICE)? == tables_for([2]), "the peers went with the interface");
        node.restore_nic("eth0")?;
        eventually("the far pod to answer", PATIENT, || reach(&pods))?;
        wait_for_tables(node, &tables_for([2]))
    })
}

fn what_belongs_to_others_is_left_alone() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config("audit_interval = \"1s\"").run(|cluster| {
        let node = cluster.node(0);
        // No address of the kernel's making, whose check for duplicates ends at some moment.
        node.ip("link add other type bridge\nlink set other addrgenmode none\naddr add 192.0.2.1/24 dev other\nlink set other up\n\
             route add 203.0.113.0/24 via 192.0.2.9\nroute add 10.32.200.0/24 via 192.0.2.9\n\
             neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev other nud permanent\n\
             link add vxother type vxlan id 77 dstport 8472 local 172.20.0.1\nlink set vxother up")?;
        node.exec("bridge fdb append 02:00:00:00:00:07 dev vxother dst 192.0.2.7".split(' '))?;
        let theirs = || -> Result<Vec<String>> {
            let asked = ["ip -o addr show dev other", "ip route show dev other", "ip neigh show dev other"];
            let more = ["bridge fdb show dev vxother", "ip route show default"];
            asked.iter().chain(&more).map(|words| Ok(node.exec(words.split(' '))?)).collect()
        };
        let before = theirs()?;
        // Provokes a repair, and then waits for it and for an audit.
        node.ip("route del 10.32.2.0/24")?;
        wait_for_tables(node, &tables_for([2]))?;
        node.ip("route del 10.32.2.0/24")?;
        wait_for_tables(node, &tables_for([2]))?;
        ensure!(theirs()? == before, "{:?} instead of {before:?}", theirs()?);
        Ok(())
    })
}
