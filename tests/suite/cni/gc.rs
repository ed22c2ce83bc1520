//! GC: removes what is not wanted any more, of one network, and nothing else.

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::traffic::Ping;
use netns_testbed::{Node, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::support::*;

pub fn trials() -> Vec<Trial> {
    trials![
        what_is_not_in_the_list_goes => [Need::Program("nft")],
        an_empty_list_means_everything_of_the_network => [Need::Program("nft")],
        without_a_list_only_the_dead_go => [Need::Program("nft")],
        lists_of_the_wrong_kind_remove_nothing => [Need::Program("nft")],
        calls_under_way_are_left_alone => [Need::Program("nft")],
        the_daemon_collects_at_the_pace_it_is_told,
    ]
}

fn gc(node: &Node, more: Value) -> Result<()> {
    // As libcni calls it: the variables are there, and empty.
    let answer = call(
        node,
        "GC",
        &netns_testbed::cni::Attachment { interface: String::new(), ..attachment("", "") },
        &conf_with(more),
    )?;
    silent(&answer).context("GC")
}

/// The attachments of `c0`, `c1`, … as GC names them.
fn valid(numbers: &[usize]) -> Value {
    numbers.iter().map(|n| json!({"containerID": format!("c{n}"), "ifname": "eth0"})).collect()
}

fn three(node: &Node) -> Result<Vec<(Sandbox, String)>> {
    let add_one = |n: usize| {
        let sandbox = Sandbox::new(node, &format!("c{n}"))?;
        let address = address(&add(node, &sandbox.attachment, &conf("1.1.0"))?)?;
        Ok((sandbox, address))
    };
    (0..3).map(add_one).collect()
}

fn works(node: &Node, (sandbox, address): &(Sandbox, String)) -> Result<()> {
    sandbox.has(&["lo", "eth0"])?;
    Ping::to(address.parse()?).send(node, PATIENT).with_context(|| address.clone())?;
    Ok(())
}

/// Case 77, by both names of the key, and with an interface that is not in the list.
fn what_is_not_in_the_list_goes() -> Result<()> {
    on_node(|node| {
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let before = HostState::of(node)?;
            let pods = three(node)?;
            let mut second = pods[1].0.attachment.clone();
            second.interface = "eth1".into();
            add(node, &second, &conf("1.1.0"))?;
            for _ in 0..2 {
                gc(node, json!({key: valid(&[0, 1])})).context(key)?;
                for pod in &pods[..2] {
                    works(node, pod).with_context(|| format!("{key}: {}", pod.0.attachment.container))?;
                }
                pods[2].0.has(&["lo"]).context(key)?;
            }
            // The address is free again, and the container can be attached.
            add(node, &pods[2].0.attachment, &conf_with(json!({"runtimeConfig": {"ips": [pods[2].1]}})))?;
            gc(node, json!({key: []}))?;
            before.returns(node)?;
            (0..3).try_for_each(|n| node.unbind_pod(&format!("c{n}")))?;
        }
        Ok(())
    })
}

/// Case 78, and fact 7: what Go writes for an empty list.
fn an_empty_list_means_everything_of_the_network() -> Result<()> {
    on_node(|node| {
        for list in [json!([]), json!(null)] {
            let other = Sandbox::new(node, "other")?;
            let other_conf = conf_with(json!({"name": "net2"}));
            let address = address(&add(node, &other.attachment, &other_conf)?)?;
            let before = HostState::of(node)?;
            let pods = three(node)?;
            gc(node, json!({"cni.dev/valid-attachments": list}))?;
            for (sandbox, _) in &pods {
                sandbox.has(&["lo"])?;
            }
            before.returns(node)?;
            works(node, &(other, address))?;
            gc(node, json!({"name": "net2", "cni.dev/valid-attachments": list}))?;
            (0..3).try_for_each(|n| node.unbind_pod(&format!("c{n}")))?;
            node.unbind_pod("other")?;
        }
        Ok(())
    })
}

