//! What an operator sets, and what is told.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_core::handoff::NodeFacts;
use minionet_tests::trials;
use netns_testbed::{CNI_CONFIG, Cluster, ENVIRONMENT_FILE, Tables, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    DEVICE, HASTY, PATIENT, everybody_reaches_everybody, ip, pod_per_node, tables_for, wait_for_queries,
    wait_for_tables,
};

pub fn trials() -> Vec<Trial> {
    trials![
        the_name_of_the_cluster_is_enough,
        a_mistake_is_told_with_its_place_and_a_remedy,
        a_mistake_at_a_reload_changes_nothing,
        an_impossible_plan_is_refused_with_its_numbers,
        the_plan_is_printed_for_people_and_for_programs,
        the_log_can_be_read_by_programs,
        a_node_is_open_for_pods_only_when_it_is_ready,
    ]
}

fn the_name_of_the_cluster_is_enough() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").nodes(2).env("CLOUD_PROVIDER", "--cloud-provider=aws");
    let hostname = "--hostname-override=ip-172-20-0-12.us-west-2.compute.internal";
    builder.env("KUBELET_HOSTNAME", hostname).run(|cluster| {
        let node = cluster.node(0);
        ensure!(node.read(ENVIRONMENT_FILE)?.starts_with("CLUSTER_NAME=cncfdemo\nCLOUD_PROVIDER="));
        ensure!(!node.exists("/etc/minionet")?, "there is more configuration");
        let facts = NodeFacts::parse(&node.read("/run/minionet/node.json")?)?;
        ensure!(facts.cluster == "cncfdemo" && facts.node == ip("172.20.0.1"), "{facts:?}");
        everybody_reaches_everybody(&pod_per_node(cluster)?)
    })
}

fn a_mistake_is_told_with_its_place_and_a_remedy() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(1).start_without_daemons()?;
    let node = cluster.node(0);
    let refusal = |words: &[&str]| -> Result<String> {
        let error = node.minionetd(words.iter().copied()).err().context("it was accepted")?;
        Ok(error.to_string())
    };
    node.write("/etc/minionet/minionet.toml", "cluster_name = \"cncfdemo\"\n\nvnii = 5\nport = 70000\n")?;
    for command in ["run", "plan"] {
        let error = refusal(&[command])?;
        for part in [
            "/etc/minionet/minionet.toml:3: no setting is named \"vnii\"; did you mean vni?",
            "/etc/minionet/minionet.toml:4: port: \"70000\" is not a number from 1 to 65535",
        ] {
            ensure!(error.contains(part), "{error} lacks {part}");
        }
    }
    node.write("/etc/minionet/minionet.toml", "")?;
    let error = refusal(&["run"])?;
    ensure!(error.contains("set CLUSTER_NAME in /etc/sysconfig/kubernetes-minions"), "{error}");
    let error = refusal(&["run", "--cluster-name", "a", "--config", "/nowhere.toml"])?;
    ensure!(error.contains("/nowhere.toml"), "{error}");
    Ok(())
}

fn a_mistake_at_a_reload_changes_nothing() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).run(|cluster| {
        let (node, pods) = (cluster.node(0), pod_per_node(cluster)?);
        wait_for_tables(node, &tables_for([2]))?;
        let before = node.read("/run/minionet/node.json")?;
        for (config, said) in
            [("vni = 0\n", "vni"), ("pod_network = \"10.32.0.0/30\"\n", "does not fit 10.32.0.0/30")]
        {
            node.write("/etc/minionet/minionet.toml", config)?;
            node.signal_daemon(Signal::SIGHUP)?;
            eventually("the refusal", PATIENT, || {
                let log = node.log()?;
                let mut lines =
                    log.lines().filter(|line| line.contains("ERROR the configuration stays as it was"));
                ensure!(lines.any(|line| line.contains(said)), "{log}");
                anyhow::Ok(())
            })?;
        }
        ensure!(Tables::read(node, DEVICE)? == tables_for([2]));
        ensure!(node.read("/run/minionet/node.json")? == before);
        everybody_reaches_everybody(&pods)
    })
}

fn an_impossible_plan_is_refused_with_its_numbers() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(1).start_without_daemons()?;
    let words = ["run", "--cluster-name", "a", "--node-networks", "172.20.0.0/16"];
    let error = cluster.node(0).minionetd(words).err().context("it was accepted")?.to_string();
    for part in ["172.20.0.0/16", "65536", "10.32.0.0/12", "4096 blocks of /24", "10.0.0.0/8"] {
        ensure!(error.contains(part), "{error} lacks {part}");
    }
    Ok(())
}

