//! The integration tests: real programs, real kernel, real packets, each in a world of its own.
//!
//! `cargo test` does all that is needed; as an ordinary user it runs what a user namespace permits.
//! The usual arguments work: a filter, `--exact`, `--list`, `--test-threads`.

// A panic is how a test fails.
#![allow(clippy::unwrap_used)]

mod capabilities;
mod cni;
mod cost;
mod cri;
mod demo;
mod docs;
mod doctor;
mod overlay;
mod packaging;
mod pods;
mod probe;
mod register;
mod robust;
mod status;
mod testbed;
mod trace;

use std::io::Write;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use libtest_mimic::{Arguments, Trial};

/// One more than the processors of the machines that this runs on: many trials mostly wait.
const THREADS: usize = 3;

fn trials() -> Vec<Trial> {
    let groups = [
        // The longest first, so that nobody waits for them alone at the end.
        robust::trials(),
        register::trials(),
        pods::trials(),
        capabilities::trials(),
        cni::trials(),
        cost::trials(),
        cri::trials(),
        demo::trials(),
        doctor::trials(),
        overlay::trials(),
        packaging::trials(),
        probe::trials(),
        status::trials(),
        testbed::trials(),
        trace::trials(),
    ];
    let mut all: Vec<Trial> = groups.into_iter().flatten().collect();
    all.extend(docs::trials(&all));
    all
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // Where standard error is closed, nobody reads.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::from(101)
        }
    }
}

fn run() -> Result<ExitCode> {
    if std::env::var_os(testbed::HOLD).is_some() {
        return testbed::hold();
    }
    let mut arguments = Arguments::from_args();
    if !arguments.list {
        build()?;
        netns_testbed::enter()?;
    }
    arguments.test_threads.get_or_insert(THREADS);
    Ok(libtest_mimic::run(&arguments, trials()).exit_code())
}

/// Builds the programs under test, which cargo does not count among the needs of a test.
///
/// Only under cargo; a suite that was copied elsewhere takes the programs that it finds.
fn build() -> Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let program = std::env::current_exe().context("find the path of this program")?;
    // target/<triple>/<profile>/deps/suite-<hash>
    let profile = program.ancestors().nth(2).and_then(|directory| directory.file_name());
    let profile = match profile.and_then(|name| name.to_str()) {
        None | Some("debug") => "dev",
        Some(name) => name,
    };
    // The whole workspace: a part of it would be compiled anew, with fewer features of its crates.
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--bins", "--profile", profile])
        .status()
        .context("execute cargo to build the programs under test")?;
    if !status.success() {
        bail!("the programs under test cannot be built");
    }
    Ok(())
}
