//! The alert rules, checked and tried by Prometheus' own tool.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::Namespace;

pub fn trials() -> Vec<Trial> {
    trials![
        the_alert_rules_are_valid => [Need::Program("promtool")],
        the_alert_rules_do_what_their_tests_say => [Need::Program("promtool")],
        every_alert_has_a_test,
    ]
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/prometheus").join(name)
}

fn promtool(words: [&str; 2], name: &str) -> Result<String> {
    let path = file(name).display().to_string();
    let place = Namespace::network_only("promtool")?;
    Ok(place.exec(["promtool", words[0], words[1], &path])?)
}

fn the_alert_rules_are_valid() -> Result<()> {
    let told = promtool(["check", "rules"], "minionet.rules.yml")?;
    ensure!(told.contains("SUCCESS"), "{told}");
    Ok(())
}

fn the_alert_rules_do_what_their_tests_say() -> Result<()> {
    let told = promtool(["test", "rules"], "minionet.test.yml")?;
    ensure!(told.contains("SUCCESS"), "{told}");
    Ok(())
}

fn every_alert_has_a_test() -> Result<()> {
    let (rules, tests) = (
        std::fs::read_to_string(file("minionet.rules.yml"))?,
        std::fs::read_to_string(file("minionet.test.yml"))?,
    );
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    ensure!(!alerts.is_empty());
    for alert in alerts {
        ensure!(tests.contains(alert), "{alert} has no test");
    }
    Ok(())
}
