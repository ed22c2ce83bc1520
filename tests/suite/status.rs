//! `minionetd status`, metrics and health, on clusters of the real daemon.

mod down;
mod files;
mod healthy;
mod http;
pub mod metrics;
mod prometheus;
mod rules;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use netns_testbed::{Cluster, ClusterBuilder, Namespace, Node, forget_settings};
use serde_json::Value;

/// Long enough for whatever happens at the intervals used here.
const PATIENT: Duration = Duration::from_secs(30);

/// Where metrics and health are served where nothing else is configured.
const ADDRESS: &str = "127.0.0.1:4799";

pub fn trials() -> Vec<Trial> {
    let all = [
        down::trials(),
        files::trials(),
        healthy::trials(),
        http::trials(),
        metrics::trials(),
        prometheus::trials(),
        rules::trials(),
    ];
    all.into_iter().flatten().collect()
}

/// A cluster whose nodes probe each other twice a second, and forget a peer that DNS drops at once.
fn cluster() -> ClusterBuilder {
    Cluster::builder("cncfdemo").config(
        "probe_interval = \"500ms\"\nrefresh_min = \"100ms\"\nrefresh_max = \"200ms\"\nmissing_answers = 1\n\
         hold_down = \"0s\"\n",
    )
}

/// Runs `minionetd` with these words, as on a terminal of 80 columns.
fn call(node: &Node, words: &[&str]) -> Result<Output> {
    let mut command = node.command(node.programs().join("minionetd"));
    command.args(words).env("COLUMNS", "80");
    forget_settings(&mut command);
    command.output().context("execute minionetd")
}

/// What it prints, and its exit status.
pub fn text(node: &Node, words: &[&str]) -> Result<(String, i32)> {
    let output = call(node, words)?;
    ensure!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    Ok((text, output.status.code().context("killed")?))
}

/// `minionetd status --json`.
pub fn report(node: &Node) -> Result<Value> {
    Ok(serde_json::from_str(&text(node, &["status", "--json"])?.0)?)
}

/// What the report says of a peer.
fn peer<'a>(report: &'a Value, address: &str) -> Result<&'a Value> {
    let peers = report["peers"].as_array().context("peers")?;
    peers
        .iter()
        .find(|peer| peer["address"] == address)
        .with_context(|| format!("no {address} in {report:#}"))
}

/// Asks over TCP on loopback; the status and the body.
pub fn get(host: &Namespace, path: &str) -> Result<(u16, String)> {
    request(host, &format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n"))
}

/// Sends a request as it is.
fn request(host: &Namespace, text: &str) -> Result<(u16, String)> {
    let answer = host.run(|| -> std::io::Result<String> {
        let mut stream = TcpStream::connect(ADDRESS)?;
        stream.set_read_timeout(Some(PATIENT))?;
        stream.write_all(text.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })??;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {answer:?}"))?;
    let status = head.split(' ').nth(1).context("a status line")?;
    Ok((status.parse()?, body.to_owned()))
}
