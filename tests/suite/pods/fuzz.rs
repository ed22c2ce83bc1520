//! The plugin is called with everything that no runtime would send.
//!
//! Calls come in rows on one node, so that they also meet what earlier ones left standing; after
//! each row everything must be gone. A row that fails is made shorter, and its calls simpler, for
//! as long as it fails.

mod calls;

use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use libtest_mimic::Trial;
use minionet_core::constants::{DOOMED_GROUP, RUN_DIR};
use minionet_netlink::Socket;
use minionet_pods::heartbeat::Heartbeat;
use minionet_tests::{Need, Seed, at_once, print, trials};
use netns_testbed::Node;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use serde_json::Value;

use self::calls::{Call, OTHER, STANDING, call, full_conf_with_tcp};
use super::bed::{command, on_orphaned_node, remove_all, same, times, traces};
use crate::cni::support::{Sandbox, add, del};

pub fn trials() -> Vec<Trial> {
    trials![whatever_comes_there_is_one_answer_and_no_trace => [Need::Program("nft")]]
}

/// A call that takes longer hangs. One that does not can take long, too, where hundreds of others
/// wait for the same lock of the kernel.
const LIMIT: Duration = Duration::from_secs(300);
/// Most calls between two looks at what is left.
const ROW: usize = 60;
/// For how long a row that fails is made simpler.
const SIMPLIFYING: Duration = Duration::from_secs(120);
/// How many rows find no daemon: then DEL destroys interfaces itself, for which the kernel takes its
/// time.
const WITHOUT_DAEMON: f64 = 0.1;

/// A node with a container that is attached and one that is not.
struct Target<'a> {
    node: &'a Node,
    standing: Sandbox,
    other: Sandbox,
    tally: Tally,
}

/// Calls, one after the other.
#[derive(Clone, Debug)]
struct Row {
    /// Whether they find a daemon that lives: its lock is held by the test, which also does what DEL
    /// leaves to the daemon.
    daemon: bool,
    calls: Vec<Call>,
}

fn row() -> impl Strategy<Value = Row> {
    (weighted(1.0 - WITHOUT_DAEMON), vec(call(), 1..=ROW)).prop_map(|(daemon, calls)| Row { daemon, calls })
}

/// What happened, for a person to judge whether the calls were any good.
#[derive(Default)]
struct Tally {
    calls: Cell<usize>,
    attached: Cell<usize>,
    succeeded: Cell<usize>,
}

/// How a call ended.
struct Answer {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn whatever_comes_there_is_one_answer_and_no_trace() -> Result<()> {
    let seed = Seed::choose()?;
    let calls = times(3_000, 100_000);
    // Short runs leave the other processor to other tests.
    let workers = times(1, std::thread::available_parallelism().map_or(1, usize::from));
    print(&format!("fuzz: {calls} calls begin; {seed}"));
    let start = Instant::now();
    let numbers: Vec<u64> = (0..workers as u64).collect();
    let tallies = at_once(&numbers, |worker| {
        on_orphaned_node("", |node| rows(node, seed, *worker, calls.div_ceil(workers)))
            .with_context(|| format!("worker {worker} with {seed}"))
    })?;
    let sum = |count: fn(&Tally) -> &Cell<usize>| tallies.iter().map(|t| count(t).get()).sum::<usize>();
    let (made, attached, succeeded) = (sum(|t| &t.calls), sum(|t| &t.attached), sum(|t| &t.succeeded));
    print(&format!(
        "fuzz: {made} calls, {succeeded} of them successes, {attached} of these an ADD; {seed}; {:.1?}",
        start.elapsed()
    ));
    // Calls that are all refused at the door, or all accepted, would show nothing.
    ensure!(attached * 50 > made && succeeded * 5 < made * 4, "the calls are not a good mixture");
    Ok(())
}

/// Makes rows of calls until there were so many.
fn rows(node: &Node, seed: Seed, worker: u64, calls: usize) -> Result<Tally> {
    let target = Target {
        node,
        standing: Sandbox::new(node, STANDING)?,
        other: Sandbox::new(node, OTHER)?,
        tally: Tally::default(),
    };
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 2_000,
        max_shrink_time: SIMPLIFYING.as_millis() as u32,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, seed.generator(worker));
    while target.tally.calls.get() < calls {
        let row = row().new_tree(&mut runner).map_err(|reason| anyhow!("{reason}"))?;
        let outcome = runner.run_one(row, |row| {
            target.row(&row).map_err(|error| {
                // The next attempt is to fail by itself only.
                let _best_effort = remove_all(node);
                TestCaseError::fail(format!("{error:#}"))
            })
        });
        match outcome {
            Ok(_) => {}
            Err(TestError::Fail(reason, row)) => bail!("{reason}\nafter {}", target.describe(&row)),
            Err(error) => bail!("{error}"),
        }
    }
    Ok(target.tally)
}

