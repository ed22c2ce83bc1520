//! Nothing is left behind, whoever runs the testbed and however it ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, copy_program, trials};
use netns_testbed::{Host, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PATIENT;

/// The variable that turns the suite into a program that builds a host and waits to be killed.
pub const HOLD: &str = "MINIONET_TESTS_HOLD";

pub fn trials() -> Vec<Trial> {
    trials![
        nothing_is_left_after_a_kill,
        a_signal_reaches_the_program_and_its_status_comes_back,
        an_ordinary_user_can_do_the_same => [Need::Root, Need::Program("setpriv")],
        a_thread_started_too_early_is_refused,
    ]
}

/// Builds a host with a process on it, says so, and waits.
pub fn hold() -> Result<ExitCode> {
    netns_testbed::enter()?;
    let host = Host::new("held")?;
    host.pod("pod")?;
    let seconds = std::env::var(HOLD)?;
    let mut command = host.command("sleep");
    command.arg(&seconds);
    let mut child = host.spawn(command)?;
    // An orphan: its parent is gone at once.
    host.exec(["sh", "-c", &format!("sleep {seconds} >/dev/null 2>&1 &")])?;
    writeln!(std::io::stdout(), "ready")?;
    child.wait()?;
    Ok(ExitCode::SUCCESS)
}

/// A copy of this program in [`HOLD`] mode; `marker` is the argument of its processes.
fn start_holding(marker: &str) -> Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .env(HOLD, marker)
        .stdout(Stdio::piped())
        .spawn()
        .context("start a copy of the suite")?;
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().context("its output")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "the copy said {line:?}");
    Ok(child)
}

/// How many processes have the argument.
fn processes_with(argument: &str) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        // A process may end between the listing and the look at it.
        let words = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        count += usize::from(words.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()));
    }
    Ok(count)
}

/// A number of seconds that no other process sleeps.
fn marker(salt: u32) -> String {
    format!("{}{salt:04}", 7_000_000 + std::process::id())
}

fn nothing_is_left_after_a_kill() -> Result<()> {
    let marker = marker(1);
    let mounts = || fs::read_to_string("/proc/self/mounts");
    let before = mounts()?;
    let mut child = start_holding(&marker)?;
    // The orphan is a shell until it executes the other program, which nobody waits for.
    eventually("the copy to run two processes", PATIENT, || match processes_with(&marker) {
        Ok(2) => Ok(()),
        other => Err(format!("{other:?} run")),
    })?;
    child.kill()?;
    child.wait()?;
    eventually("every process to be gone", PATIENT, || match processes_with(&marker) {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?} are left")),
    })?;
    ensure!(mounts()? == before, "a mount is left");
    ensure!(!Path::new("/run/netns/pod").exists(), "a namespace is left");
    Ok(())
}

fn a_signal_reaches_the_program_and_its_status_comes_back() -> Result<()> {
    let marker = marker(2);
    let mut child = start_holding(&marker)?;
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
    let status = child.wait()?;
    ensure!(status.code() == Some(128 + Signal::SIGTERM as i32), "{status}");
    ensure!(processes_with(&marker)? == 0, "a process is left");
    Ok(())
}

fn an_ordinary_user_can_do_the_same() -> Result<()> {
    // Where anybody may read it; the build directory may belong to root alone.
    let copy = format!("/run/suite-{}", std::process::id());
    copy_program(&std::env::current_exe()?, copy.as_ref())?;
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", &copy, "testbed::hosts"])
        .env_remove("CARGO")
        .output()?;
    fs::remove_file(&copy)?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(said.contains("testbed::hosts::both_families") && !said.contains("... ignored"), "{said}");
    Ok(())
}

fn a_thread_started_too_early_is_refused() -> Result<()> {
    // This process has several threads: the harness runs tests in them.
    let error = netns_testbed::enter().err().context("it was entered a second time")?;
    ensure!(error.to_string().contains("before the first thread"), "{error}");
    Ok(())
}
