//! Clusters and the CNI driver, with scripts in place of the programs under test.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, copy_program, trials};
use netns_testbed::traffic::Ping;
use netns_testbed::{Binaries, CNI_CONFIG, Cluster, ClusterBuilder, PodSpec, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{PATIENT, SILENCE, ip};

/// Opens the node for pods as the daemon does, tells its environment, and stays.
const DAEMON: &str = r#"#!/bin/sh
echo "args=$* cluster=$CLUSTER_NAME extra=$EXTRA home=$HOME"
mkdir -p /etc/cni/net.d
cat > /etc/cni/net.d/tmp <<'LIST'
{"name": "minionet", "cniVersion": "1.0.0", "cniVersions": ["0.3.1", "1.1.0"], "plugins": [
 {"type": "minionet", "step": 1, "capabilities": {"mac": true}}, {"type": "minionet", "step": 2}]}
LIST
mv /etc/cni/net.d/tmp /etc/cni/net.d/10-minionet.conflist
exec sleep 100000
"#;

/// Writes down how it was called, and on ADD creates the interface and prints a result.
const PLUGIN: &str = r#"#!/bin/sh
read -r config
echo "$CNI_COMMAND|$CNI_CONTAINERID|$CNI_NETNS|$CNI_IFNAME|$config" >> /var/log/calls
case "$CNI_CONTAINERID:$CNI_COMMAND" in
*:ADD)
  case "$config" in *'"step":1'*) nsenter --net="$CNI_NETNS" ip link add "$CNI_IFNAME" type veth peer name other ;; esac
  echo '{"cniVersion":"1.1.0","ips":[{"address":"10.32.1.5/32"},{"address":"fd00:32:0:1::5/128"}]}' ;;
*:DEL) ;;
*) echo '{"code":4,"msg":"no such verb"}'; exit 1 ;;
esac
"#;

pub fn trials() -> Vec<Trial> {
    trials![
        daemons_run_as_a_service_would,
        plugins_are_called_as_libcni_does,
        subnets_are_joined_by_a_router,
        a_partition_crosses_the_router => [Need::Program("nft")],
        nodes_join_and_leave_by_dns_alone,
        fifty_nodes_come_up,
    ]
}

/// A directory with the scripts, removed with the value.
fn stand_ins() -> Result<(tempfile::TempDir, Binaries)> {
    // Not below /run: each node has its own.
    let directory = tempfile::tempdir()?;
    for (name, script) in [("minionetd", DAEMON), ("minionet", PLUGIN)] {
        let path: PathBuf = directory.path().join(name);
        let text = path.with_extension("text");
        fs::write(&text, script)?;
        copy_program(&text, &path)?;
    }
    let binaries = Binaries::in_directory(directory.path());
    Ok((directory, binaries))
}

fn builder(binaries: &Binaries) -> ClusterBuilder {
    Cluster::builder("cncfdemo").binaries(binaries.clone())
}

fn daemons_run_as_a_service_would() -> Result<()> {
    let (_directory, binaries) = stand_ins()?;
    let builder = builder(&binaries).nodes(1).env("EXTRA", "more").config("vni = 5").daemon_args(&["-v"]);
    builder.run(|cluster| {
        let node = cluster.node(0);
        ensure!(node.log()? == "args=run -v cluster=cncfdemo extra=more home=\n", "{}", node.log()?);
        ensure!(node.read("/etc/resolv.conf")?.starts_with("nameserver 172.20.0.253\n"));
        ensure!(node.read("/etc/minionet/minionet.toml")? == "vni = 5\n");
        ensure!(node.start_daemon().is_err(), "a second daemon was started");

        node.kill_daemon(Signal::SIGKILL)?;
        node.exec(["rm", CNI_CONFIG])?;
        ensure!(node.ready().is_err());
        node.start_daemon()?;
        cluster.wait_ready()?;
        ensure!(cluster.dump().contains("cluster=cncfdemo"), "the dump lacks the log");
        Ok(())
    })
}

