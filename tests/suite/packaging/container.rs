//! The container image and the DaemonSet: the image is what its recipe says, and the manifest is
//! carried out by a container runtime as kubelet has it done.

mod image;
mod kubelet;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_core::config::SETTINGS;
use minionet_tests::cri::proto::ContainerState;
use minionet_tests::cri::{Options, Runtime};
use minionet_tests::{CNI_PLUGINS, Need, trials};
use netns_testbed::{Cluster, eventually};
use serde_json::{Value, json};

use self::kubelet::Pod;
use super::{LONG, bare};
use crate::overlay::{everybody_reaches_everybody, pod_per_node};
use crate::status::get;

const CONTAINERFILE: &str = include_str!("../../../packaging/container/Containerfile");
const MANIFEST: &str = include_str!("../../../packaging/kubernetes/minionet.yaml");

/// The name that the manifest has for the image, as runtimes complete it.
const IMAGE: &str = concat!("docker.io/library/minionet:", env!("CARGO_PKG_VERSION"));

pub fn trials() -> Vec<Trial> {
    let mut all = trials![
        the_manifest_agrees_with_itself_and_with_the_image,
        a_node_becomes_a_minion_by_the_daemonset_alone =>
            [Need::ContainerRuntime, Need::CniPlugin("loopback"), Need::Program("nft")],
    ];
    all.extend(image::trials());
    all
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

/// What a runtime, kubelet and the daemon do of the two containers, up to pods that talk.
fn a_node_becomes_a_minion_by_the_daemonset_alone() -> Result<()> {
    let (config, set) = documents()?;
    let cluster = Cluster::builder("cncfdemo").nodes(2).start_without_daemons()?;
    cluster.node(1).start_daemon()?;
    let node = cluster.node(0);
    bare(node)?;
    node.exec(["mount", "--make-rshared", "/"])?;
    // The plugin is looked for where the manifest puts it, and is not there yet.
    let plugins = tempfile::tempdir()?;
    std::os::unix::fs::symlink("/opt/cni/bin/minionet", plugins.path().join("minionet"))?;
    let options = Options {
        cni_bin: vec![plugins.path().to_owned(), PathBuf::from(CNI_PLUGINS)],
        cni_conf: PathBuf::from("/etc/cni/net.d"),
    };
    let runtime = Runtime::start(&options, |program| node.command(program))?;
    let client = runtime.client();
    let archive = image::build(plugins.path())?;
    runtime.import(&archive, &[IMAGE])?;
    ensure!(!client.network_ready()?.status && !node.exists("/opt/cni/bin/minionet")?);

    let pod = Pod::of(&set, &config)?;
    pod.make_directories(node)?;
    let sandbox_config = pod.sandbox(runtime.pod("minionet"));
    let sandbox = client.run_pod_sandbox(&sandbox_config)?;
    let run = |container: &Value| -> Result<String> {
        Ok(runtime.start_container(&sandbox, &sandbox_config, &pod.container(container)?)?)
    };
    let first = run(&pod.spec()["initContainers"][0])?;
    eventually("the first container to end", LONG, || {
        let status = client.container_status(&first)?;
        ensure!(status.state == ContainerState::Exited as i32 && status.exit_code == 0, "{status:?}");
        anyhow::Ok(())
    })?;
    ensure!(node.exists("/opt/cni/bin/minionet")? && !node.exists("/var/lib/minionet/installed.json")?);

    let main = &pod.spec()["containers"][0];
    let daemon = run(main)?;
    let probe = words(&main["readinessProbe"]["exec"]["command"]);
    let probe: Vec<&str> = probe.iter().map(String::as_str).collect();
    eventually("the container to be ready", LONG, || {
        let output = client.exec_sync(&daemon, &probe, LONG)?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(output.exit_code == 0 && said.trim() == "the overlay is formed", "{said}");
        anyhow::Ok(())
    })?;
    let alive = main["livenessProbe"]["httpGet"]["path"].as_str().context("a path")?;
    eventually("the daemon to say that it lives", LONG, || {
        let (status, said) = get(node, alive)?;
        ensure!(status == 200, "{status}: {said}");
        anyhow::Ok(())
    })?;
    cluster.wait_ready()?;
    everybody_reaches_everybody(&pod_per_node(&cluster)?)?;
    ensure!(node.read("/proc/sys/net/ipv4/ip_forward")?.trim() == "1");
    ensure!(node.read("/proc/sys/net/ipv4/conf/minionet/accept_redirects")?.trim() == "0");

    // The runtime reads the list and executes the plugin, both of which containers wrote.
    eventually("the runtime to see the network", LONG, || {
        let ready = client.network_ready()?;
        ensure!(ready.status, "{ready:?}");
        anyhow::Ok(())
    })?;
    let far = cluster.node(1).add_pod("far")?;
    let config = runtime.pod("web");
    let web = client.run_pod_sandbox(&config)?;
    let shell = runtime.run_container(&web, &config, "main", &[])?;
    let ping = ["ping", "-c", "1", "-W", "10", &far.address().to_string()].map(str::to_owned);
    let ping: Vec<&str> = ping.iter().map(String::as_str).collect();
    eventually("the far pod to answer", LONG, || {
        let output = client.exec_sync(&shell, &ping, LONG)?;
        ensure!(output.exit_code == 0, "{}", String::from_utf8_lossy(&output.stdout));
        anyhow::Ok(())
    })?;
    client.stop_pod_sandbox(&web)?;

    // The collector sees that a pod's namespace is gone.
    let records = || anyhow::Ok(node.exec(["ls", "/run/minionet/attachments"])?.lines().count());
    let before = records()?;
    node.add_pod("dead")?.vanish()?;
    eventually("the collector to find the dead pod", LONG, || {
        ensure!(records()? == before, "{} records, and before {before}", records()?);
        anyhow::Ok(())
    })?;
    // The pod of the DaemonSet goes, and the overlay stays.
    client.stop_pod_sandbox(&sandbox)?;
    ensure!(node.exec(["ip", "link", "show", "minionet"]).is_ok());
    Ok(runtime.stop()?)
}
