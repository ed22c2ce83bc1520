//! The doctor: finds nothing on a healthy node, and names what is wrong on others.

mod breakages;
mod healthy;
mod settings;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use netns_testbed::{Cluster, Node, eventually};
use serde_json::Value;

/// Long enough for a daemon to follow, on a busy machine.
const PATIENT: Duration = Duration::from_secs(30);

pub fn trials() -> Vec<Trial> {
    [breakages::trials(), healthy::trials(), settings::trials()].into_iter().flatten().collect()
}

/// The document of an examination, and its exit status.
fn examine(node: &Node) -> Result<(Value, Option<i32>)> {
    examine_with(node, &[])
}

/// As [`examine`], with further words.
fn examine_with(node: &Node, words: &[&str]) -> Result<(Value, Option<i32>)> {
    let programs = node.programs().display().to_string();
    let own = words.contains(&"--cni-bin-dir");
    let base = ["doctor", "--json", "--cni-bin-dir", &programs];
    let base = if own { &base[..2] } else { &base };
    let spoken = minionetd(node, &[base, words].concat())?;
    let document = serde_json::from_str(&spoken.out).with_context(|| format!("{spoken:?}"))?;
    Ok((document, spoken.code))
}

/// The findings that are worse than `ok`.
fn bad(document: &Value) -> Vec<&Value> {
    let findings = document["findings"].as_array().into_iter().flatten();
    findings.filter(|finding| finding["verdict"] != "ok" && finding["verdict"] != "skipped").collect()
}

/// Expects that nothing is found.
fn expect_healthy(node: &Node) -> Result<()> {
    let (document, code) = examine(node)?;
    ensure!(bad(&document).is_empty() && code == Some(0), "{code:?} {:#?}", bad(&document));
    Ok(())
}

/// Waits until nothing is found.
fn wait_for_health(node: &Node) -> Result<()> {
    eventually(&format!("{} to be healthy", node.name()), PATIENT, || expect_healthy(node))?;
    Ok(())
}

/// Expects a finding of a check with a verdict and a part of its text and remedy.
pub fn expect_finding(node: &Node, check: &str, verdict: &str, words: &[&str]) -> Result<()> {
    let (document, code) = examine(node)?;
    expect_in(&document, code, check, verdict, words)
}

/// As [`expect_finding`], in a document that is there.
fn expect_in(document: &Value, code: Option<i32>, check: &str, verdict: &str, words: &[&str]) -> Result<()> {
    let findings = bad(document);
    let text = |f: &Value| {
        format!("{} -> {}", f["finding"].as_str().unwrap_or(""), f["remedy"].as_str().unwrap_or(""))
    };
    let is = |f: &&&Value| {
        f["check"] == check && f["verdict"] == verdict && words.iter().all(|word| text(f).contains(word))
    };
    ensure!(findings.iter().any(|f| is(&f)), "no {verdict} of {check} with {words:?}: {findings:#?}");
    // The status is that of the worst.
    let worst = document["verdict"].as_str();
    let status = match worst {
        Some("error") => 4,
        Some("warning") => 3,
        _ => 0,
    };
    ensure!(code == Some(status), "status {code:?} for {worst:?}");
    Ok(())
}

/// Waits until the daemons of a cluster answer each other, and both ways are known to work.
fn wait_for_answers(cluster: &Cluster) -> Result<()> {
    cluster.nodes().iter().try_for_each(wait_for_health)
}

/// What a command of the operator did.
#[derive(Debug)]
pub struct Spoken {
    /// Its exit status.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// Runs `minionetd` with these words, whatever it ends with.
pub fn minionetd(node: &Node, words: &[&str]) -> Result<Spoken> {
    let mut command = node.command(node.programs().join("minionetd"));
    // As in a shell that somebody has just logged in to.
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = node.spawn(command)?.wait_with_output()?;
    let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    Ok(Spoken { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) })
}
