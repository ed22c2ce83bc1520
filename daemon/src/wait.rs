//! `minionetd wait`: returns when pods can be attached on this node.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ArgMatches;
use minionet_core::constants::{MASTERS_FILE, MINIONS_FILE, RUN_DIR};
use minionet_core::handoff;
use minionet_core::health::{self, Health};
use minionet_pods::{boot, heartbeat};

use crate::output;

/// How often it looks: a fraction of what kubelet takes to start.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until the overlay is formed.
///
/// # Errors
/// When it is not in time, with the reason.
pub fn run(matches: &ArgMatches) -> Result<()> {
    let minion = Path::new(MINIONS_FILE).exists() && !Path::new(MASTERS_FILE).exists();
    if !minion && !matches.get_flag("always") {
        return output::say("this host is no minion: there is nothing to wait for");
    }
    let timeout = matches.get_one::<u64>("timeout").copied().unwrap_or_default();
    let end = Instant::now() + Duration::from_secs(timeout);
    loop {
        match formed() {
            Ok(()) => return output::say("the overlay is formed"),
            Err(reason) if Instant::now() >= end => {
                bail!("the overlay is not formed after {timeout} seconds: {reason}")
            }
            Err(_) => pause(),
        }
    }
}

/// Whether the daemon lives and has told the plugin what to do; otherwise, why not.
fn formed() -> Result<(), String> {
    let run = Path::new(RUN_DIR);
    if !heartbeat::is_alive(run) {
        return Err("minionetd does not run: see journalctl -u minionetd".to_owned());
    }
    let read = |file: &str| fs::read_to_string(run.join(file)).ok();
    let Some(health) = read(health::FILE).and_then(|text| Health::parse(&text)) else {
        return Err("minionetd has said nothing yet".to_owned());
    };
    let troubles = health.troubles_at(boot::uptime()).join("; ");
    let handed = read(handoff::FILE).is_some();
    match (health.peer_routes, handed, troubles.as_str()) {
        (Some(_), true, _) => Ok(()),
        (_, _, "") => Err("DNS has not told yet which address is this node's".to_owned()),
        (_, _, troubles) => Err(troubles.to_owned()),
    }
}

/// There is no notification of a file that several others replace.
#[allow(clippy::disallowed_methods)]
fn pause() {
    thread::sleep(LOOK);
}