impl Target<'_> {
    /// Makes some calls one after the other, and looks at what is left.
    fn row(&self, row: &Row) -> Result<()> {
        let held = if row.daemon { self.node.run(|| Heartbeat::take(RUN_DIR.as_ref()))?? } else { None };
        if let Some(heartbeat) = &held {
            heartbeat.beat()?;
        }
        let before = (traces(self.node, &self.standing)?, traces(self.node, &self.other)?);
        let real = add(self.node, &self.standing.attachment, &full_conf_with_tcp())?;
        let mut standing = Vec::new();
        for call in &row.calls {
            let attached = self.make(call, &real).with_context(|| format!("{call:?}"))?;
            match attached {
                true if call.stays => standing.push(call),
                true => self.undo(call, &real)?,
                false => {}
            }
        }
        for call in standing {
            self.undo(call, &real)?;
        }
        del(self.node, &self.standing.attachment, &full_conf_with_tcp())?;
        if held.is_some() {
            self.node.run(|| Socket::open()?.delete_group(DOOMED_GROUP))??;
        }
        same(&before.0, &traces(self.node, &self.standing)?)?;
        same(&before.1, &traces(self.node, &self.other)?)
    }

    /// Makes a call and judges its answer; says whether something is attached now that was not.
    fn make(&self, call: &Call, real: &Value) -> Result<bool> {
        let answer = self.execute(call, real)?;
        let success = judge(call, &answer)?;
        let attached = success && call.asked() == "ADD";
        let count = |cell: &Cell<usize>, more: bool| cell.set(cell.get() + usize::from(more));
        count(&self.tally.calls, true);
        count(&self.tally.succeeded, success);
        count(&self.tally.attached, attached);
        Ok(attached)
    }

    /// Undoes an ADD under the names that it was called with.
    fn undo(&self, call: &Call, real: &Value) -> Result<()> {
        let answer = self.execute(&call.undo(), real)?;
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        ensure!(answer.code == Some(0), "DEL of what {call:?} attached: {text}");
        Ok(())
    }

    fn execute(&self, call: &Call, real: &Value) -> Result<Answer> {
        let sandbox = if call.container == STANDING { &self.standing } else { &self.other };
        let mut command = command(self.node, call.verb, &sandbox.attachment);
        for (name, value) in &call.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // Less than a pipe holds, so nobody waits; one that has seen enough does not read on.
        let _unread = child.stdin.take().context("its input")?.write_all(&call.stdin(real));
        let answer = end_of(&mut child);
        if answer.is_err() {
            child.kill()?;
        }
        let status = child.wait()?;
        let (stdout, stderr) = answer?;
        Ok(Answer { code: status.code(), stdout, stderr })
    }

    /// A row of calls for a person to read.
    fn describe(&self, row: &Row) -> String {
        let describe = |call: &Call| {
            let stdin = String::from_utf8_lossy(&call.stdin(&Value::Null)).into_owned();
            format!("  {:?} {} {:?} {stdin}\n", call.asked(), call.container, call.environment)
        };
        let calls: String = row.calls.iter().map(describe).collect();
        format!("calls {} a daemon:\n{calls}", if row.daemon { "with" } else { "without" })
    }
}

/// What a program writes until it ends, which closes both.
fn end_of(child: &mut Child) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut texts = (Vec::new(), Vec::new());
    let until = Instant::now() + LIMIT;
    let read = |from: &mut dyn ReadableFd, text: &mut Vec<u8>| -> Result<()> {
        let mut piece = [0; 4096];
        loop {
            let left = PollTimeout::try_from(until.saturating_duration_since(Instant::now()))?;
            let ready = poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], left)?;
            ensure!(ready > 0, "it did not end within {LIMIT:?}");
            match from.read(&mut piece)? {
                0 => return Ok(()),
                count => text.extend(&piece[..count]),
            }
        }
    };
    read(child.stdout.as_mut().context("its output")?, &mut texts.0)?;
    read(child.stderr.as_mut().context("its errors")?, &mut texts.1)?;
    Ok(texts)
}

trait ReadableFd: Read + AsFd {}
impl<T: Read + AsFd> ReadableFd for T {}

/// One answer, of the form that the specification has for it; whether it is a success.
fn judge(call: &Call, answer: &Answer) -> Result<bool> {
    let stdout = std::str::from_utf8(&answer.stdout)?;
    let stderr = String::from_utf8_lossy(&answer.stderr);
    let code = answer.code.context("it was killed by a signal")?;
    let verb = call.asked();
    if code == 0 {
        // Without a verb, the program introduces itself on standard error.
        ensure!(verb.is_empty() || stderr.is_empty(), "a success wrote to standard error: {stderr}");
        let silent = !(verb == "ADD" || verb == "VERSION");
        ensure!(silent == stdout.is_empty(), "a success of {verb:?} wrote {stdout:?}");
        if !silent {
            let document: Value =
                serde_json::from_str(stdout).with_context(|| format!("one document: {stdout}"))?;
            ensure!(document["cniVersion"].is_string(), "{document}");
        }
        return Ok(true);
    }
    ensure!(!stderr.contains("panicked"), "it panicked: {stderr}");
    let error: Value = serde_json::from_str(stdout).with_context(|| format!("one document: {stdout}"))?;
    let number = error["code"].as_u64().with_context(|| format!("no code: {error}"))?;
    // The specification reserves up to 99 what it does not define; 8 is the reference library's, and
    // 100 is a panic that was caught.
    ensure!(matches!(number, 1..=8 | 11 | 50 | 51) || number > 100, "{error}");
    ensure!(error["msg"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    Ok(false)
}
