//! A Prometheus server that scrapes a daemon: what the dashboard and the alert rules ask is
//! understood by it, and none of it asks for series that no daemon has.

use std::process::Child;

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::{Cluster, Node, eventually};
use serde_json::Value;

use super::metrics::{DASHBOARD, RULES};
use super::{ADDRESS, PATIENT};

/// Where it listens, on the node.
const SERVER: &str = "127.0.0.1:9090";

/// Series that come with what happens; `docs/metrics.md` says of each when it is there.
const SOMETIMES: [&str; 1] = ["minionet_registration_last_success_timestamp_seconds"];

pub fn trials() -> Vec<Trial> {
    trials![
        whatever_is_asked_is_there => [Need::Program("prometheus"), Need::Program("promtool")],
    ]
}

/// A running server; it ends when this is dropped.
struct Prometheus<'a> {
    node: &'a Node,
    child: Child,
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        // It may have ended by itself; then there is only the status to collect.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<'a> Prometheus<'a> {
    /// One that scrapes the node's daemon and itself, with our rules.
    fn start(node: &'a Node) -> Result<Self> {
        let directory = "/run/prometheus";
        node.write(format!("{directory}/minionet.rules.yml"), RULES)?;
        node.write(
            format!("{directory}/prometheus.yml"),
            format!(
                "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [minionet.rules.yml]\n\
                 scrape_configs:\n- job_name: minionet\n  static_configs: [{{targets: [\"{ADDRESS}\"]}}]\n\
                 - job_name: prometheus\n  static_configs: [{{targets: [\"{SERVER}\"]}}]\n"
            ),
        )?;
        let mut command = node.command("prometheus");
        command.args([
            format!("--config.file={directory}/prometheus.yml"),
            format!("--storage.tsdb.path={directory}/data"),
            format!("--web.listen-address={SERVER}"),
            "--log.level=error".to_owned(),
        ]);
        Ok(Prometheus { node, child: node.spawn(command)? })
    }

    /// The series that an expression gives, one a line.
    fn query(&self, expression: &str) -> Result<String> {
        let words = ["promtool", "query", "instant", &format!("http://{SERVER}"), expression];
        self.node.exec(words).with_context(|| format!("ask for {expression}"))
    }

    fn has(&self, expression: &str) -> Result<()> {
        ensure!(!self.query(expression)?.trim().is_empty(), "nothing for {expression}");
        Ok(())
    }

    /// A scrape that takes too long, as on a busy machine, makes all series of its target stale until
    /// the next.
    fn wait_for(&self, expression: &str) -> Result<()> {
        Ok(eventually(&format!("series for {expression}"), PATIENT, || self.has(expression))?)
    }
}

/// The expressions of the dashboard, for all nodes.
fn dashboard() -> Result<Vec<String>> {
    let dashboard: Value = serde_json::from_str(DASHBOARD)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.map(|target| {
        let text = target["expr"].as_str().context("an expression")?;
        Ok(text.replace("$instance", ".*"))
    });
    expressions.collect()
}

/// The selectors of our series in a text: a name, and the labels behind it.
fn selectors(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        let word = &rest[start..];
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        let (name, behind) = word.split_at(end);
        rest = behind;
        if !(name.starts_with("minionet_") || name.starts_with("process_") || name == "up") {
            continue;
        }
        let labels = behind.starts_with('{').then(|| behind.find('}')).flatten();
        let labels = labels.map_or("", |last| &behind[..=last]);
        rest = &behind[labels.len()..];
        found.push(format!("{name}{labels}"));
    }
    found
}

fn whatever_is_asked_is_there() -> Result<()> {
    // Nobody takes its updates, which is all that these metrics need.
    let config = "probe_interval = \"500ms\"\nmetrics_every_peer = true\nregister = true\n";
    Cluster::builder("cncfdemo").nodes(2).config(config).run(|cluster| {
        let node = cluster.node(0);
        let _pod = node.add_pod("web")?;
        let prometheus = Prometheus::start(node)?;
        eventually("the scrapes", PATIENT, || {
            prometheus.has("rate(minionet_probe_rtt_seconds_count[5m]) > 0")?;
            prometheus.has("minionet_peer_path_mtu_bytes")?;
            prometheus.has("prometheus_rule_group_rules")
        })?;
        let expressions = dashboard()?;
        ensure!(expressions.len() > 40, "{} expressions", expressions.len());
        for expression in &expressions {
            prometheus.query(expression)?;
        }
        let all = expressions.iter().map(String::as_str).chain([RULES]).flat_map(selectors);
        let mut asked: Vec<String> = all.collect();
        asked.sort();
        asked.dedup();
        ensure!(asked.len() > 40, "{asked:?}");
        for selector in asked.iter().filter(|selector| !SOMETIMES.iter().any(|s| selector.starts_with(s))) {
            prometheus.wait_for(selector)?;
        }
        let alerts = RULES.lines().filter(|line| line.trim().starts_with("- alert: ")).count();
        prometheus.wait_for(&format!("prometheus_rule_group_rules == {alerts}"))?;
        prometheus.wait_for("prometheus_rule_evaluations_total > 0")?;
        prometheus.wait_for("prometheus_rule_evaluation_failures_total == 0")
    })
}
