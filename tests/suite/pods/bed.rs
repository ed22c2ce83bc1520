//! A minion whose daemon is dead, so that nobody but the test and the plugin does anything.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use minionet_core::addr::Family;
use minionet_core::constants::{NFT_TABLE, ROUTE_PROTOCOL_POD, RUN_DIR};
use minionet_netlink::Socket;
use minionet_netlink::nft::Nft;
use minionet_pods::collector::{Collector, Outcome, Scope};
use minionet_pods::store::Store;
use netns_testbed::cni::Attachment;
use netns_testbed::{Cluster, Namespace, Node};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::cni::support::{Sandbox, conf_with, merged};

/// The variable that turns short runs into long ones, for whoever has the time.
const LONG: &str = "MINIONET_TEST_LONG";

/// How often something is tried: a little by default, and much where that is asked for.
pub fn times(little: usize, much: usize) -> usize {
    if std::env::var_os(LONG).is_some() { much } else { little }
}

/// Runs a test on a minion of both families whose daemon was killed when it was ready.
pub fn on_orphaned_node<T>(config: &str, test: impl FnOnce(&Node) -> Result<T>) -> Result<T> {
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

/// What attachments leave in the kernel and in files, of a node and a container.
pub fn traces(node: &Node, sandbox: &Sandbox) -> Result<BTreeSet<String>> {
    let look = |node: &Namespace, host: bool| -> Result<BTreeSet<String>> {
        node.run(|| -> Result<BTreeSet<String>> {
            let mut socket = Socket::open()?;
            let mut found: BTreeSet<String> =
                socket.links()?.into_iter().map(|link| format!("link {} {}", link.name, host)).collect();
            if !host {
                return Ok(found);
            }
            for family in [Family::V4, Family::V6] {
                let routes = socket.routes(family, ROUTE_PROTOCOL_POD)?;
                found.extend(routes.into_iter().map(|route| format!("route {}", route.dst)));
            }
            let table = Nft::open()?.dump(NFT_TABLE)?.context("the nft table")?;
            for set in table.sets {
                found.extend(set.elements.iter().map(|element| format!("element {} {element}", set.name)));
            }
            for name in ["attachments", "leases"] {
                let directory = Path::new(RUN_DIR).join(name);
                for entry in directory.read_dir().into_iter().flatten() {
                    found.insert(format!("file {}", entry?.path().display()));
                }
            }
            // What a killed writer leaves under this name is overwritten by the next.
            found.remove(&format!("file {RUN_DIR}/attachments/.new"));
            Ok(found)
        })?
    };
    let mut all = look(node, true)?;
    all.extend(look(&sandbox.namespace, false)?);
    Ok(all)
}

/// Whether everything is as it was.
pub fn same(before: &BTreeSet<String>, now: &BTreeSet<String>) -> Result<()> {
    let left: Vec<_> = now.difference(before).collect();
    let lost: Vec<_> = before.difference(now).collect();
    ensure!(left.is_empty() && lost.is_empty(), "left behind: {left:#?}; missing: {lost:#?}");
    Ok(())
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
    pass(node, &Scope::default())
}

fn pass(node: &Node, scope: &Scope) -> Result<Outcome> {
    Ok(node.run(|| {
        let mut collector = Collector::new(Store::new(Path::new(RUN_DIR)), Duration::ZERO);
        Socket::open().map(|mut socket| collector.pass(&mut socket, scope, Instant::now()))
    })??)
}

/// Removes every attachment, dead or alive, as GC does that is told that nothing is wanted.
pub fn remove_all(node: &Node) -> Result<Outcome> {
    let scope = Scope { network: None, wanted: Some(BTreeSet::new()) };
    pass(node, &scope)
}

/// One pass of the collector that must succeed.
pub fn collect_all(node: &Node) -> Result<Outcome> {
    let outcome = collect(node)?;
    ensure!(outcome.failed.is_empty(), "{outcome:?}");
    Ok(outcome)
}
