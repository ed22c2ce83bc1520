//! A real systemd as the service manager of a host of the testbed.
//!
//! It is the first process of a pid namespace, and knows no units but those that it is given. So
//! a unit file is not read by a test that thinks to know what it means: it is carried out.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_testbed::{Namespace, eventually};
use tempfile::TempDir;

use crate::is_real_root;

/// The program that makes the namespaces.
const SCRIPT: &str = include_str!("systemd.sh");

/// Where systemd is on every system that has it.
const SYSTEMD: &str = "/lib/systemd/systemd";

/// How long systemd, or what it starts, may take on a busy machine.
const PATIENT: Duration = Duration::from_secs(90);

/// Units that every other needs, by name; systemd makes up what they say nothing about.
const UNITS: [(&str, &str); 5] = [
    ("first.target", "[Unit]\nDescription=The first\nDefaultDependencies=no\n"),
    ("sysinit.target", "[Unit]\nDescription=Early\nDefaultDependencies=no\n"),
    ("basic.target", "[Unit]\nDescription=Basic\nDefaultDependencies=no\n"),
    ("multi-user.target", "[Unit]\nDescription=All\n"),
    ("shutdown.target", "[Unit]\nDescription=The end\nDefaultDependencies=no\n"),
];

/// Why systemd cannot be run here, if it cannot.
pub fn missing() -> Option<String> {
    if !Path::new(SYSTEMD).is_file() {
        return Some("systemd is not installed".to_owned());
    }
    if !is_real_root() {
        return Some("only root of the machine may run systemd".to_owned());
    }
    let probe = ["--mount", "--propagation", "private", "sh", "-s", "probe", "minionet-test"];
    match run(Command::new("unshare").args(probe), SCRIPT) {
        Ok(()) => None,
        Err(error) => Some(format!("control groups cannot be made here: {error:#}")),
    }
}

/// Runs a program with a standard input, and expects success.
fn run(command: &mut Command, input: &str) -> Result<()> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    // A program that ends early closes its end, and says why below.
    let _ = child.stdin.take().context("standard input")?.write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// systemd on a host; it ends when this is dropped, and all its services with it.
pub struct Systemd {
    host: Namespace,
    name: String,
    child: Child,
    pid: u32,
    scratch: TempDir,
}

impl Systemd {
    /// Starts systemd on a host, with these units besides those in the host's `/etc`.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(host: &Namespace, units: &[(&str, &str)]) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("minionet-test-").tempdir()?;
        // Unlike a process id, which is one of the testbed's namespace, its name is nobody else's.
        let name = scratch.path().file_name().context("a name")?.to_string_lossy().into_owned();
        let (script, directory) = (scratch.path().join("systemd.sh"), scratch.path().join("units"));
        fs::write(&script, SCRIPT)?;
        fs::create_dir(&directory)?;
        for (name, text) in UNITS.iter().chain(units) {
            fs::write(directory.join(name), text)?;
        }
        // What a runtime mounts on the host has to be seen in there.
        host.exec(["mount", "--make-rshared", "/"])?;
        let log = fs::File::create(scratch.path().join("log"))?;
        // Read by a shell and not executed: a child of another test that has yet to become its program
        // has the file open for writing, and such a one is not executed.
        let mut command = host.command("sh");
        command.arg(&script).arg("start").arg(&name).arg(&directory);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = host.spawn(command)?;
        let mut systemd = Systemd { host: host.clone(), name, child, pid: 0, scratch };
        let up = eventually("systemd to come up", PATIENT, || {
            systemd.pid = first_child(systemd.child.id())?;
            let state = systemd.systemctl(["is-active", "first.target"])?;
            ensure!(state.trim() == "active", "{state}");
            anyhow::Ok(())
        });
        up.with_context(|| systemd.log())?;
        Ok(systemd)
    }

    /// Runs `systemctl` with these words; its standard output comes back.
    ///
    /// # Errors
    /// When it reports a failure, with what it says and what systemd has logged.
    pub fn systemctl<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<String> {
        self.exec(std::iter::once("systemctl").chain(words))
    }

    /// Runs a program beside systemd.
    ///
    /// # Errors
    /// When it reports a failure.
    pub fn exec<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let pid = self.pid.to_string();
        let enter = ["nsenter", "--target", &pid, "--mount", "--pid", "--"];
        let words = words.into_iter().map(str::to_owned);
        Ok(self.host.exec(enter.map(str::to_owned).into_iter().chain(words))?)
    }

    /// A property of a unit, as `systemctl show` prints it.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        Ok(self.systemctl(["show", "--value", "--property", name, unit])?.trim().to_owned())
    }

    /// What systemd said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // It may have ended already; then there is only the status to collect.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let script = self.scratch.path().join("systemd.sh").display().to_string();
        let clean = ["sh", &script, "clean", &self.name];
        // The kernel takes a moment to empty the groups of processes that were killed.
        let cleaned = eventually("the control groups to go", PATIENT, || self.host.exec(clean));
        if let Err(error) = cleaned {
            // A test that fails for another reason must not be hidden by this.
            let _ = writeln!(std::io::stderr(), "control groups {} are left: {error}", self.name);
        }
    }
}

/// The only child of a process.
fn first_child(pid: u32) -> Result<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let first = children.split_whitespace().next().context("it has no child yet")?;
    Ok(first.parse()?)
}
