//! Shows that the container runtime of the tests works, with the reference plugin `ptp` in the
//! place of ours: no more than it takes to know that.
//!
//! A failure of a test of minionet under containerd (`suite/cri`) is only worth reading when these
//! pass.

mod bed;
mod leftovers;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use minionet_tests::cri;
use minionet_tests::cri::proto::{DnsConfig, PortMapping, Protocol};

use crate::bed::{Bed, COMMAND, PLUGINS, node_links};

/// A test; its error is printed when it fails.
type Test = fn() -> Result<()>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let needs = cri::available().and_then(|()| match Path::new(PLUGINS).join("ptp").is_file() {
        true => Ok(()),
        false => Err(format!("{PLUGINS}/ptp not found (Debian: containernetworking-plugins)")),
    });
    let trials: [(&str, Test); 4] = [
        ("a_pod_has_its_addresses_and_a_container_answers", pod_and_container),
        ("a_configuration_arrives_whole", configuration_arrives),
        ("nothing_is_left_behind", leftovers::nothing_is_left_behind),
        ("what_a_killed_test_left_is_removed_by_the_next", leftovers::next_test_removes_the_rest),
    ];
    let trials = trials.into_iter().map(|(name, run)| match &needs {
        Ok(()) => Trial::test(name, move || run().map_err(|error| format!("{error:?}").into())),
        // It fails when it is run in spite of that (`--ignored`): nothing was tested.
        Err(reason) => {
            let failure = reason.clone();
            Trial::test(format!("{name} ({reason})"), move || Err(failure.into())).with_ignored_flag(true)
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
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
    ensure!(links.contains("10.99.0.2/24") && links.contains("fd99::2/64"), "{links}");
    let status = bed.client.pod_sandbox_status(&pod)?;
    ensure!(status.info.get("info").is_some_and(|info| info.contains("10.99.0.2")), "{status:?}");

    let (other, client) = bed.run("client")?;
    bed.exec(&client, &["ping", "-c", "1", "-W", "10", "10.99.0.1"])?;
    let output = bed.client.exec_sync(&client, &["sh", "-c", "echo oh >&2; exit 3"], COMMAND)?;
    ensure!((output.exit_code, output.stderr.as_slice()) == (3, b"oh\n"), "{output:?}");

    bed.client.stop_container(&container, Duration::ZERO)?;
    bed.client.remove_container(&container)?;
    for pod in [&pod, &other] {
        bed.client.stop_pod_sandbox(pod)?;
        bed.client.remove_pod_sandbox(pod)?;
    }
    let left = bed.client.list_pod_sandbox()?;
    ensure!(left.is_empty(), "{left:?}");
    let error = bed.client.pod_addresses(&pod).err().context("the pod is still known")?;
    // 5 is "not found" among gRPC's status codes.
    ensure!(matches!(error, cri::CallError::Status { code: 5, .. }), "{error}");
    let links = node_links(&bed.runtime)?;
    ensure!(!links.contains("veth"), "{links}");
    Ok(bed.runtime.stop()?)
}

/// Host ports, annotations, DNS and sysctls arrive in the runtime as they were meant, so that
/// the numbers of the messages' fields are right.
fn configuration_arrives() -> Result<()> {
    let bed = Bed::new()?;
    let mut config = bed.runtime.pod("web");
    config.port_mappings = vec![PortMapping {
        protocol: Protocol::Udp.into(),
        container_port: 53,
        host_port: 5353,
        host_ip: "10.0.0.1".to_owned(),
    }];
    config.annotations = [("note".to_owned(), "kept".to_owned())].into();
    config.labels = [("app".to_owned(), "web".to_owned())].into();
    config.dns_config = Some(DnsConfig { servers: vec!["10.0.0.53".to_owned()], ..DnsConfig::default() });
    if let Some(linux) = &mut config.linux {
        linux.sysctls = [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into();
    }
    let pod = bed.client.run_pod_sandbox(&config)?;
    let container = bed.runtime.run_container(&pod, &config, "main", &["sleep", "1000"])?;

    let status = bed.client.pod_sandbox_status(&pod)?;
    let info: serde_json::Value =
        serde_json::from_str(status.info.get("info").context("the status has no info")?)?;
    let arrived = &info["config"];
    let mapping = serde_json::json!({
        "protocol": 1, "container_port": 53, "host_port": 5353, "host_ip": "10.0.0.1",
    });
    ensure!(arrived["port_mappings"] == serde_json::json!([mapping]), "{arrived:#}");
    ensure!(arrived["annotations"]["note"] == "kept", "{arrived:#}");
    ensure!(arrived["labels"]["app"] == "web", "{arrived:#}");
    ensure!(arrived["hostname"] == "web", "{arrived:#}");
    let resolver = bed.exec(&container, &["cat", "/etc/resolv.conf"])?;
    ensure!(resolver.contains("nameserver 10.0.0.53"), "{resolver}");
    let forward = bed.exec(&container, &["cat", "/proc/sys/net/ipv4/ip_forward"])?;
    ensure!(forward.trim() == "1", "{forward}");
    let first = bed.exec(&container, &["ps", "-o", "args"])?;
    ensure!(first.contains("sleep 1000"), "{first}");
    Ok(bed.runtime.stop()?)
}
