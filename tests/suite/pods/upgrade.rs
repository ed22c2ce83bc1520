//! Attachments outlive the version of the plugin that made them.

use std::collections::BTreeSet;

use anyhow::{Context, Error, Result, bail, ensure};
use libtest_mimic::Trial;
use minionet_core::cni::attachment::{Record, SCHEMA};
use minionet_tests::{Installed, Need, previous_programs, print, trials};
use netns_testbed::traffic::Ping;
use netns_testbed::{Binaries, Cluster, Node, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::bed::{checking, collect, collect_all, command, full_conf, on_orphaned_node, same, traces};
use super::trace::{Calls, Fault, run};
use crate::cni::support::{
    DUAL_STACK, PATIENT, Sandbox, VERSIONS, add, addresses, call, conf, conf_with, del, fails, merged,
    rules_are_known, silent,
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_record_of_a_later_format_is_not_touched => [Need::Program("nft")],
        a_record_of_every_format_is_checked_and_deleted => [Need::Program("nft")],
        what_the_previous_commit_attached_is_checked_and_deleted =>
            [Need::PreviousPrograms, Need::Program("nft")],
        what_the_previous_commit_left_half_made_is_undone =>
            [Need::PreviousPrograms, Need::Program("nft")],
    ]
}

/// A record of each format that there has been, made by [`golden_conf`]; the number of them is that
/// of the format in use, so a new one does not compile without.
const FORMATS: [&str; SCHEMA as usize] = [include_str!("records/1.json")];

/// The file of the only record.
fn record(node: &Node) -> Result<(String, Value)> {
    let path = node.exec(["sh", "-c", "echo /run/minionet/attachments/*.json"])?.trim().to_owned();
    let record = serde_json::from_str(&node.read(&path)?)?;
    Ok((path, record))
}

fn a_record_of_a_later_format_is_not_touched() -> Result<()> {
    on_orphaned_node("", |node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let result = add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let (path, mut later) = record(node)?;
        later["schema"] = 99.into();
        later["anything"] = "else".into();
        node.write(&path, later.to_string())?;
        let attached = traces(node, &sandbox)?;
        let nothing_valid = conf_with(json!({"cni.dev/valid-attachments": []}));
        for (verb, conf) in [
            ("ADD", conf("1.1.0")),
            ("CHECK", checking(&conf("1.1.0"), &result)),
            ("DEL", conf("1.1.0")),
            ("GC", nothing_valid),
        ] {
            let answer = call(node, verb, &sandbox.attachment, &conf)?;
            fails(&answer, 102, &["format 99", "install"])?;
            same(&attached, &traces(node, &sandbox)?)?;
        }
        let outcome = collect(node)?;
        ensure!(outcome.removed.is_empty() && outcome.failed.len() == 1, "{outcome:?}");
        same(&attached, &traces(node, &sandbox)?)
    })
}

/// The configuration of the samples: nothing in it is left to choose.
fn golden_conf() -> Value {
    let mut conf = full_conf();
    conf["capabilities"] = json!({"portMappings": true, "bandwidth": true, "ips": true, "mac": true});
    conf["runtimeConfig"]["ips"] = json!(["10.32.1.77", "fd00:32:0:1::77"]);
    conf["runtimeConfig"]["mac"] = "0a:00:00:00:00:77".into();
    conf
}

/// What ADD makes today, with the record that an earlier version would have written of it.
fn a_record_of_every_format_is_checked_and_deleted() -> Result<()> {
    on_orphaned_node("", |node| {
        let mut sandbox = Sandbox::new(node, "golden")?;
        sandbox.attachment.args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web".into();
        let before = traces(node, &sandbox)?;
        for (sample, format) in FORMATS.iter().zip(1..) {
            let attach = || -> Result<Value> {
                let result = add(node, &sandbox.attachment, &golden_conf())?;
                let (path, today) = record(node)?;
                let mut golden: Value = serde_json::from_str(sample)?;
                ensure!(golden["schema"] == format, "the sample of format {format}: {golden}");
                // These are of a machine and a moment.
                golden["boot"] = today["boot"].clone();
                golden["netns"] = today["netns"].clone();
                let parsed: Record = serde_json::from_value(golden.clone())?;
                ensure!(path.contains(&parsed.key.id().to_string()), "{path} is not {}", parsed.key.id());
                node.write(&path, golden.to_string())?;
                Ok(result)
            };
            let result = attach()?;
            let attached = traces(node, &sandbox)?;
            let check = checking(&golden_conf(), &result);
            silent(&call(node, "CHECK", &sandbox.attachment, &check)?).context("CHECK")?;
            fails(&call(node, "ADD", &sandbox.attachment, &golden_conf())?, 112, &["10.32.1.77"])?;
            ensure!(collect_all(node)?.removed.is_empty(), "it lives");
            same(&attached, &traces(node, &sandbox)?)?;
            del(node, &sandbox.attachment, &golden_conf())?;
            same(&before, &traces(node, &sandbox)?)?;
            // And without a DEL.
            attach()?;
            sandbox.namespace.ip("link del eth0")?;
            collect_all(node)?;
            same(&before, &traces(node, &sandbox)?)?;
        }
        Ok(())
    })
}

