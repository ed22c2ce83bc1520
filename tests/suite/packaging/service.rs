//! The unit as it is installed, carried out by a real systemd on hosts of the testbed.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::systemd::Systemd;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, DAEMON_LOG, Node, eventually};
use serde_json::Value;

use super::{LONG, bare};
use crate::overlay::{PATIENT, everybody_reaches_everybody, pod_per_node, tables_for, wait_for_tables};

/// The unit.
const SERVICE: &str = "minionetd.service";

/// A stand-in for kubelet: it notes that it was started, and whether the overlay was there.
const KUBELET: (&str, &str) = (
    "kubelet.service",
    "[Service]\nType=oneshot\nRemainAfterExit=yes\n\
     ExecStart=/bin/sh -c 'ls /etc/cni/net.d > /run/kubelet.saw'\n",
);

pub fn trials() -> Vec<Trial> {
    trials![
        the_service_runs_with_the_rights_that_its_unit_leaves_it => [Need::Systemd],
        kubelet_waits_for_the_overlay_and_not_for_ever => [Need::Systemd],
        a_daemon_that_hangs_is_restarted => [Need::Systemd],
        installing_starts_and_uninstalling_stops_what_runs => [Need::Systemd],
    ]
}

/// Installs as an operator does, and has systemd take over.
fn install(node: &Node, units: &[(&str, &str)]) -> Result<Systemd> {
    bare(node)?;
    node.minionetd(["install"])?;
    // There is no journal.
    let log = format!("[Service]\nStandardError=append:{DAEMON_LOG}\n");
    node.write("/etc/systemd/system/minionetd.service.d/log.conf", log)?;
    Systemd::start(node, units)
}

/// Waits until the service says of itself what it should.
fn wait_for_status(systemd: &Systemd, words: &str) -> Result<()> {
    eventually(&format!("a status with \"{words}\""), LONG, || {
        let status = systemd.property(SERVICE, "StatusText")?;
        ensure!(status.contains(words), "{status}\n{}", systemd.log());
        anyhow::Ok(())
    })?;
    Ok(())
}

/// A line of `/proc/PID/status` of the service's process.
fn process_status(systemd: &Systemd, line: &str) -> Result<String> {
    let pid = systemd.property(SERVICE, "MainPID")?;
    let status = systemd.exec(["cat", &format!("/proc/{pid}/status")])?;
    let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
    value.map(|value| value.trim().to_owned()).with_context(|| format!("{line} in {status}"))
}

