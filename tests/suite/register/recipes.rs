//! The recipes of docs/dns.md whose records somebody writes.

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::{Cluster, ClusterBuilder};

use super::server::{Server, recipe};
use super::{pods_talk, with};
use crate::overlay::wait_for_members;

/// As in the other tests, without registration.
const CONFIG: &str = "refresh_min = \"100ms\"\nrefresh_max = \"500ms\"\nmissing_answers = 2\nhold_down = \"300ms\"\n\
                      resolvers = [\"198.51.100.1\"]\n";

pub fn trials() -> Vec<Trial> {
    trials![
        the_recipe_for_dnsmasq => [Need::Program("dnsmasq"), Need::Program("dig")],
        the_recipe_for_bind => [Need::Program("named"), Need::Program("dig")],
        the_unit_is_sound => [Need::Program("systemd-analyze")],
    ]
}

fn cluster() -> ClusterBuilder {
    Cluster::builder("cncfdemo").nodes(3).config(CONFIG)
}

/// Waits until pods of all three nodes talk, makes the change, and waits until node 3 is gone.
fn play(cluster: &Cluster, server: &Server<'_>, change: impl FnOnce() -> Result<()>) -> Result<()> {
    cluster.nodes().iter().try_for_each(|node| node.start_daemon())?;
    pods_talk(cluster)?;
    change()?;
    server.reload()?;
    wait_for_members(&[cluster.node(0), cluster.node(1)], &[1, 2])
}

fn the_recipe_for_dnsmasq() -> Result<()> {
    with(cluster(), |cluster| {
        let hosts = recipe("minions.hosts")?;
        let server = Server::dnsmasq(cluster.external(), &hosts)?;
        play(cluster, &server, || {
            let without = hosts.replace("172.20.0.3 minions.cncfdemo.k8s\n", "");
            ensure!(without != hosts, "the recipe has no third node");
            Ok(cluster.external().write("/etc/minions.hosts", without)?)
        })
    })
}

fn the_recipe_for_bind() -> Result<()> {
    with(cluster(), |cluster| {
        let (config, zone) = (recipe("bind-static.conf")?, recipe("bind-static.zone")?);
        let server = Server::named(cluster.external(), &config, "k8s.zone", &zone)?;
        play(cluster, &server, || {
            let lines = zone.lines().filter(|line| !line.contains("172.20.0.3"));
            let without: String = lines.map(|line| format!("{line}\n")).collect();
            let without = without.replace(" 1 3600", " 2 3600").replace("172.20.0.253", "198.51.100.1");
            ensure!(without.contains(" 2 3600"), "the serial number was not raised");
            Ok(cluster.external().write("/var/lib/bind/k8s.zone", without)?)
        })
    })
}

fn the_unit_is_sound() -> Result<()> {
    let unit = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = unit.join("../packaging/systemd/minionet-registration.service");
    // The program is not where the unit expects it on the machine that tests.
    let directory = tempfile::tempdir().context("make a directory")?;
    let copy = directory.path().join("minionet-registration.service");
    let text = std::fs::read_to_string(&unit).with_context(|| format!("read {}", unit.display()))?;
    std::fs::write(&copy, text.replace("/usr/bin/minionetd", "/bin/true"))?;
    let output =
        std::process::Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && !said.contains("minionet-registration"),
        "systemd-analyze says {said}"
    );
    Ok(())
}