/// Case 79: `cnitool gc` sends none.
fn without_a_list_only_the_dead_go() -> Result<()> {
    on_node(|node| {
        let mut pods = three(node)?;
        let (gone, _) = pods.pop().context("three")?;
        drop(gone);
        node.unbind_pod("c2")?;
        gc(node, json!({}))?;
        works(node, &pods[0])?;
        works(node, &pods[1])
    })
}

/// Nothing is guessed where everything would be lost.
fn lists_of_the_wrong_kind_remove_nothing() -> Result<()> {
    on_node(|node| {
        let pods = three(node)?;
        let bad = [
            json!("c0"),
            json!({}),
            json!(5),
            json!(["c0"]),
            json!([{"containerID": 5, "ifname": "eth0"}]),
            json!([{"containerID": "c0"}]),
            json!([{"containerID": "", "ifname": ""}]),
        ];
        for list in bad {
            let conf = conf_with(json!({"cni.dev/valid-attachments": list}));
            let answer = call(node, "GC", &attachment("", ""), &conf)?;
            fails_any(&answer, &[6, 7], &["cni.dev/valid-attachments"]).with_context(|| list.to_string())?;
            for pod in &pods {
                works(node, pod).with_context(|| list.to_string())?;
            }
        }
        Ok(())
    })
}

/// Case 81: an ADD that goes on at the same time is not in any list yet.
fn calls_under_way_are_left_alone() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| -> Result<()> {
            let collector = scope.spawn(|| -> Result<usize> {
                let mut calls = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    // Valid is what is ready; what is under way is nobody's business.
                    gc(node, json!({"cni.dev/valid-attachments": valid(&(0..40).collect::<Vec<_>>())}))?;
                    calls += 1;
                }
                Ok(calls)
            });
            let pods = (0..40).map(|n| {
                let sandbox = Sandbox::new(node, &format!("c{n}"))?;
                add(node, &sandbox.attachment, &conf("1.1.0"))?;
                Ok(sandbox)
            });
            let pods = pods.collect::<Result<Vec<_>>>();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            let calls = collector.join().map_err(|_| anyhow::anyhow!("GC's thread panicked"))??;
            ensure!(calls > 0);
            for sandbox in pods? {
                sandbox.has(&["lo", "eth0"])?;
            }
            Ok(())
        })?;
        gc(node, json!({"cni.dev/valid-attachments": []}))?;
        before.returns(node)
    })
}

/// The daemon does by itself what no runtime asks for; how often, and how patiently, can be changed
/// while it runs.
fn the_daemon_collects_at_the_pace_it_is_told() -> Result<()> {
    on_node_with("collect_interval = \"1h\"\ncollect_grace = \"1h\"", |node| {
        let before = HostState::of(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        add(node, &sandbox.attachment, &conf("1.1.0"))?;
        node.ip("route add 10.32.1.200 dev minionet proto 110")?;
        let becomes = |config: &str| -> Result<()> {
            node.write("/etc/minionet/minionet.toml", config)?;
            Ok(node.signal_daemon(Signal::SIGHUP)?)
        };
        // Nobody has that address.
        let passed = || -> Result<()> {
            let routes = node.exec(["ip", "route", "show", "proto", "110"])?;
            ensure!(!routes.contains("10.32.1.200"), "{routes}");
            Ok(())
        };
        becomes("collect_interval = \"100ms\"\ncollect_grace = \"1h\"")?;
        eventually("a pass", PATIENT, passed)?;
        // Its namespace is there, and a runtime may still come and call DEL.
        sandbox.namespace.ip("link del eth0")?;
        node.ip("route add 10.32.1.200 dev minionet proto 110")?;
        eventually("another pass", PATIENT, passed)?;
        ensure!(node.exec(["ls", "/run/minionet/attachments"])?.lines().count() == 1, "the record is gone");
        becomes("collect_interval = \"100ms\"\ncollect_grace = \"0s\"")?;
        before.returns(node)
    })
}