fn the_service_runs_with_the_rights_that_its_unit_leaves_it() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(2).start_without_daemons()?;
    let systemds = cluster
        .nodes()
        .iter()
        .map(|node| {
            let systemd = install(node, &[])?;
            systemd.systemctl(["start", SERVICE])?;
            Ok(systemd)
        })
        .collect::<Result<Vec<_>>>()?;
    for (systemd, (node, peer)) in systemds.iter().zip(cluster.nodes().iter().zip([2, 1])) {
        wait_for_status(systemd, "formed, with ")?;
        wait_for_tables(node, &tables_for([peer]))?;
        // CAP_NET_ADMIN and CAP_NET_RAW are numbers 12 and 13 (linux/capability.h); there is no other.
        for set in ["CapEff", "CapBnd", "CapPrm"] {
            ensure!(process_status(systemd, set)? == "0000000000003000", "{set}");
        }
        ensure!(process_status(systemd, "NoNewPrivs")? == "1" && process_status(systemd, "Seccomp")? == "2");
    }
    // Pods talk, settings are set, files are where others look for them.
    let mut pods = pod_per_node(&cluster)?;
    everybody_reaches_everybody(&pods)?;
    let (node, systemd) = (cluster.node(0), &systemds[0]);
    // The far end of a trace is the other node's daemon, which has to see the packets.
    eventually("a trace that the other node sees", LONG, || {
        let trace = node.minionetd(["trace", &pods[1].address().to_string(), "--json"])?;
        let trace: Value = serde_json::from_str(&trace)?;
        let there = trace["hops"].as_array().into_iter().flatten().find(|hop| hop["hop"] == "peer-nic");
        ensure!(there.is_some_and(|hop| hop["seen"] == "yes"), "{trace:#}");
        anyhow::Ok(())
    })?;
    ensure!(node.read("/proc/sys/net/ipv4/ip_forward")?.trim() == "1");
    for file in
        ["/etc/cni/net.d/10-minionet.conflist", "/run/minionet/node.json", "/var/lib/minionet/node.json"]
    {
        eventually("a file", LONG, || {
            ensure!(node.exists(file)?, "{file} is missing");
            anyhow::Ok(())
        })?;
    }
    // Tools remove the directory of networks as a whole; the daemon makes it again.
    node.exec(["rm", "-r", "/etc/cni/net.d"])?;
    node.ip("link del minionet")?;
    eventually("the list of networks to come back", LONG, || node.ready())?;
    wait_for_tables(node, &tables_for([2]))?;
    // The collector destroys what DEL leaves to it, and what a DEL that never came leaves.
    let links = || anyhow::Ok(node.exec(["ip", "-o", "link", "show", "type", "veth"])?.lines().count());
    let before = links()?;
    node.add_pod("deleted")?.delete()?;
    eventually("the collector to destroy the interface", LONG, || {
        ensure!(links()? == before);
        anyhow::Ok(())
    })?;
    pods.remove(0).vanish()?;
    let records = || anyhow::Ok(node.exec(["ls", "/run/minionet/attachments"])?.lines().count());
    eventually("the collector to find the dead pod", LONG, || {
        ensure!(records()? == 0, "{} records", records()?);
        anyhow::Ok(())
    })?;
    // A reload that works and one that does not; a stop; what is left afterwards.
    node.write("/etc/minionet/minionet.toml", "hold_down = \"1s\"\n")?;
    systemd.systemctl(["reload", SERVICE])?;
    wait_for_log(node, "configuration taken over")?;
    node.write("/etc/minionet/minionet.toml", "hold_down = \"never\"\n")?;
    systemd.systemctl(["reload", SERVICE])?;
    wait_for_log(node, "the configuration stays as it was")?;
    // A moment later it says that it does not reload any more.
    eventually("the service to be active", LONG, || {
        let state = systemd.property(SERVICE, "ActiveState")?;
        ensure!(state == "active", "{state}");
        anyhow::Ok(())
    })?;
    systemd.systemctl(["stop", SERVICE])?;
    ensure!(systemd.property(SERVICE, "Result")? == "success", "{}", systemd.log());
    ensure!(node.exists("/run/minionet/node.json")?, "facts outlive the daemon");
    node.add_pod("after")?.ping(pods[0].address(), PATIENT)?;
    Ok(())
}

fn wait_for_log(node: &Node, words: &str) -> Result<()> {
    eventually(&format!("\"{words}\" in the log"), LONG, || {
        let log = node.log()?;
        ensure!(log.contains(words), "{log}");
        anyhow::Ok(())
    })?;
    Ok(())
}

fn kubelet_waits_for_the_overlay_and_not_for_ever() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(1).start_without_daemons()?;
    let node = cluster.node(0);
    let systemd = install(node, &[KUBELET])?;
    // Starting kubelet is enough: it wants the overlay.
    systemd.systemctl(["start", "kubelet.service"])?;
    ensure!(node.read("/run/kubelet.saw")?.trim() == "10-minionet.conflist");
    ensure!(systemd.property(SERVICE, "ActiveState")? == "active");
    // A host that is a master is no minion, whatever else it has, and nobody waits.
    systemd.systemctl(["stop", "kubelet.service", SERVICE])?;
    node.exec(["rm", "/etc/cni/net.d/10-minionet.conflist", "/run/kubelet.saw"])?;
    node.write("/etc/sysconfig/kubernetes-masters", "")?;
    systemd.systemctl(["start", "kubelet.service"])?;
    ensure!(systemd.property(SERVICE, "ActiveState")? == "inactive");
    ensure!(systemd.property(SERVICE, "ConditionResult")? == "no");
    ensure!(node.read("/run/kubelet.saw")?.trim() == "");
    // On a minion whose overlay cannot form, the command says why; kubelet goes on without.
    node.exec(["rm", "/etc/sysconfig/kubernetes-masters"])?;
    let error = node.exec(["/usr/local/bin/minionetd", "wait", "--timeout", "0"]).unwrap_err().to_string();
    ensure!(error.contains("minionetd does not run"), "{error}");
    let start = systemd.property("kubelet.service", "ExecStartPre")?;
    ensure!(start.contains("ignore_errors=yes") && start.contains("/usr/local/bin/minionetd"), "{start}");
    Ok(())
}

