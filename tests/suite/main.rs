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

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use netns_testbed::{Binaries, target};

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
    let directory = program.ancestors().nth(2).context("this program lies in no directory of cargo's")?;
    let profile = match directory.file_name().and_then(OsStr::to_str) {
        None | Some("debug") => "dev",
        Some(name) => name,
    };
    let build = |what: &[&str]| -> Result<()> {
        let status = Command::new(&cargo)
            .args(["build", "--quiet", "--bins", "--profile", profile])
            .args(what)
            .status()
            .context("execute cargo to build the programs under test")?;
        ensure!(status.success(), "the programs under test cannot be built");
        Ok(())
    };
    // The whole workspace: a part of it would be compiled anew, with fewer features of its crates.
    build(&["--workspace"])?;
    let (host, target) = (target("host")?, target("plugin")?);
    if target != host {
        // What is shipped is linked with another C library, and so is what is tested.
        build(&["--package", "minionet-plugin", "--target", &target])?;
        // target/<its triple>/<profile>
        let name = directory.file_name().unwrap_or_default();
        let plugins = program.ancestors().nth(4).unwrap_or(directory).join(target).join(name);
        Binaries::look_in(gather(directory, &plugins)?);
    }
    Ok(())
}

/// One directory with all programs, the plugin from where it was built for another target.
///
/// Each is a second name of its file, so that a program finds the others beside it.
fn gather(programs: &Path, plugins: &Path) -> Result<PathBuf> {
    let together = programs.join("tested");
    fs::create_dir_all(&together).with_context(|| format!("make {}", together.display()))?;
    for (from, name) in [(plugins, "minionet"), (programs, "minionetd"), (programs, "netns-testbed")] {
        let (built, here) = (from.join(name), together.join(name));
        match fs::remove_file(&here) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => fs::hard_link(&built, &here),
        }
        .with_context(|| format!("give {} another name, {}", built.display(), here.display()))?;
    }
    Ok(together)
}
