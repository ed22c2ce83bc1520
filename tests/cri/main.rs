//! Shows that the container runtime of the tests works, with the reference plugin `ptp` in the
//! place of ours.
//!
//! A failure of a test of minionet under containerd is only worth reading when these pass.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::{Arguments, Trial};
use minionet_tests::cri::{self, Client, Options, Runtime};

/// Debian's directory of reference plugins (package containernetworking-plugins).
const PLUGINS: &str = "/usr/lib/cni";

/// Limit for a command in a container.
const COMMAND: Duration = Duration::from_secs(30);

/// A test; its error is printed when it fails.
type Test = fn() -> Result<()>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let needs = cri::available().and_then(|()| match Path::new(PLUGINS).join("ptp").is_file() {
        true => Ok(()),
        false => Err(format!(
            "{PLUGINS}/ptp not found (Debian: containernetworking-plugins)"
        )),
    });
    let trials: [(&str, Test); 7] = [
        (
            "a_pod_has_its_addresses_and_a_container_answers",
            pod_and_container,
        ),
        ("thirty_pods_at_once", thirty_pods_at_once),
        (
            "pods_survive_a_killed_runtime",
            pods_survive_a_killed_runtime,
        ),
        (
            "without_configuration_the_network_is_not_ready",
            no_configuration,
        ),
        ("a_runtime_killed_half_way_recovers", killed_half_way),
        ("nothing_is_left_behind", nothing_is_left_behind),
        (
            "what_a_killed_test_left_is_removed_by_the_next",
            next_test_removes_the_rest,
        ),
    ];
    let trials = trials.into_iter().map(|(name, run)| match &needs {
        Ok(()) => Trial::test(name, move || {
            run().map_err(|error| format!("{error:?}").into())
        }),
        // It fails when it is run in spite of that (`--ignored`): nothing was tested.
        Err(reason) => {
            let failure = reason.clone();
            Trial::test(format!("{name} ({reason})"), move || Err(failure.into()))
                .with_ignored_flag(true)
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// A runtime in a network namespace of its own whose pods get addresses from `ptp`.
struct Bed {
    runtime: Runtime,
    client: Client,
    /// Holds the plugin's configuration and leases.
    _directory: tempfile::TempDir,
}

impl Bed {
    fn new() -> Result<Self> {
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
        fs::write(
            directory.path().join("10-reference.conflist"),
            list.to_string(),
        )?;
        let runtime = start(directory.path())?;
        let client = runtime.client();
        Ok(Self {
            runtime,
            client,
            _directory: directory,
        })
    }

    /// Runs a pod and an idle container in it; returns the identifiers of both.
    fn run(&self, name: &str) -> Result<(String, String)> {
        let config = self.runtime.pod(name);
        let pod = self.client.run_pod_sandbox(&config)?;
        let container = self.runtime.run_container(&pod, &config, "main", &[])?;
        Ok((pod, container))
    }

    fn exec(&self, container: &str, command: &[&str]) -> Result<String> {
        let output = self.client.exec_sync(container, command, COMMAND)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.exit_code == 0,
            "{command:?}: {}: {text}{errors}",
            output.exit_code
        );
        Ok(text)
    }
}

fn start(cni_conf: &Path) -> Result<Runtime> {
    let options = Options {
        cni_bin: vec![PathBuf::from(PLUGINS)],
        cni_conf: cni_conf.to_owned(),
    };
    Ok(Runtime::start(&options, |program| {
        let mut command = Command::new("unshare");
        let script = "ip link set lo up && exec \"$@\"";
        command.args(["--net", "--", "sh", "-c", script, "sh", program]);
        command
    })?)
}

fn pod_and_container() -> Result<()> {
    let bed = Bed::new()?;
    let version = bed.client.version()?;
    ensure!(version.runtime_name == "containerd", "{version:?}");
    ensure!(version.runtime_api_version == "v1", "{version:?}");
    let ready = bed.client.network_ready()?;
    ensure!(ready.status, "{ready:?}");

    let (pod, container) = bed.run("web")?;
    let addresses = bed.client.pod_addresses(&pod)?;
    ensure!(addresses == ["10.99.0.2", "fd99::2"], "{addresses:?}");
    let links = bed.exec(&container, &["ip", "address", "show", "eth0"])?;
    ensure!(
        links.contains("10.99.0.2/24") && links.contains("fd99::2/64"),
        "{links}"
    );
    let status = bed.client.pod_sandbox_status(&pod)?;
    ensure!(
        status
            .info
            .get("info")
            .is_some_and(|info| info.contains("10.99.0.2")),
        "{status:?}"
    );

    let (other, client) = bed.run("client")?;
    bed.exec(&client, &["ping", "-c", "1", "-W", "10", "10.99.0.1"])?;
    let output = bed
        .client
        .exec_sync(&client, &["sh", "-c", "echo oh >&2; exit 3"], COMMAND)?;
    ensure!(
        (output.exit_code, output.stderr.as_slice()) == (3, b"oh\n"),
        "{output:?}"
    );

    bed.client.stop_container(&container, Duration::ZERO)?;
    bed.client.remove_container(&container)?;
    for pod in [&pod, &other] {
        bed.client.stop_pod_sandbox(pod)?;
        bed.client.remove_pod_sandbox(pod)?;
    }
    let left = bed.client.list_pod_sandbox()?;
    ensure!(left.is_empty(), "{left:?}");
    let error = bed
        .client
        .pod_addresses(&pod)
        .err()
        .context("the pod is still known")?;
    // 5 is "not found" among gRPC's status codes.
    ensure!(
        matches!(error, cri::CallError::Status { code: 5, .. }),
        "{error}"
    );
    let links = node_links(&bed.runtime)?;
    ensure!(!links.contains("veth"), "{links}");
    Ok(bed.runtime.stop()?)
}

fn thirty_pods_at_once() -> Result<()> {
    let bed = Bed::new()?;
    let names: Vec<_> = (0..30).map(|number| format!("pod-{number}")).collect();
    let pods = at_once(&names, |name| Ok(bed.run(name)?.0))?;
    let mut addresses = pods
        .iter()
        .map(|pod| bed.client.pod_addresses(pod))
        .collect::<Result<Vec<_>, _>>()?
        .concat();
    addresses.sort();
    addresses.dedup();
    ensure!(addresses.len() == 2 * pods.len(), "{addresses:?}");
    at_once(&pods, |pod| {
        bed.client.stop_pod_sandbox(pod)?;
        Ok(bed.client.remove_pod_sandbox(pod)?)
    })?;
    ensure!(bed.client.list_pod_sandbox()?.is_empty());
    Ok(bed.runtime.stop()?)
}

fn pods_survive_a_killed_runtime() -> Result<()> {
    let mut bed = Bed::new()?;
    let (pod, container) = bed.run("web")?;
    bed.runtime.kill()?;
    ensure!(
        bed.client.version().is_err(),
        "containerd still answers after SIGKILL"
    );
    bed.runtime.start_again()?;
    ensure!(bed.client.pod_addresses(&pod)? == ["10.99.0.2", "fd99::2"]);
    let links = bed.exec(&container, &["ip", "address", "show", "eth0"])?;
    ensure!(links.contains("10.99.0.2/24"), "{links}");
    bed.runtime.terminate()?;
    bed.runtime.start_again()?;
    bed.run("second")?;
    bed.client.stop_pod_sandbox(&pod)?;
    bed.client.remove_pod_sandbox(&pod)?;
    let left = bed.client.list_pod_sandbox()?;
    ensure!(left.len() == 1, "{left:?}");
    Ok(bed.runtime.stop()?)
}

fn killed_half_way() -> Result<()> {
    let mut bed = Bed::new()?;
    let configs: Vec<_> = (0..8)
        .map(|number| bed.runtime.pod(&format!("pod-{number}")))
        .collect();
    thread::scope(|scope| -> Result<()> {
        for config in &configs {
            let client = bed.runtime.client();
            // Some of these succeed, some fail; none may hang.
            scope.spawn(move || client.run_pod_sandbox(config));
        }
        // The first veth means that some pods are in the middle of their start.
        let deadline = Instant::now() + COMMAND;
        while !node_links(&bed.runtime)?.contains("veth") {
            ensure!(
                Instant::now() < deadline,
                "no pod got a veth; {}",
                bed.runtime.log()
            );
        }
        Ok(bed.runtime.kill()?)
    })?;
    bed.runtime.start_again()?;
    for pod in bed.client.list_pod_sandbox()? {
        bed.client.stop_pod_sandbox(&pod.id)?;
        bed.client.remove_pod_sandbox(&pod.id)?;
    }
    let left = bed.client.list_pod_sandbox()?;
    ensure!(left.is_empty(), "{left:?}");
    at_once(&configs, |config| Ok(bed.client.run_pod_sandbox(config)?))?;
    Ok(bed.runtime.stop()?)
}

fn no_configuration() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let runtime = start(directory.path())?;
    let ready = runtime.client().network_ready()?;
    ensure!(!ready.status && ready.message.contains("cni"), "{ready:?}");
    Ok(runtime.stop()?)
}

fn nothing_is_left_behind() -> Result<()> {
    let bed = Bed::new()?;
    bed.run("web")?;
    let name = bed.runtime.cgroup().to_owned();
    let directory = bed.runtime.directory().to_owned();
    ensure!(
        !traces(&name)?.is_empty(),
        "the search for traces finds no running runtime"
    );
    drop(bed);
    let left = traces(&name)?;
    ensure!(left.is_empty(), "{left:#?}");
    ensure!(!directory.exists(), "{} is left", directory.display());
    Ok(())
}

fn next_test_removes_the_rest() -> Result<()> {
    // As after a kill of everything at once: a cgroup that nobody holds, and its directory.
    let directory = tempfile::Builder::new()
        .prefix("minionet-cri-")
        .tempdir()?
        .keep();
    let name = directory
        .file_name()
        .context("a temporary directory without a name")?;
    let hierarchies = cgroup_hierarchies()?;
    ensure!(
        !hierarchies.is_empty(),
        "no hierarchy of control groups is mounted"
    );
    for hierarchy in &hierarchies {
        fs::create_dir(hierarchy.join(name))?;
        fs::create_dir(hierarchy.join(name).join("pod"))?;
    }
    Bed::new()?.runtime.stop()?;
    for left in hierarchies
        .iter()
        .map(|hierarchy| hierarchy.join(name))
        .chain([directory.clone()])
    {
        ensure!(!left.exists(), "{} is left", left.display());
    }
    Ok(())
}

/// The mounted hierarchies of control groups in use: those of version 1, or that of version 2.
fn cgroup_hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let of = |kind: &str| -> Vec<PathBuf> {
        let fields = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        fields
            .filter(|line| line[2] == kind)
            .map(|line| PathBuf::from(line[1]))
            .collect()
    };
    let first = of("cgroup");
    Ok(if first.is_empty() {
        of("cgroup2")
    } else {
        first
    })
}

/// The network interfaces of a runtime's node.
fn node_links(runtime: &Runtime) -> Result<String> {
    let output = runtime.command("ip").args(["-o", "link"]).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Mounts, cgroups and processes that carry the name of a runtime.
fn traces(name: &str) -> Result<Vec<String>> {
    let mut found: Vec<String> = fs::read_to_string("/proc/self/mounts")?
        .lines()
        .filter(|line| line.contains(name))
        .map(str::to_owned)
        .collect();
    for hierarchy in cgroup_hierarchies()? {
        let cgroup = hierarchy.join(name);
        if cgroup.exists() {
            found.push(cgroup.display().to_string());
        }
    }
    for process in fs::read_dir("/proc")? {
        // A process may end while it is looked at.
        let command = fs::read(process?.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        if command.contains(name) {
            found.push(command.replace('\0', " "));
        }
    }
    Ok(found)
}

/// Does the same with all items at the same time, each in a thread of its own.
fn at_once<I: Sync, T: Send>(
    items: &[I],
    action: impl Fn(&I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let action = &action;
        let threads: Vec<_> = items
            .iter()
            .map(|item| scope.spawn(move || action(item)))
            .collect();
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread of the test panicked"),
        });
        results.collect()
    })
}