fn a_daemon_that_hangs_is_restarted() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(1).start_without_daemons()?;
    let node = cluster.node(0);
    let systemd = install(node, &[])?;
    node.write("/etc/systemd/system/minionetd.service.d/watchdog.conf", "[Service]\nWatchdogSec=10\n")?;
    systemd.systemctl(["daemon-reload"])?;
    systemd.systemctl(["start", SERVICE])?;
    wait_for_status(&systemd, "formed")?;
    // It gives signs of life, and is left alone.
    let sign = || systemd.property(SERVICE, "WatchdogTimestampMonotonic");
    let first = sign()?;
    eventually("a sign of life", LONG, || {
        ensure!(sign()? != first, "{first}");
        anyhow::Ok(())
    })?;
    ensure!(systemd.property(SERVICE, "NRestarts")? == "0", "it lives: {}", systemd.log());
    let pid = systemd.property(SERVICE, "MainPID")?;
    systemd.exec(["sh", "-c", &format!("kill -STOP {pid}")])?;
    eventually("systemd to notice", LONG, || {
        ensure!(systemd.property(SERVICE, "NRestarts")? != "0", "{}", systemd.log());
        anyhow::Ok(())
    })?;
    wait_for_status(&systemd, "formed")
}

/// `install --now` and `uninstall` as they are typed, beside a systemd that they talk to.
fn installing_starts_and_uninstalling_stops_what_runs() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(1).start_without_daemons()?;
    let node = cluster.node(0);
    bare(node)?;
    node.write(
        "/run/systemd/system/minionetd.service.d/log.conf",
        format!("[Service]\nStandardError=append:{DAEMON_LOG}\n"),
    )?;
    let systemd = Systemd::start(node, &[])?;
    let program = node.programs().join("minionetd").display().to_string();
    let minionetd =
        |words: &[&str]| systemd.exec([program.as_str()].into_iter().chain(words.iter().copied()));
    // A host that is no minion gets everything, and is told why nothing runs.
    node.exec(["mv", "/etc/sysconfig", "/run/sysconfig"])?;
    let error = minionetd(&["install", "--now"]).unwrap_err().to_string();
    ensure!(
        error.contains("the service was not started") && error.contains("CLUSTER_NAME=<cluster>"),
        "{error}"
    );
    ensure!(node.exists("/opt/cni/bin/minionet")?);
    ensure!(systemd.property(SERVICE, "ActiveState")? == "inactive");
    // One that is a minion gets it started, and what is installed again is started anew.
    node.exec(["mv", "/run/sysconfig", "/etc/sysconfig"])?;
    let said = minionetd(&["install", "--now"])?;
    ensure!(said.contains("done: systemctl restart minionetd.service"), "{said}");
    wait_for_status(&systemd, "formed")?;
    let first = systemd.property(SERVICE, "MainPID")?;
    minionetd(&["install", "--now"])?;
    wait_for_status(&systemd, "formed")?;
    ensure!(systemd.property(SERVICE, "MainPID")? != first);
    // Without --now the service is left alone, and the operator is told what to do.
    let second = systemd.property(SERVICE, "MainPID")?;
    let said = minionetd(&["install"])?;
    ensure!(said.contains("next: systemctl restart minionetd.service"), "{said}");
    ensure!(systemd.property(SERVICE, "MainPID")? == second);
    // The second unit is there for who wants it, and goes with the link that enabled it.
    systemd.systemctl(["enable", "minionet-registration.service"])?;
    let wants = "/etc/systemd/system/multi-user.target.wants";
    ensure!(node.exists(format!("{wants}/minionet-registration.service"))?);
    // A dry run stops nothing.
    minionetd(&["uninstall", "--dry-run"])?;
    ensure!(systemd.property(SERVICE, "MainPID")? == second);
    let said = minionetd(&["uninstall"])?;
    ensure!(!said.contains("keep"), "{said}");
    ensure!(
        systemd.property(SERVICE, "ActiveState")? == "inactive"
            && systemd.property(SERVICE, "LoadState")? == "not-found"
    );
    ensure!(!node.exists(wants)? && !node.exists("/usr/local/bin/minionetd")?);
    // The overlay stays for pods that run, until it is cleaned up.
    ensure!(node.exec(["ip", "link", "show", "minionet"]).is_ok());
    minionetd(&["cleanup"])?;
    ensure!(node.exec(["ip", "link", "show", "minionet"]).is_err() && !node.exists("/var/lib/minionet")?);
    Ok(())
}
