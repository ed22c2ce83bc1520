//! What an operator does with a host: install, run as a service, upgrade, remove; and that the
//! host is afterwards what it was.

mod commands;
mod container;
mod deb;
mod documents;
mod install;
mod service;
mod traces;
mod walk;

use std::time::Duration;

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use netns_testbed::Node;

/// Long enough for anything, also on a machine that stands still for seconds.
const LONG: Duration = Duration::from_secs(90);

/// Where things are installed by default, outside of what every host of the testbed has of its own.
const SHARED: [&str; 2] = ["/opt", "/usr/local"];

pub fn trials() -> Vec<Trial> {
    [
        container::trials(),
        deb::trials(),
        documents::trials(),
        install::trials(),
        service::trials(),
        traces::trials(),
        walk::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Gives a host directories of its own where things are installed, and a way to see that.
fn bare(node: &Node) -> Result<()> {
    for directory in SHARED {
        node.exec(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory])?;
        let kind = node.exec(["stat", "--file-system", "--format=%T", directory])?;
        ensure!(kind.trim() == "tmpfs", "{directory} is {kind}: this would install onto the machine");
    }
    Ok(())
}
