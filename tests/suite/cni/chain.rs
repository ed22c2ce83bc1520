//! The plugin in a chain, and beside other plugins, executed as libcni does.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use minionet_tests::{CNI_PLUGINS, Need, Trial, trials};
use netns_testbed::cni::{CniCall, ConfigList};
use netns_testbed::traffic::Ping;
use netns_testbed::{Node, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::*;

pub fn trials() -> Vec<Trial> {
    trials![
        tuning_behind_us_works_in_every_version => [Need::Program("nft"), Need::CniPlugin("tuning")],
        the_whole_list_works_in_every_version => [
            Need::Program("nft"),
            Need::Program("iptables"),
            Need::CniPlugin("portmap"),
            Need::CniPlugin("bandwidth"),
            Need::CniPlugin("tuning")
        ],
        behind_another_main_plugin_both_work => [Need::Program("nft"), Need::CniPlugin("ptp")],
        loopback_may_run_at_the_same_time => [Need::Program("nft"), Need::CniPlugin("loopback")],
        the_daemons_list_suits_every_runtime,
    ]
}

/// A directory with our plugin and the reference plugins.
fn programs(node: &Node) -> Result<TempDir> {
    let directory = tempfile::tempdir()?;
    let ours = node.programs().join("minionet");
    let reference = std::fs::read_dir(CNI_PLUGINS)?.map(|entry| Ok(entry?.path()));
    for program in reference.chain([Ok(ours)]) {
        let program = program.map_err(|error: std::io::Error| error)?;
        symlink(&program, directory.path().join(program.file_name().context("a name")?))?;
    }
    Ok(directory)
}

fn list(version: &str, plugins: &Value) -> Result<ConfigList> {
    let list = json!({"cniVersion": version, "name": "net1", "plugins": plugins});
    Ok(ConfigList::parse(&list.to_string(), "test")?)
}

/// Case 89: what another plugin changed of ours is still ours to delete.
fn tuning_behind_us_works_in_every_version() -> Result<()> {
    on_dual_stack_node(|node| {
        let before = HostState::of(node)?;
        let programs = programs(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        let tuning = json!({
            "type": "tuning", "mac": "0a:00:00:00:00:99", "mtu": 1300,
            "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"},
        });
        // Debian's plugins speak 1.0.0; before 0.3.0 the type of a result has no interfaces,
        // and tuning refuses it.
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
            let list = list(version, &json!([{"type": "minionet"}, tuning]))?;
            let result = list.add(node, programs.path(), &sandbox.attachment).context(version)?;
            ensure!(result["cniVersion"] == version, "{result}");
            let link = sandbox.namespace.exec(["ip", "link", "show", "eth0"])?;
            ensure!(link.contains("0a:00:00:00:00:99") && link.contains("mtu 1300"), "{link}");
            list.delete(node, programs.path(), &sandbox.attachment, &result).context(version)?;
            sandbox.has(&["lo"])?;
            before.returns(node).context(version)?;
        }
        Ok(())
    })
}

/// Case 89: everything that is commonly chained, behind ours.
fn the_whole_list_works_in_every_version() -> Result<()> {
    on_node(|node| {
        let programs = programs(node)?;
        let mut sandbox = Sandbox::new(node, "c1")?;
        let wishes = json!({
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
            "bandwidth": {"ingressRate": 16_000_000, "ingressBurst": 800_000,
                          "egressRate": 16_000_000, "egressBurst": 800_000},
        });
        sandbox.attachment.capabilities = wishes.as_object().cloned().context("an object")?;
        let plugins = json!([
            {"type": "minionet"},
            {"type": "portmap", "capabilities": {"portMappings": true}},
            {"type": "bandwidth", "capabilities": {"bandwidth": true}},
            {"type": "tuning", "mtu": 1300},
        ]);
        let mut before = None;
        for version in ["0.3.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
            let list = list(version, &plugins)?;
            let result = list.add(node, programs.path(), &sandbox.attachment).context(version)?;
            ensure!(result["cniVersion"] == version, "{result}");
            let pod = address(&result)?.parse()?;
            Ping::to(pod).send(node, PATIENT).context(version)?;
            if version >= "0.4.0" {
                // Debian's portmap (1.1.1) looks for the rules of each family in both, and never
                // succeeds where there is one.
                let others = list_without(&plugins, "portmap");
                let list = self::list(version, &json!(others))?;
                list.check(node, programs.path(), &sandbox.attachment, &result).context(version)?;
            }
            list.delete(node, programs.path(), &sandbox.attachment, &result).context(version)?;
            sandbox.has(&["lo"])?;
            match &before {
                // The chains of portmap that belong to nobody stay from the first time on.
                None => {
                    eventually("the interface to be gone", PATIENT, || gone(node, &result))?;
                    before = Some(HostState::of(node)?);
                }
                Some(before) => before.returns(node).context(version)?,
            }
        }
        Ok(())
    })
}

