//! A minion with a container runtime.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use minionet_tests::CNI_PLUGINS;
use minionet_tests::cri::proto::PodSandboxConfig;
use minionet_tests::cri::{Client, Options, Runtime};
use netns_testbed::{Cluster, ClusterBuilder, Node, eventually};
use tempfile::TempDir;

/// Long enough for a container to start on a machine that stands still for seconds.
pub const PATIENT: Duration = Duration::from_secs(90);

/// A cluster with addresses of both families.
pub fn cluster(nodes: usize) -> ClusterBuilder {
    Cluster::builder("cncfdemo")
        .nodes(nodes)
        .underlay("172.20.0.0/24, fd00:20::/64")
        .config("pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]")
}

/// containerd on a node, with our plugin and the list that the daemon writes.
pub struct Bed {
    /// The runtime.
    pub runtime: Runtime,
    /// A client of it.
    pub client: Client,
    /// Holds the link to the plugin.
    _programs: TempDir,
}

impl Bed {
    /// Starts the runtime; the daemon need not have run yet.
    pub fn start(node: &Node) -> Result<Self> {
        let programs = tempfile::tempdir()?;
        symlink(node.programs().join("minionet"), programs.path().join("minionet"))?;
        let options = Options {
            cni_bin: vec![programs.path().to_owned(), PathBuf::from(CNI_PLUGINS)],
            cni_conf: PathBuf::from("/etc/cni/net.d"),
        };
        let runtime = Runtime::start(&options, |program| node.command(program))?;
        let client = runtime.client();
        Ok(Self { runtime, client, _programs: programs })
    }

    /// Runs a pod.
    pub fn pod(&self, name: &str) -> Result<String> {
        Ok(self.client.run_pod_sandbox(&self.runtime.pod(name))?)
    }

    /// Runs a pod with an idle container in it; gives the identifiers of both.
    pub fn run(&self, config: &PodSandboxConfig) -> Result<(String, String)> {
        let pod = self.client.run_pod_sandbox(config)?;
        let container = self.runtime.run_container(&pod, config, "main", &[])?;
        Ok((pod, container))
    }

    /// Runs a command in a container; gives its output, and an error if it fails.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<String> {
        let output = self.client.exec_sync(container, command, PATIENT)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.exit_code == 0, "{command:?}: {}: {text}{errors}", output.exit_code);
        Ok(text)
    }

    /// Stops and removes a pod.
    pub fn remove(&self, pod: &str) -> Result<()> {
        self.client.stop_pod_sandbox(pod)?;
        Ok(self.client.remove_pod_sandbox(pod)?)
    }
}

/// What a node has of pods: interfaces, records, leases, routes, elements of the firewall.
pub fn traces(node: &Node) -> Result<BTreeSet<String>> {
    let look = "ip -o link | grep -o ' mnet[0-9a-f]*'
        ls /run/minionet/attachments /run/minionet/leases 2>/dev/null | grep -v : | grep .
        ip route show proto 110; ip -6 route show proto 110; ip neigh show proto 110
        nft list table inet minionet | grep -o 'dnat.* : .*'; true";
    Ok(node.exec(["sh", "-c", look])?.lines().map(str::to_owned).collect())
}

/// Waits until a node has nothing of pods; the daemon may have the last links to destroy.
pub fn is_clean(node: &Node) -> Result<()> {
    let look = || -> Result<()> {
        let found = traces(node)?;
        ensure!(found.is_empty(), "left behind: {found:#?}");
        Ok(())
    };
    Ok(eventually(&format!("{} to be clean", node.name()), PATIENT, look)?)
}