fn plugins_are_called_as_libcni_does() -> Result<()> {
    let (_directory, binaries) = stand_ins()?;
    builder(&binaries).nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let capabilities = json!({"mac": "02:00:00:00:00:01", "ips": []});
        let capabilities = capabilities.as_object().cloned().context("an object")?;
        let pod = node.add_pod_with("web", PodSpec { capabilities, ..PodSpec::default() })?;
        ensure!(
            pod.addresses() == [ip("10.32.1.5"), ip("fd00:32:0:1::5")] && pod.address() == ip("10.32.1.5")
        );
        ensure!(pod.exec(["ip", "-o", "link"])?.contains("eth0"), "the plugin was in another namespace");
        pod.delete()?;
        ensure!(!node.exists("/run/netns/web")?);

        let log = node.read("/var/log/calls")?;
        let calls: Vec<Vec<&str>> = log.lines().map(|line| line.splitn(5, '|').collect()).collect();
        ensure!(calls.iter().map(|call| call[0]).eq(["ADD", "ADD", "DEL", "DEL"]), "{log}");
        let configs: Vec<Value> =
            calls.iter().map(|call| serde_json::from_str(call[4])).collect::<Result<_, _>>()?;
        ensure!(configs.iter().map(|config| config["step"].as_u64()).eq([1, 2, 2, 1].map(Some)), "{log}");
        for (call, config) in calls.iter().zip(&configs) {
            ensure!(call[1].len() == 64 && call[2] == "/run/netns/web" && call[3] == "eth0", "{call:?}");
            ensure!(config["name"] == "minionet" && config["cniVersion"] == "1.1.0", "{config}");
        }
        ensure!(
            configs[0].get("prevResult").is_none() && configs[1]["prevResult"]["ips"].is_array(),
            "{log}"
        );
        ensure!(configs[3]["prevResult"] == configs[1]["prevResult"], "{log}");
        ensure!(configs[0]["runtimeConfig"] == json!({"mac": "02:00:00:00:00:01"}), "{log}");
        ensure!(configs[1].get("runtimeConfig").is_none(), "{log}");

        let pod = node.add_pod("raw")?;
        let answer = node.cni_exec("CHECK", pod.attachment(), "{}\n", |call| call.env("CNI_ARGS", ""))?;
        ensure!(!answer.success() && answer.json()?["code"] == 4, "{answer:?}");
        Ok(())
    })
}

fn subnets_are_joined_by_a_router() -> Result<()> {
    let (_directory, binaries) = stand_ins()?;
    let cluster = builder(&binaries)
        .underlay("172.20.0.0/24, fd00:20::/64")
        .underlay("172.20.1.0/24, fd00:21::/64")
        .start()?;
    let addresses: Vec<_> = cluster.nodes().iter().map(|node| node.addresses()).collect();
    ensure!(addresses[1] == [ip("172.20.1.1"), ip("fd00:21::1")], "{addresses:?}");
    ensure!(addresses[2] == [ip("172.20.0.2"), ip("fd00:20::2")], "{addresses:?}");
    for target in addresses.iter().flatten().copied().chain([ip("198.51.100.1"), ip("2001:db8:100::1")]) {
        for node in cluster.nodes() {
            Ping::to(target).send(node, PATIENT)?;
        }
    }
    Ok(())
}

fn a_partition_crosses_the_router() -> Result<()> {
    let (_directory, binaries) = stand_ins()?;
    let cluster = builder(&binaries).underlay("172.20.0.0/24").underlay("172.20.1.0/24").start()?;
    let reaches = |from: usize, to: usize, patience| {
        Ping::to(cluster.node(to).address()).send(cluster.node(from), patience).is_ok()
    };
    cluster.partition(&[&[0], &[1, 2]])?;
    ensure!(!reaches(0, 1, SILENCE) && !reaches(0, 2, SILENCE), "the groups still hear each other");
    ensure!(reaches(1, 2, PATIENT), "a group is cut in itself");
    cluster.heal()?;
    // Again and again: meanwhile neighbours may have been given up.
    for to in [1, 2] {
        eventually("the other group to be heard", PATIENT, || {
            Ping::to(cluster.node(to).address()).send(cluster.node(0), SILENCE)
        })?;
    }
    Ok(())
}

fn nodes_join_and_leave_by_dns_alone() -> Result<()> {
    let (_directory, binaries) = stand_ins()?;
    let mut cluster = builder(&binaries).nodes(2).dns_servers(2).start()?;
    let published = |cluster: &Cluster| {
        cluster.dns_servers().map(|dns| dns.addresses(&cluster.dns_name())).collect::<Vec<_>>()
    };
    let new = cluster.add_node()?;
    let two = vec![ip("172.20.0.1"), ip("172.20.0.2")];
    ensure!(published(&cluster) == [two.clone(), two.clone()], "{:?}", published(&cluster));
    cluster.join(new)?;
    cluster.leave(0)?;
    let after = vec![ip("172.20.0.2"), ip("172.20.0.3")];
    ensure!(published(&cluster) == [after.clone(), after], "{:?}", published(&cluster));
    Ping::to(cluster.node(new).address()).send(cluster.node(0), PATIENT)?;
    ensure!(cluster.node(0).daemon_exit().is_none(), "the daemon was touched");
    Ok(())
}

fn fifty_nodes_come_up() -> Result<()> {
    let (_directory, binaries) = stand_ins()?;
    let cluster = builder(&binaries).nodes(50).start()?;
    cluster.wait_ready()?;
    let last = cluster.node(49).address();
    ensure!(last == ip("172.20.0.50"));
    eventually("the last node to answer", PATIENT, || Ping::to(last).send(cluster.node(0), SILENCE))?;
    Ok(())
}
