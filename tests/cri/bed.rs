//! A node with a running container runtime and the reference plugin `ptp`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use minionet_tests::cri::{Client, Options, Runtime};

/// Debian's directory of reference plugins (package containernetworking-plugins).
pub const PLUGINS: &str = "/usr/lib/cni";

/// Limit for a command in a container.
pub const COMMAND: Duration = Duration::from_secs(30);

/// A runtime in a network namespace of its own whose pods get addresses from `ptp`.
pub struct Bed {
    /// The runtime.
    pub runtime: Runtime,
    /// A client of it.
    pub client: Client,
    /// Holds the plugin's configuration and leases.
    _directory: tempfile::TempDir,
}

impl Bed {
    /// Starts the runtime with a dual-stack configuration.
    pub fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let list = serde_json::json!({
            "cniVersion": "1.0.0",
            "name": "reference",
            "plugins": [{
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "dataDir": directory.path().join("leases"),
                    "ranges": [[{"subnet": "10.99.0.0/24"}], [{"subnet": "fd99::/64"}]],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                },
            }],
        });
        fs::write(directory.path().join("10-reference.conflist"), list.to_string())?;
        let runtime = start(directory.path())?;
        let client = runtime.client();
        Ok(Self { runtime, client, _directory: directory })
    }

    /// Runs a pod and an idle container in it; returns the identifiers of both.
    pub fn run(&self, name: &str) -> Result<(String, String)> {
        let config = self.runtime.pod(name);
        let pod = self.client.run_pod_sandbox(&config)?;
        let container = self.runtime.run_container(&pod, &config, "main", &[])?;
        Ok((pod, container))
    }

    /// Runs a command in a container; gives its output, and an error if it fails.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<String> {
        let output = self.client.exec_sync(container, command, COMMAND)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.exit_code == 0, "{command:?}: {}: {text}{errors}", output.exit_code);
        Ok(text)
    }
}

/// Starts a runtime in a network namespace of its own with the given configuration.
pub fn start(cni_conf: &Path) -> Result<Runtime> {
    let options = Options { cni_bin: vec![PathBuf::from(PLUGINS)], cni_conf: cni_conf.to_owned() };
    Ok(Runtime::start(&options, |program| {
        let mut command = Command::new("unshare");
        let script = "ip link set lo up && exec \"$@\"";
        command.args(["--net", "--", "sh", "-c", script, "sh", program]);
        command
    })?)
}

/// The network interfaces of a runtime's node.
pub fn node_links(runtime: &Runtime) -> Result<String> {
    let output = runtime.command("ip").args(["-o", "link"]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
