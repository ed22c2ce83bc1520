//! Attachments outlive the version of the plugin that made them.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::Node;
use serde_json::Value;

use super::bed::{checking, collect, on_orphaned_node, same, traces};
use crate::cni::support::{Sandbox, add, call, conf, conf_with, fails};

pub fn trials() -> Vec<Trial> {
    trials![
        a_record_of_a_later_format_is_not_touched => [Need::Program("nft")],
    ]
}

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
        let nothing_valid = conf_with(serde_json::json!({"cni.dev/valid-attachments": []}));
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