fn list_without(plugins: &Value, kind: &str) -> Vec<Value> {
    plugins.as_array().into_iter().flatten().filter(|plugin| plugin["type"] != kind).cloned().collect()
}

/// The host's end of a result is destroyed.
fn gone(node: &Node, result: &Value) -> Result<()> {
    let links = node.exec(["ip", "-o", "link"])?;
    let name = result["interfaces"][0]["name"].as_str().context("a name")?;
    ensure!(!links.contains(name), "{links}");
    Ok(())
}

/// Case 34 with a real plugin: the other's interface and routes are left as they are.
fn behind_another_main_plugin_both_work() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let programs = programs(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        let ptp = json!({
            "type": "ptp", "cniVersion": "1.0.0", "name": "other",
            "ipam": {"type": "host-local", "subnet": "10.99.0.0/24", "routes": [{"dst": "10.98.0.0/16"}]},
        });
        let path = programs.path().display().to_string();
        let mut other = sandbox.attachment.clone();
        other.interface = "net0".into();
        let call_ptp = |verb: &str| -> Result<Value> {
            let call = CniCall::new(verb, &other, &path, ptp.to_string());
            let answer = call.execute(node, &programs.path().join("ptp"))?;
            ensure!(answer.success(), "{:?}", texts(&answer));
            Ok(answer.json()?)
        };
        let previous = call_ptp("ADD")?;
        let conf = merged(conf("1.0.0"), json!({"prevResult": previous}));
        let result = add(node, &sandbox.attachment, &conf)?;
        let all = addresses(&result)?;
        ensure!(all.len() == 2 && all[0].starts_with("10.99.0."), "{result}");
        for address in all {
            Ping::to(address.parse()?).send(node, PATIENT).with_context(|| address.clone())?;
        }
        for (ip, name) in [(0, "net0"), (1, "eth0")] {
            let interface = result["ips"][ip]["interface"].as_u64().context("a position")? as usize;
            ensure!(result["interfaces"][interface]["name"] == name, "{result:#}");
        }
        del(node, &sandbox.attachment, &merged(conf, json!({"prevResult": result})))?;
        sandbox.has(&["lo", "net0"])?;
        call_ptp("DEL")?;
        sandbox.has(&["lo"])?;
        before.returns(node)
    })
}

/// Case 87: containerd runs both at once in the same namespace, and DEL in turn.
fn loopback_may_run_at_the_same_time() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let programs = programs(node)?;
        let loopback = json!({"cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback"}).to_string();
        for round in 0..10 {
            let sandbox = Sandbox::new(node, &format!("c{round}"))?;
            sandbox.namespace.ip("link set lo down\n")?;
            let mut lo = sandbox.attachment.clone();
            lo.interface = "lo".into();
            let call_lo = |verb: &str| -> Result<()> {
                let call = CniCall::new(verb, &lo, CNI_PLUGINS, loopback.as_bytes());
                let answer = call.execute(node, &programs.path().join("loopback"))?;
                ensure!(answer.success(), "{:?}", texts(&answer));
                Ok(())
            };
            thread::scope(|scope| -> Result<()> {
                let other = scope.spawn(|| call_lo("ADD"));
                add(node, &sandbox.attachment, &conf("1.1.0"))?;
                other.join().map_err(|_| anyhow::anyhow!("the thread of loopback panicked"))?
            })?;
            let result = sandbox.namespace.exec(["ip", "-o", "link", "show", "up"])?;
            ensure!(result.contains(" lo:") && result.contains(" eth0@"), "{result}");
            call_lo("DEL")?;
            del(node, &sandbox.attachment, &conf("1.1.0"))?;
        }
        before.returns(node)
    })
}

/// Old runtimes take `cniVersion`; new ones the newest of `cniVersions` that they know.
fn the_daemons_list_suits_every_runtime() -> Result<()> {
    on_node(|node| {
        let text = node.read(netns_testbed::CNI_CONFIG)?;
        let file: Value = serde_json::from_str(&text)?;
        ensure!(file["cniVersion"] == "1.0.0", "{file}");
        let versions = file["cniVersions"].as_array().context("a list")?;
        ensure!(versions.iter().all(|v| v.as_str().is_some_and(|v| VERSIONS.contains(&v))), "{file}");
        let list = ConfigList::load(node)?;
        ensure!(list.version() == "1.1.0", "{}", list.version());
        let sandbox = Sandbox::new(node, "c1")?;
        for version in versions.iter().filter_map(Value::as_str) {
            let list = list.clone().with_version(version);
            let result = list.add(node, node.programs(), &sandbox.attachment)?;
            list.delete(node, node.programs(), &sandbox.attachment, &result)?;
        }
        // Readable by all, as the runtime's user may be another.
        let mode = node.exec(["stat", "-c", "%a", netns_testbed::CNI_CONFIG])?;
        ensure!(mode.trim() == "644", "{mode}");
        ensure!(Path::new(netns_testbed::CNI_CONFIG).extension().is_some_and(|e| e == "conflist"));
        Ok(())
    })
}
