//! A hundred restarts of the daemons, and an upgrade, under a stream of a thousand datagrams a
//! second each way: none is lost.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{Binaries, Cluster};
use nix::sys::signal::Signal;

use super::{LONG, Traffic, all, print, wait_for_exactly, wait_for_log};
use crate::overlay::{pod_per_node, wait_for_queries};

/// Of both nodes together.
const RESTARTS: usize = 100;
/// Datagrams a second, each way.
const RATE: u32 = 1_000;

/// A directory with the programs of an earlier version; without it, the version under test is
/// replaced by itself.
const PREVIOUS: &str = "MINIONET_PREVIOUS_BIN_DIR";

/// A node refreshes several times a second.
const CONFIG: &str = "refresh_min = \"100ms\"\nrefresh_max = \"200ms\"\ndns_timeout = \"100ms\"\n";

pub fn trials() -> Vec<Trial> {
    trials![a_hundred_restarts_cost_no_packet, an_upgrade_and_the_way_back_cost_no_packet]
}

fn a_hundred_restarts_cost_no_packet() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).config(CONFIG).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        wait_for_exactly(&all(cluster), &[1, 2])?;
        let traffic = Traffic::circle(&pods, RATE)?;
        for round in 0..RESTARTS {
            let node = cluster.node(round % 2);
            let signal = if round % 4 < 2 { Signal::SIGTERM } else { Signal::SIGKILL };
            let status = node.kill_daemon(signal)?;
            ensure!(status.success() == (signal == Signal::SIGTERM), "{} ended with {status}", node.name());
            node.start_daemon()?;
            // Every other time it has asked DNS and acted on the answer, else it is killed at
            // whatever it is doing.
            let packets = if round % 8 < 4 {
                wait_for_queries(cluster, 6)?;
                20
            } else {
                round % 16
            };
            traffic.go_on(packets)?;
        }
        wait_for_exactly(&all(cluster), &[1, 2])?;
        traffic.go_on(20)?;
        let sent = traffic.end_without_loss()?;
        print(&format!("restarts: {RESTARTS} restarts, {sent} datagrams, none lost"));
        Ok(())
    })
}

/// The programs as a package installs them: in one place, and replaced under the running ones.
struct Installed {
    directory: tempfile::TempDir,
}

impl Installed {
    fn of(programs: &Path) -> Result<Self> {
        let installed = Self { directory: tempfile::tempdir().context("make a directory")? };
        installed.replace(programs)?;
        Ok(installed)
    }

    /// Each program at once, as package managers do it: rename(2).
    fn replace(&self, programs: &Path) -> Result<()> {
        for name in ["minionet", "minionetd"] {
            let new = self.directory.path().join(format!("{name}.new"));
            symlink(programs.join(name), &new).with_context(|| format!("link {}", new.display()))?;
            fs::rename(&new, self.directory.path().join(name)).context("replace a program")?;
        }
        Ok(())
    }
}

fn an_upgrade_and_the_way_back_cost_no_packet() -> Result<()> {
    let current = Binaries::locate()?;
    let previous =
        std::env::var_os(PREVIOUS).map_or_else(|| current.directory().to_path_buf(), PathBuf::from);
    let installed = Installed::of(&previous)?;
    let builder = Cluster::builder("cncfdemo").nodes(2).config(CONFIG);
    builder.binaries(Binaries::in_directory(installed.directory.path())).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        let traffic = Traffic::circle(&pods, RATE)?;
        // Forth and back again: each node runs with a newer and with an older one.
        for programs in [current.directory(), &previous, current.directory()] {
            installed.replace(programs)?;
            for node in cluster.nodes() {
                traffic.go_on(50)?;
                node.kill_daemon(Signal::SIGTERM)?;
                node.start_daemon()?;
                wait_for_queries(cluster, 8)?;
                // Pods come while the nodes differ.
                let pod = node.add_pod("meanwhile")?;
                pods.iter().try_for_each(|other| other.ping(pod.address(), LONG).map(drop))?;
                pod.delete()?;
            }
        }
        for node in cluster.nodes() {
            wait_for_log(node, &["taken over from an earlier run"])?;
        }
        wait_for_exactly(&all(cluster), &[1, 2])?;
        traffic.go_on(50)?;
        let sent = traffic.end_without_loss()?;
        print(&format!(
            "restarts: an upgrade of {} and back, {sent} datagrams, none lost",
            previous.display()
        ));
        Ok(())
    })
}
