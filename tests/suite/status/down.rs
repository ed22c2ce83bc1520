//! Status while the daemon is down, stuck, or has never been there.

use anyhow::{Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::{Cluster, Node, eventually, forget_settings};
use nix::sys::signal::Signal;

use super::{PATIENT, cluster, peer, report, text};

pub fn trials() -> Vec<Trial> {
    trials![
        a_dead_daemon_is_told_and_the_kernel_is_still_read,
        without_a_state_the_kernel_tells,
        a_daemon_that_never_ran_is_told,
        a_daemon_that_hangs_is_told,
        another_user_is_told_what_only_root_can_see => [Need::Root, Need::Program("setpriv")],
    ]
}

fn a_dead_daemon_is_told_and_the_kernel_is_still_read() -> Result<()> {
    cluster().run(|cluster| {
        let node = cluster.node(0);
        eventually("all to be well", PATIENT, || {
            let report = report(node)?;
            ensure!(
                report["verdict"] == "well" && report["peers"][1]["probe"]["state"] == "alive",
                "{report:#}"
            );
            ensure!(node.read("/run/minionet/state.json")?.contains("172.20.0.3"), "no state is left yet");
            anyhow::Ok(())
        })?;
        let _pod = node.add_pod("web")?;
        node.kill_daemon(Signal::SIGKILL)?;
        let (told, status) = text(node, &["status"])?;
        ensure!(status == 4, "exit status {status}: {told}");
        for part in [
            "FAILED   minionetd is not running (last sign of life ",
            "as it left its state ",
            "kernel    device as it should be, nft table there, routes 2 of 2",
            "172.20.0.3  10.32.3.0/24  active",
            "web",
        ] {
            ensure!(told.contains(part), "{told} lacks {part:?}");
        }
        // What is damaged now, nobody but the command itself can see.
        node.ip("route del 10.32.2.0/24")?;
        node.exec("bridge fdb del 0e:6d:00:00:00:03 dev minionet dst 172.20.0.3".split(' '))?;
        let report = report(node)?;
        ensure!(report["source"] == "file" && report["running"] == "no", "{report:#}");
        for (address, lacks) in [("172.20.0.2", "route"), ("172.20.0.3", "fdb")] {
            let peer = peer(&report, address)?;
            ensure!(peer["programmed"] == false && peer["lacks"][0] == lacks, "{peer:#}");
            ensure!(peer["lacks"].as_array().is_some_and(|lacks| lacks.len() == 1), "{peer:#}");
        }
        let row = text(node, &["peers"])?.0;
        ensure!(
            row.lines().filter(|line| line.split_whitespace().any(|cell| cell == "no")).count() == 2,
            "{row}"
        );
        node.start_daemon()?;
        eventually("all to be well again", PATIENT, || {
            let (told, status) = text(node, &["status"])?;
            ensure!(status == 0, "exit status {status}: {told}");
            anyhow::Ok(())
        })?;
        Ok(())
    })
}

fn without_a_state_the_kernel_tells() -> Result<()> {
    cluster().run(|cluster| {
        let node = cluster.node(0);
        node.kill_daemon(Signal::SIGKILL)?;
        node.exec(["sh", "-c", "rm -r /run/minionet"])?;
        let (told, status) = text(node, &["status"])?;
        ensure!(status == 4, "exit status {status}: {told}");
        ensure!(told.contains("what follows is what the kernel holds"), "{told}");
        ensure!(told.contains("172.20.0.2  10.32.2.0/24  unknown"), "{told}");
        // The cluster's name is in what is left on the disk.
        ensure!(told.contains("cluster   cncfdemo"), "{told}");
        Ok(())
    })
}

fn a_daemon_that_never_ran_is_told() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(1).start_without_daemons()?;
    let (told, status) = text(cluster.node(0), &["status"])?;
    ensure!(status == 4, "exit status {status}: {told}");
    ensure!(told.contains("FAILED   minionetd has never run since this host was started"), "{told}");
    ensure!(told.contains("FAILED   the kernel has no device minionet"), "{told}");
    ensure!(text(cluster.node(0), &["pods"])? == ("no pods\n".to_owned(), 0));
    Ok(())
}

fn a_daemon_that_hangs_is_told() -> Result<()> {
    cluster().nodes(1).run(|cluster| {
        let node = cluster.node(0);
        eventually("all to be well", PATIENT, || {
            ensure!(report(node)?["verdict"] == "well");
            anyhow::Ok(())
        })?;
        node.signal_daemon(Signal::SIGSTOP)?;
        let (told, status) = text(node, &["status"])?;
        node.signal_daemon(Signal::SIGCONT)?;
        ensure!(status == 4 && told.starts_with("FAILED   minionetd runs and does not answer"), "{told}");
        eventually("it to answer again", PATIENT, || {
            ensure!(text(node, &["status"])?.1 == 0);
            anyhow::Ok(())
        })?;
        Ok(())
    })
}

/// Runs `minionetd` as somebody without any right: its exit status, and both outputs.
fn as_nobody(node: &Node, words: &[&str]) -> Result<(Option<i32>, String, String)> {
    let mut command = node.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]);
    command.arg("--inh-caps=-all").arg(node.programs().join("minionetd")).args(words);
    forget_settings(&mut command);
    let output = command.output()?;
    let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    Ok((output.status.code(), text(output.stdout), text(output.stderr)))
}

fn another_user_is_told_what_only_root_can_see() -> Result<()> {
    cluster().run(|cluster| {
        let node = cluster.node(0);
        let _pod = node.add_pod("web")?;
        eventually("the state to be left", PATIENT, || {
            ensure!(node.read("/run/minionet/state.json")?.contains("172.20.0.2"), "not yet");
            anyhow::Ok(())
        })?;
        eventually("all that can be seen to be told", PATIENT, || {
            let (status, told, _) = as_nobody(node, &["status"])?;
            ensure!(status == Some(3), "exit status {status:?}: {told}");
            for part in [
                "WARNING  whether minionetd runs can only be seen by root",
                "WARNING  the pods can only be seen by root: call this with sudo",
                "172.20.0.2  10.32.2.0/24  active",
            ] {
                ensure!(told.contains(part), "{told} lacks {part:?}");
            }
            anyhow::Ok(())
        })?;
        // An empty list would say that there are no pods.
        for words in [&["pods"][..], &["pods", "--json"]] {
            let (status, told, errors) = as_nobody(node, words)?;
            ensure!(status == Some(1) && told.is_empty(), "exit status {status:?}: {told}");
            ensure!(
                errors == "minionetd: the pods can only be seen by root: call this with sudo\n",
                "{errors}"
            );
        }
        let (status, _, errors) = as_nobody(node, &["trace", "10.32.2.7"])?;
        ensure!(status == Some(1) && errors.contains("sudo minionetd trace 10.32.2.7"), "{errors}");
        ensure!(errors.matches("not permitted").count() == 1, "{errors}");
        let (status, _, errors) = as_nobody(node, &["doctor"])?;
        ensure!(status == Some(1) && errors.contains("sudo minionetd doctor"), "{errors}");
        Ok(())
    })
}
