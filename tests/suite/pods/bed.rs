//! A minion whose daemon is dead, so that nobody but the test and the plugin does anything.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use minionet_core::constants::RUN_DIR;
use minionet_netlink::Socket;
use minionet_pods::collector::{Collector, Outcome, Scope};
use minionet_pods::store::Store;
use netns_testbed::cni::Attachment;
use netns_testbed::{Cluster, Node};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::cni::support::{conf_with, merged};

/// The variable that turns short runs into long ones, for whoever has the time.
const LONG: &str = "MINIONET_TEST_LONG";

/// How often something is tried: a little by default, and much where that is asked for.
pub fn times(little: usize, much: usize) -> usize {
    if std::env::var_os(LONG).is_some() { much } else { little }
}

/// Runs a test on a minion of both families whose daemon was killed when it was ready.
pub fn on_orphaned_node(config: &str, test: impl FnOnce(&Node) -> Result<()>) -> Result<()> {
    let config = format!("{config}\npod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]\n");
    let builder = Cluster::builder("cncfdemo").nodes(1).underlay("172.20.0.0/24, fd00:20::/64");
    builder.config(&config).run(|cluster| {
        cluster.node(0).kill_daemon(Signal::SIGKILL)?;
        test(cluster.node(0))
    })
}

/// A configuration with everything in it that makes ADD change something.
pub fn full_conf() -> Value {
    conf_with(json!({
        "capabilities": {"portMappings": true, "bandwidth": true},
        "runtimeConfig": {
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "udp"}],
            "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000,
                          "egressRate": 8_000_000, "egressBurst": 800_000},
        },
    }))
}

/// The configuration as CHECK gets it.
pub fn checking(conf: &Value, result: &Value) -> Value {
    merged(conf.clone(), json!({"prevResult": result}))
}

/// The command line of a call, to be run by the test itself.
pub fn command(node: &Node, verb: &str, attachment: &Attachment) -> Command {
    let mut command = node.command(node.programs().join("minionet"));
    command.env_clear();
    let variables = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", &attachment.container),
        ("CNI_NETNS", &attachment.netns),
        ("CNI_IFNAME", &attachment.interface),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    command.envs(variables);
    command
}

/// One pass of the collector, as the daemon makes it. A namespace that is there and has lost its
/// interface is given no time.
pub fn collect(node: &Node) -> Result<Outcome> {
    Ok(node.run(|| {
        let mut collector = Collector::new(Store::new(Path::new(RUN_DIR)), Duration::ZERO);
        Socket::open().map(|mut socket| collector.pass(&mut socket, &Scope::default(), Instant::now()))
    })??)
}

/// One pass of the collector that must succeed.
pub fn collect_all(node: &Node) -> Result<Outcome> {
    let outcome = collect(node)?;
    ensure!(outcome.failed.is_empty(), "{outcome:?}");
    Ok(outcome)
}