fn the_plan_is_printed_for_people_and_for_programs() -> Result<()> {
    let networks = "node_networks = [\"172.20.0.0/24\"]\npod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]";
    Cluster::builder("cncfdemo").nodes(1).config(networks).run(|cluster| {
        let node = cluster.node(0);
        let plan = |words: &[&str]| {
            let words = ["plan", "--cluster-name", "cncfdemo"].iter().chain(words).copied();
            node.minionetd(words)
        };
        // Without an address, this node's; with a pod's, the node that owns it.
        for words in [&[][..], &["172.20.0.1"], &["10.32.1.99"], &["fd00:32:0:1::99"]] {
            let table = plan(words)?;
            for part in ["172.20.0.1 ", "0e:6d:00:00:00:01", "10.32.1.0/24", "fd00:32:0:1::/64", "10.32.1.1"]
            {
                ensure!(table.contains(part), "{words:?}: {table} lacks {part}");
            }
        }
        let all: Value = serde_json::from_str(&plan(&["--all", "--json"])?)?;
        let nodes = all["nodes"].as_array().context("nodes")?;
        ensure!(nodes.len() == 256 && all["node_networks"][0] == "172.20.0.0/24", "{all}");
        ensure!(
            nodes[12]["node"] == "172.20.0.12" && nodes[12]["mac"] == "0e:6d:00:00:00:0c",
            "{}",
            nodes[12]
        );
        ensure!(nodes[12]["blocks"][0]["cidr"] == "10.32.12.0/24", "{}", nodes[12]);
        ensure!(nodes[12]["blocks"][1]["gateway"] == "fd00:32:0:c::1", "{}", nodes[12]);

        let error = plan(&["192.0.2.1"]).err().context("an address outside was accepted")?.to_string();
        ensure!(error.contains("192.0.2.1 is outside of node_networks (172.20.0.0/24)"), "{error}");
        Ok(())
    })
}

fn the_log_can_be_read_by_programs() -> Result<()> {
    let builder = Cluster::builder("cncfdemo").nodes(2).daemon_args(&["--log-format", "json"]);
    builder.config(HASTY).run(|cluster| {
        // A problem is told as well.
        cluster.dns().add(&cluster.dns_name(), &[ip("198.51.100.9")])?;
        let node = cluster.node(0);
        eventually("the problem to be told", PATIENT, || {
            let log = node.log()?;
            ensure!(log.contains("198.51.100.9"), "{log}");
            anyhow::Ok(())
        })?;
        let log = node.log()?;
        let lines: Vec<Value> =
            log.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(log)?;
        for line in &lines {
            ensure!(["timestamp", "level", "message"].iter().all(|key| line[key].is_string()), "{line}");
        }
        let said = |level: &str, part: &str| {
            let mut lines = lines.iter().filter(|line| line["level"] == level);
            lines.any(|line| line["message"].as_str().is_some_and(|text| text.contains(part)))
        };
        ensure!(said("INFO", "minionetd starts") && said("INFO", "ready") && said("WARN", "198.51.100.9"));
        ensure!(lines.iter().any(|line| line["node"] == "172.20.0.1" && line["pods"] == "10.32.1.0/24"));
        Ok(())
    })
}

fn a_node_is_open_for_pods_only_when_it_is_ready() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(2).config(HASTY).start_without_daemons()?;
    let node = cluster.node(0);
    cluster.leave(0)?;
    node.start_daemon()?;
    wait_for_queries(&cluster, 8)?;
    for file in [CNI_CONFIG, "/run/minionet/node.json", "/var/lib/minionet/node.json"] {
        ensure!(!node.exists(file)?, "{file} is there although DNS does not name the node");
    }
    cluster.join(0)?;
    eventually("the node to be ready", PATIENT, || node.ready())?;
    ensure!(node.read("/run/minionet/node.json")? == node.read("/var/lib/minionet/node.json")?);
    let list: Value = serde_json::from_str(&node.read(CNI_CONFIG)?)?;
    ensure!(list["name"] == "minionet" && list["plugins"][0]["type"] == "minionet", "{list}");
    let pod = node.add_pod("web")?;
    pod.ping(node.address(), PATIENT)?;

    // What is replaced is another file for a moment, and none of them stays.
    eventually("no file to be half written", PATIENT, || {
        let left = node.exec(["find", "/etc/cni/net.d", "/run/minionet", "-name", ".*"])?;
        ensure!(left.is_empty(), "{left}");
        anyhow::Ok(())
    })?;
    Ok(())
}
