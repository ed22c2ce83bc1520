//! The container image and the DaemonSet: what they say is carried out, with the rights and mounts
//! that they give and no others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_core::config::SETTINGS;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Node, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{LONG, bare};
use crate::overlay::{everybody_reaches_everybody, pod_per_node};

const CONTAINERFILE: &str = include_str!("../../../packaging/container/Containerfile");
const MANIFEST: &str = include_str!("../../../packaging/kubernetes/minionet.yaml");

pub fn trials() -> Vec<Trial> {
    trials![
        the_manifest_agrees_with_itself_and_with_the_image,
        a_node_works_with_what_the_daemonset_gives_it => [Need::Program("crun"), Need::Root],
    ]
}

/// The documents of the manifest: the configuration and the DaemonSet.
fn documents() -> Result<(Value, Value)> {
    let mut documents = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(MANIFEST) {
        documents.push(serde::Deserialize::deserialize(document)?);
    }
    let find = |kind: &str| documents.iter().find(|d: &&Value| d["kind"] == kind).cloned();
    Ok((find("ConfigMap").context("a ConfigMap")?, find("DaemonSet").context("a DaemonSet")?))
}

/// The words of an instruction of the Containerfile.
fn instructions(name: &str) -> impl Iterator<Item = &'static str> {
    CONTAINERFILE.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix(' '))
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn words(value: &Value) -> Vec<String> {
    list(value).iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

fn the_manifest_agrees_with_itself_and_with_the_image() -> Result<()> {
    let (config, set) = documents()?;
    let spec = &set["spec"]["template"]["spec"];
    ensure!(set["apiVersion"] == "apps/v1" && config["apiVersion"] == "v1");
    ensure!(set["metadata"]["namespace"] == config["metadata"]["namespace"]);
    ensure!(set["spec"]["selector"]["matchLabels"] == set["spec"]["template"]["metadata"]["labels"]);
    ensure!(spec["hostNetwork"] == true && spec["dnsPolicy"] == "Default");
    let volumes: Vec<Value> = list(&spec["volumes"]).iter().map(|volume| volume["name"].clone()).collect();
    let containers = [list(&spec["initContainers"]), list(&spec["containers"])].concat();
    let mut used = Vec::new();
    for container in &containers {
        let name = &container["name"];
        let rights = &container["securityContext"];
        ensure!(rights["capabilities"]["drop"] == json!(["ALL"]), "{name}");
        ensure!(rights["privileged"].is_null() && rights["allowPrivilegeEscalation"] == false, "{name}");
        ensure!(rights["readOnlyRootFilesystem"] == true, "{name}");
        let image = container["image"].as_str().context("an image")?;
        ensure!(image == format!("minionet:{}", env!("CARGO_PKG_VERSION")), "{name}: {image}");
        for mount in list(&container["volumeMounts"]) {
            ensure!(volumes.contains(&mount["name"]), "{name}: no volume {}", mount["name"]);
            used.push(mount["name"].clone());
        }
        for reference in list(&container["envFrom"]) {
            ensure!(reference["configMapRef"]["name"] == config["metadata"]["name"], "{name}");
        }
    }
    ensure!(volumes.iter().all(|volume| used.contains(volume)), "a volume is not used: {volumes:?}");
    // The image has what is started in it, and the plugin beside the daemon.
    let copied: Vec<&str> = instructions("COPY").filter_map(|copy| copy.split(' ').nth(1)).collect();
    let entry: Vec<String> = serde_json::from_str(instructions("ENTRYPOINT").next().context("ENTRYPOINT")?)?;
    let probe = words(&containers[1]["readinessProbe"]["exec"]["command"]);
    let alive = &containers[1]["livenessProbe"]["httpGet"];
    let asked = format!("{}:{}", alive["host"].as_str().context("a host")?, alive["port"]);
    let served = SETTINGS.iter().find(|setting| setting.key == "metrics_address").context("the setting")?;
    ensure!(asked == served.default && alive["path"] == "/healthz", "{asked}, and not {}", served.default);
    ensure!(config["data"]["MINIONET_METRICS_ADDRESS"].is_null(), "the probe is for the default");
    ensure!(copied == ["/usr/bin/minionetd", "/usr/bin/minionet"], "{copied:?}");
    ensure!(entry == [copied[0]] && probe[0] == entry[0] && instructions("FROM").eq(["scratch"]));
    Ok(())
}

/// The root file system that the Containerfile describes.
fn image(node: &Node) -> Result<TempDir> {
    let root = tempfile::tempdir()?;
    for copy in instructions("COPY") {
        let (from, to) = copy.split_once(' ').context("two words")?;
        let to = root.path().join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a directory")?)?;
        fs::copy(node.programs().join(from), &to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    Ok(root)
}

/// What a runtime makes of a container of the DaemonSet: the defaults of containerd, with what the
/// manifest adds.
fn bundle(root: &Path, spec: &Value, container: &Value, environment: &[String]) -> Result<TempDir> {
    let bundle = tempfile::tempdir()?;
    let kind = |kind: &str, at: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": kind, "options": options});
    let mut mounts = vec![
        kind("proc", "/proc", &["nosuid", "noexec", "nodev"]),
        kind("tmpfs", "/dev", &["nosuid", "mode=755"]),
        kind("sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
    ];
    // The kubelet's copy of the node's resolv.conf.
    mounts.push(
        json!({"destination": "/etc/resolv.conf", "source": "/etc/resolv.conf", "options": ["rbind", "ro"]}),
    );
    for mount in list(&container["volumeMounts"]) {
        let volume = list(&spec["volumes"]).into_iter().find(|volume| volume["name"] == mount["name"]);
        let path = volume.context("a volume")?["hostPath"]["path"].clone();
        let write = if mount["readOnly"] == true { "ro" } else { "rw" };
        let spread = if mount["mountPropagation"] == "HostToContainer" { "rslave" } else { "rprivate" };
        mounts.push(
            json!({"destination": mount["mountPath"], "source": path, "options": ["rbind", spread, write]}),
        );
    }
    let capabilities: Vec<String> = words(&container["securityContext"]["capabilities"]["add"])
        .iter()
        .map(|c| format!("CAP_{c}"))
        .collect();
    let entry: Vec<String> = serde_json::from_str(instructions("ENTRYPOINT").next().context("ENTRYPOINT")?)?;
    let arguments = [entry, words(&container["args"])].concat();
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": arguments,
            "env": environment,
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "root": {"path": root, "readonly": true},
        "mounts": mounts,
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "rootfsPropagation": "rslave",
        },
    });
    fs::write(bundle.path().join("config.json"), config.to_string())?;
    Ok(bundle)
}

/// A container that runs; it ends when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a container in the foreground, without control groups, which are not at issue.
fn start(node: &Node, bundle: &Path, name: &str) -> Result<Running> {
    let mut command = node.command("crun");
    command.args(["--cgroup-manager=disabled", "--root=/run/crun", "run", "--bundle"]).arg(bundle).arg(name);
    let log = fs::File::create(bundle.join("log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(Running(node.spawn(command)?))
}

fn a_node_works_with_what_the_daemonset_gives_it() -> Result<()> {
    let (config, set) = documents()?;
    let spec = &set["spec"]["template"]["spec"];
    let settings = config["data"].as_object().context("settings")?;
    let environment: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    let cluster = Cluster::builder("cncfdemo").nodes(2).start_without_daemons()?;
    cluster.node(1).start_daemon()?;
    let node = cluster.node(0);
    bare(node)?;
    node.exec(["mount", "--make-rshared", "/"])?;
    // crun looks at what is mounted there, also where it makes no control groups.
    node.exec(["mount", "-t", "tmpfs", "tmpfs", "/sys/fs/cgroup"])?;
    for volume in list(&spec["volumes"]) {
        if volume["hostPath"]["type"] == "DirectoryOrCreate" {
            node.exec(["mkdir", "-p", volume["hostPath"]["path"].as_str().context("a path")?])?;
        }
    }
    let root = image(node)?;
    let plugin = bundle(root.path(), spec, &spec["initContainers"][0], &[])?;
    let status = start(node, plugin.path(), "plugin")?.0.wait()?;
    ensure!(status.success(), "{}", fs::read_to_string(plugin.path().join("log"))?);
    ensure!(node.exists("/opt/cni/bin/minionet")? && !node.exists("/var/lib/minionet/installed.json")?);
    let daemon = bundle(root.path(), spec, &spec["containers"][0], &environment)?;
    let _running = start(node, daemon.path(), "daemon")?;
    let log = || fs::read_to_string(daemon.path().join("log")).unwrap_or_default();
    let probe: Vec<String> = words(&spec["containers"][0]["readinessProbe"]["exec"]["command"]);
    let exec = ["crun", "--cgroup-manager=disabled", "--root=/run/crun", "exec", "daemon"].map(str::to_owned);
    eventually("the container to be ready", LONG, || {
        let said = node.exec(exec.iter().chain(&probe)).with_context(log)?;
        ensure!(said.trim() == "the overlay is formed", "{said}");
        anyhow::Ok(())
    })?;
    cluster.wait_ready()?;
    everybody_reaches_everybody(&pod_per_node(&cluster)?)?;
    ensure!(node.read("/proc/sys/net/ipv4/ip_forward")?.trim() == "1");
    ensure!(node.read("/proc/sys/net/ipv4/conf/minionet/accept_redirects")?.trim() == "0");
    // The collector sees that a pod's namespace is gone.
    node.add_pod("dead")?.vanish()?;
    eventually("the collector to find the dead pod", LONG, || {
        let records = node.exec(["ls", "/run/minionet/attachments"])?;
        ensure!(records.lines().count() == 1, "{records}: {}", log());
        anyhow::Ok(())
    })?;
    Ok(())
}