/// A dual-stack node with the programs of the previous commit.
fn on_previous_node(
    config: &str,
    test: impl FnOnce(&Node, &dyn Fn() -> Result<()>, &dyn Fn() -> Result<()>) -> Result<()>,
) -> Result<()> {
    let (previous, current) = (previous_programs().map_err(Error::msg)?, Binaries::locate()?);
    let installed = Installed::of(&previous)?;
    let (underlay, families) = DUAL_STACK;
    let builder = Cluster::builder("cncfdemo").nodes(1).underlay(underlay).config(families).config(config);
    builder.binaries(Binaries::in_directory(installed.directory())).run(|cluster| {
        let (new, old) = (|| installed.replace(current.directory()), || installed.replace(&previous));
        test(cluster.node(0), &new, &old)
    })
}

/// What attachments leave, without what daemons of different versions may have differently: their
/// rules, as long as they do not tell of a pod.
fn without_rules(traces: BTreeSet<String>, pods: &[String]) -> BTreeSet<String> {
    let of_a_pod = |fact: &String| pods.iter().any(|address| fact.contains(address));
    traces.into_iter().filter(|fact| !fact.starts_with("element ") || of_a_pod(fact)).collect()
}

fn what_the_previous_commit_attached_is_checked_and_deleted() -> Result<()> {
    on_previous_node("collect_interval = \"100ms\"", |node, upgrade, _| {
        let mut confs: Vec<Value> = VERSIONS.into_iter().map(conf).collect();
        confs.push(full_conf());
        let sandbox = |number: usize| Sandbox::new(node, &format!("c{number}"));
        let sandboxes: Vec<Sandbox> = (0..confs.len()).map(sandbox).collect::<Result<_>>()?;
        let vanishing = Sandbox::new(node, "vanishing")?;
        let before: Vec<_> = sandboxes.iter().map(|sandbox| traces(node, sandbox)).collect::<Result<_>>()?;
        let results: Vec<Value> = sandboxes
            .iter()
            .zip(&confs)
            .map(|(sandbox, conf)| add(node, &sandbox.attachment, conf))
            .collect::<Result<_>>()?;
        add(node, &vanishing.attachment, &conf("1.1.0"))?;

        upgrade()?;
        node.kill_daemon(Signal::SIGTERM)?;
        let report = || node.exec(["stat", "--format=%i", "/run/minionet/health.json"]);
        let former = report()?;
        node.start_daemon()?;
        eventually("the new daemon to tell of its rules", PATIENT, || {
            ensure!(report()? != former, "the report is the former daemon's");
            rules_are_known(node)
        })?;

        // The daemon collects what the other version's plugin made, and only what is dead.
        node.unbind_pod("vanishing")?;
        vanishing.namespace.ip("link del eth0")?;
        let mut all = Vec::new();
        for ((sandbox, conf), result) in sandboxes.iter().zip(&confs).zip(&results) {
            if result.get("ips").is_some() {
                let own = addresses(result)?;
                Ping::to(own[0].parse()?).send(node, PATIENT)?;
                all.extend(own);
            }
            fails(&call(node, "ADD", &sandbox.attachment, conf)?, 112, &[])?;
            // The first version with CHECK.
            if !matches!(conf["cniVersion"].as_str(), Some("0.1.0" | "0.2.0" | "0.3.0" | "0.3.1")) {
                let check = call(node, "CHECK", &sandbox.attachment, &checking(conf, result))?;
                silent(&check).with_context(|| format!("CHECK of {result}"))?;
            }
        }
        // What is added now gets along with what was there.
        let late = Sandbox::new(node, "late")?;
        let added = addresses(&add(node, &late.attachment, &conf("1.1.0"))?)?;
        ensure!(added.iter().all(|address| !all.contains(address)), "{added:?} and {all:?}");
        del(node, &late.attachment, &conf("1.1.0"))?;
        for (sandbox, conf) in sandboxes.iter().zip(&confs) {
            del(node, &sandbox.attachment, &merged(conf.clone(), json!({"prevResult": null})))?;
        }
        for (sandbox, before) in sandboxes.iter().zip(before) {
            let before = without_rules(before, &all);
            eventually("nothing to be left", PATIENT, || {
                same(&before, &without_rules(traces(node, sandbox)?, &all))
            })?;
        }
        Ok(())
    })
}

/// As when an upgrade kills a call: the other version finds what it left.
fn what_the_previous_commit_left_half_made_is_undone() -> Result<()> {
    on_previous_node("", |node, upgrade, downgrade| {
        node.kill_daemon(Signal::SIGKILL)?;
        let sandbox = Sandbox::new(node, "c1")?;
        let before = traces(node, &sandbox)?;
        for at in 0..10_000 {
            downgrade()?;
            let add = command(node, "ADD", &sandbox.attachment);
            let input = full_conf().to_string();
            let traced = run(add, input.as_bytes(), Fault::Kill, Calls::Changing, at)?;
            upgrade()?;
            // By turns, and a complete one by DEL.
            let by_collector = at % 2 == 0 && traced.hit.is_some();
            if by_collector {
                collect_all(node)?;
            }
            if !by_collector || traces(node, &sandbox)? != before {
                if by_collector {
                    fails(&call(node, "ADD", &sandbox.attachment, &full_conf())?, 112, &[])?;
                }
                del(node, &sandbox.attachment, &full_conf())?;
            }
            same(&before, &traces(node, &sandbox)?).with_context(|| format!("{traced:?}"))?;
            if traced.hit.is_none() {
                ensure!(traced.code == Some(0) && at > 15, "call {at}: {traced:?}");
                print(&format!("upgrade: an earlier ADD was killed at each of {at} calls"));
                return Ok(());
            }
        }
        bail!("it makes calls without end")
    })
}
