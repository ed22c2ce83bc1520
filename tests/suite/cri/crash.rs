//! A runtime that is killed, and a daemon that does not run.

use std::thread;

use anyhow::{Result, ensure};
use minionet_tests::cri::proto::PodSandboxConfig;
use minionet_tests::{Need, Trial, at_once, trials};
use netns_testbed::traffic::Ping;
use netns_testbed::{Node, eventually};
use nix::sys::signal::Signal;

use super::bed::{Bed, PATIENT, cluster, is_clean, traces};

pub fn trials() -> Vec<Trial> {
    trials![
        pods_survive_the_runtime_and_the_daemon => [Need::ContainerRuntime, Need::CniPlugin("loopback"), Need::Program("nft")],
        a_runtime_killed_half_way_leaks_nothing => [Need::ContainerRuntime, Need::CniPlugin("loopback"), Need::Program("nft")],
    ]
}

/// Both may be upgraded or killed while pods run; pods stop without the daemon, too.
fn pods_survive_the_runtime_and_the_daemon() -> Result<()> {
    cluster(1).run(|cluster| {
        let node = cluster.node(0);
        let mut bed = Bed::start(node)?;
        let pods = [bed.pod("first")?, bed.pod("second")?];
        let addresses = bed.client.pod_addresses(&pods[0])?;
        let answers = || -> Result<()> {
            for address in &addresses {
                Ping::to(address.parse()?).send(node, PATIENT)?;
            }
            Ok(())
        };
        answers()?;
        bed.runtime.kill()?;
        node.kill_daemon(Signal::SIGKILL)?;
        answers()?;
        bed.runtime.start_again()?;
        ensure!(bed.client.pod_addresses(&pods[0])? == addresses);
        bed.remove(&pods[1])?;
        answers()?;
        node.start_daemon()?;
        cluster.wait_ready()?;
        answers()?;
        bed.remove(&pods[0])?;
        is_clean(node)?;
        Ok(bed.runtime.stop()?)
    })
}

/// containerd is killed while it starts pods; whatever it knows of afterwards it removes, and
/// what it has forgotten goes with the namespaces that it left.
fn a_runtime_killed_half_way_leaks_nothing() -> Result<()> {
    cluster(1).run(|cluster| {
        let node = cluster.node(0);
        let mut bed = Bed::start(node)?;
        let configs: Vec<_> = (0..8).map(|number| bed.runtime.pod(&format!("pod-{number}"))).collect();
        thread::scope(|scope| -> Result<()> {
            for config in &configs {
                let client = bed.client.clone();
                // Some of these succeed, some fail; none may hang.
                scope.spawn(move || client.run_pod_sandbox(config));
            }
            eventually("the first pods to be attached", PATIENT, || -> Result<()> {
                ensure!(!traces(node)?.is_empty(), "nothing yet");
                Ok(())
            })?;
            Ok(bed.runtime.kill()?)
        })?;
        bed.runtime.start_again()?;
        // What fails is tried again, as kubelet does.
        for pod in bed.client.list_pod_sandbox()? {
            eventually("a pod to be removed", PATIENT, || bed.remove(&pod.id))?;
        }
        ensure!(bed.client.list_pod_sandbox()?.is_empty());
        // The same pods can be started.
        let first = run_past_a_lost_snapshot(&bed, &configs[0])?;
        bed.remove(&first)?;
        let pods = at_once(&configs, |config| Ok(bed.client.run_pod_sandbox(config)?))?;
        at_once(&pods, |pod| bed.remove(pod))?;
        forget_namespaces(&bed, node)?;
        is_clean(node)?;
        Ok(bed.runtime.stop()?)
    })
}

/// Runs a pod as the first after containerd was killed. Its native snapshotter moves a new
/// snapshot to its place before it notes the number; killed between the two, it gives the number
/// out again, finds the place taken, fails, and removes what lies there (`createSnapshot` in
/// snapshots/native of containerd). The next try succeeds, which kubelet makes as well.
fn run_past_a_lost_snapshot(bed: &Bed, config: &PodSandboxConfig) -> Result<String> {
    match bed.client.run_pod_sandbox(config) {
        Err(error) if error.to_string().contains("failed to rename") => {}
        other => return Ok(other?),
    }
    Ok(bed.client.run_pod_sandbox(config)?)
}

/// Unmounts the namespaces of pods that containerd was killed over before it had noted them:
/// it never comes back to them, and as long as they exist so does all that is in them.
fn forget_namespaces(bed: &Bed, node: &Node) -> Result<()> {
    let below = bed.runtime.directory().join("state");
    let script = format!(
        "grep -o ' {}/[^ ]*' /proc/self/mounts | grep netns | while read -r path; do umount \"$path\"; done; true",
        below.display()
    );
    let output = bed.runtime.command("sh").args(["-c", &script]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(node.daemon_exit().is_none(), "the daemon ended");
    Ok(())
}
