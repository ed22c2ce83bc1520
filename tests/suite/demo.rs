//! The command a newcomer types first, and the way into a demo that is held.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, copy_program, trials};
use netns_testbed::{Binaries, eventually, forget_settings};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A demo takes a few seconds; on a busy machine some more.
const PATIENT: Duration = Duration::from_secs(60);
/// An ordinary user and their group: nobody and nogroup.
const ORDINARY: &str = "65534";

pub fn trials() -> Vec<Trial> {
    trials![
        three_minions_see_each_other,
        ten_minions_see_each_other_over_both_families,
        the_underlay_may_be_ipv6,
        a_held_demo_can_be_entered_and_leaves_nothing_behind,
        an_ordinary_user_can_do_the_same => [Need::Root, Need::Program("setpriv")],
        what_is_missing_is_named,
    ]
}

/// The testbed's program, and who runs it.
struct Program {
    path: PathBuf,
    ordinary: bool,
}

impl Program {
    fn located() -> Result<Self> {
        Ok(Self { path: Binaries::locate()?.directory().join("netns-testbed"), ordinary: false })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = if self.ordinary {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups"]).arg(&self.path);
            // The caller's, if there is one.
            command.env_remove("XDG_RUNTIME_DIR");
            command
        } else {
            Command::new(&self.path)
        };
        forget_settings(&mut command);
        command.args(words).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Result<Output> {
        self.command(words).output().with_context(|| format!("run {}", self.path.display()))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a demo to its end and checks everything that does not depend on its size.
fn demo(options: &[&str]) -> Result<Value> {
    let output = Program::located()?.run(&[&["demo", "--json"], options].concat())?;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{}\n{out}\n{err}", output.status);
    // One document and nothing else.
    let document: Value = serde_json::from_str(&out)?;
    ensure!(document["ok"] == true && document["failures"] == Value::Array(vec![]), "{document:#}");
    ensure!(err.contains("every minion found itself") && err.contains("nothing is left"), "{err}");

    let join = &document["join"];
    ensure!(join["all_ms"].as_f64() > Some(0.0) && join["ready_ms"].is_number(), "{join:#}");
    ensure!(list(join, "reached")?.iter().all(|one| one["ms"].as_f64() > Some(0.0)), "{join:#}");
    ensure!(list(join, "back")?.iter().all(|pair| pair["rtt_us"].is_u64()), "{join:#}");
    let leave = &document["leave"];
    for node in list(leave, "forgotten")? {
        ensure!(node["before"]["routes"].as_u64() > Some(0), "it was never known: {node}");
        let after = &node["after"];
        ensure!(["routes", "neighbours", "fdb"].iter().all(|table| after[table] == 0), "{node}");
    }
    ensure!(leave["all_ms"].as_f64() > Some(0.0) && leave["others_lost"] == 0, "{leave:#}");
    ensure!(leave["others_sent"].as_u64() > Some(0), "{leave:#}");
    Ok(document)
}

fn list<'a>(document: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    document[key].as_array().with_context(|| format!("{key} is no list"))
}

/// Checks that every pod was reached by every other over every family, and who joined and left.
fn complete(document: &Value, nodes: usize, pods: usize, families: usize) -> Result<()> {
    ensure!(list(&document["plan"], "nodes")?.len() == nodes, "{:#}", document["plan"]);
    ensure!(list(document, "pods")?.len() == nodes * pods, "{:#}", document["pods"]);
    let all = nodes * pods;
    let matrix = list(document, "matrix")?;
    let word = |pair: &Value, key: &str| pair[key].as_str().map(str::to_owned).context(key.to_owned());
    let mut seen = BTreeSet::new();
    for pair in matrix {
        ensure!(pair["rtt_us"].as_u64() > Some(0), "{pair}");
        let (from, to) = (word(pair, "from")?, word(pair, "to")?);
        ensure!(from != to && seen.insert((from, to, word(pair, "family")?)), "{pair}");
    }
    ensure!(seen.len() == all * (all - 1) * families, "{} of {all} pods' pairs", seen.len());
    ensure!(document["join"]["node"] == format!("node{}", nodes + 1), "{:#}", document["join"]);
    ensure!(list(&document["join"], "reached")?.len() == all * families);
    ensure!(document["leave"]["node"] == format!("node{nodes}"), "{:#}", document["leave"]);
    // All others, the newcomer among them.
    ensure!(list(&document["leave"], "forgotten")?.len() == nodes);
    Ok(())
}

fn three_minions_see_each_other() -> Result<()> {
    let document = demo(&["--nodes", "3"])?;
    complete(&document, 3, 2, 1)?;
    let node = &document["plan"]["nodes"][1];
    ensure!(node["node"] == "172.20.0.2" && node["index"] == 2, "{node}");
    ensure!(node["blocks"][0]["cidr"] == "10.32.2.0/24", "{node}");
    Ok(())
}

fn ten_minions_see_each_other_over_both_families() -> Result<()> {
    complete(&demo(&["--nodes", "10", "--ipv6"])?, 10, 2, 2)
}

fn the_underlay_may_be_ipv6() -> Result<()> {
    let document = demo(&["--nodes", "2", "--pods-per-node", "1", "--ipv6", "--underlay", "6"])?;
    complete(&document, 2, 1, 2)?;
    ensure!(document["join"]["address"] == "fd00:20::3", "{:#}", document["join"]);
    Ok(())
}

/// A demo that is held; killed with the value, if it still runs.
struct Held {
    program: Program,
    child: Child,
}

impl Held {
    fn start(program: Program) -> Result<Self> {
        let mut command = program.command(&["demo", "--nodes", "2", "--pods-per-node", "1", "--hold"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let held = Self { program, child };
        eventually("the demo to be held", PATIENT, || held.visit(&["status"]))?;
        Ok(held)
    }

    /// Runs `exec` or `status` for this demo; its standard output.
    fn visit(&self, words: &[&str]) -> Result<String> {
        let process = self.child.id().to_string();
        let (verb, rest) = words.split_first().context("a verb")?;
        let output = self.program.run(&[&[*verb, "--demo", &process], rest].concat())?;
        ensure!(output.status.success(), "{words:?}: {} {}", output.status, text(&output.stderr));
        Ok(text(&output.stdout))
    }

    fn exit_code(&self, words: &[&str]) -> Result<Option<i32>> {
        let process = self.child.id().to_string();
        Ok(self.program.run(&[&["exec", "--demo", &process], words].concat())?.status.code())
    }

    /// The sockets of this demo, in all places where one could be.
    fn sockets(&self) -> usize {
        let name = format!("-{}.sock", self.child.id());
        let entries =
            ["/run", "/tmp"].into_iter().filter_map(|path| fs::read_dir(path).ok()).flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(&name)).count()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may have ended already; then there is only the status to collect.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many processes are in a pid namespace, named as its link in /proc is.
fn processes_in(namespace: &str) -> Result<usize> {
    let of = |entry: &fs::DirEntry| fs::read_link(entry.path().join("ns/pid")).ok();
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter(|entry| of(entry).is_some_and(|link| link == Path::new(namespace))).count())
}

fn a_held_demo_can_be_entered_and_leaves_nothing_behind() -> Result<()> {
    let mut held = Held::start(Program::located()?)?;
    let status = held.visit(&["status"])?;
    ensure!(status.contains("\npod1-1  node1  eth0") && status.contains("172.20.0.3"), "{status}");

    let routes = held.visit(&["exec", "node1", "--", "ip", "route"])?;
    ensure!(routes.contains("10.32.3.0/24 via 10.32.3.1 dev minionet"), "no route to the newcomer: {routes}");
    ensure!(!routes.contains("10.32.2.0/24"), "the one that left is still known: {routes}");
    let address = held.visit(&["exec", "pod1-1", "ip", "-o", "address", "show", "dev", "eth0"])?;
    ensure!(address.contains("10.32.1.2/32"), "{address}");
    ensure!(held.visit(&["exec", "node1", "cat", "/etc/hostname"])? == "node1\n");
    // The operator's command finds itself and its configuration.
    let plan = held.visit(&["exec", "node1", "minionetd", "plan", "--json"])?;
    ensure!(plan.contains("\"172.20.0.1\""), "{plan}");

    ensure!(held.exit_code(&["node1", "--", "sh", "-c", "exit 7"])? == Some(7));
    ensure!(held.exit_code(&["node1", "--", "sh", "-c", "kill -KILL $$"])? == Some(128 + 9));
    ensure!(held.exit_code(&["nowhere", "true"])? == Some(1));

    let inside = held.visit(&["exec", "node1", "readlink", "/proc/self/ns/pid"])?;
    ensure!(processes_in(inside.trim())? >= 4, "the demo, its init and two daemons are in {inside}");
    ensure!(held.sockets() == 1);
    kill(Pid::from_raw(i32::try_from(held.child.id())?), Signal::SIGTERM)?;
    let status = held.child.wait()?;
    ensure!(status.success(), "a signal is how a held demo ends: {status}");
    ensure!(processes_in(inside.trim())? == 0, "a process is left");
    ensure!(held.sockets() == 0, "its socket is left");
    ensure!(held.visit(&["status"]).is_err());
    Ok(())
}

fn an_ordinary_user_can_do_the_same() -> Result<()> {
    // Where anybody may read it, and where the nodes see it; the build directory may be root's.
    let directory =
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir_in("/tmp")?;
    for name in ["netns-testbed", "minionet", "minionetd"] {
        copy_program(&Binaries::locate()?.directory().join(name), &directory.path().join(name))?;
    }
    let mut held = Held::start(Program { path: directory.path().join("netns-testbed"), ordinary: true })?;
    ensure!(held.visit(&["exec", "pod1-1", "id", "-u"])? == "0\n", "root inside");
    let routes = held.visit(&["exec", "node1", "--", "ip", "route"])?;
    ensure!(routes.contains("10.32.3.0/24 via 10.32.3.1 dev minionet"), "{routes}");
    // Another user's demo is not to be entered, not even by root by mistake.
    let process = held.child.id().to_string();
    let other = Program::located()?.run(&["status", "--demo", &process])?;
    ensure!(!other.status.success() && text(&other.stderr).contains("no demo"), "{other:?}");

    // Killed, it cannot tidy up; what it leaves is recognised and removed.
    held.child.kill()?;
    held.child.wait()?;
    eventually("the socket to be recognised as left over", PATIENT, || {
        ensure!(held.visit(&["status"]).is_err(), "somebody answers");
        ensure!(held.sockets() == 0, "it is still there");
        Ok(())
    })?;
    Ok(())
}

fn what_is_missing_is_named() -> Result<()> {
    let program = Program::located()?;
    let demo = |variable: &str, value: &str| -> Result<String> {
        let output = program.command(&["demo"]).env(variable, value).output()?;
        ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
        Ok(text(&output.stderr))
    };
    let said = demo("MINIONET_BIN_DIR", "/nowhere")?;
    ensure!(said.contains("/nowhere") && said.contains("cargo build"), "{said}");
    let said = demo("PATH", "/nowhere")?;
    ensure!(said.contains("iproute2"), "{said}");
    let many = program.run(&["demo", "--nodes", "201"])?;
    ensure!(many.status.code() == Some(2), "{many:?}");
    Ok(())
}
