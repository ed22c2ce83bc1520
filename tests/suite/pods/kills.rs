//! Calls are killed at random instants while others are under way: no address is given twice, what
//! lives is not harmed, and nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use libtest_mimic::Trial;
use minionet_core::cni::attachment::Key;
use minionet_core::constants::RUN_DIR;
use minionet_pods::store::{Stage, Store};
use minionet_tests::{Need, Seed, at_once, print, trials};
use netns_testbed::{Node, eventually};
use nix::libc::SIGKILL;
use proptest::prelude::RngExt;
use serde_json::{Value, json};

use super::bed::{checking, collect_all, command, full_conf, on_orphaned_node, times};
use crate::cni::support::{
    HostState, PATIENT, Sandbox, add, addresses, call, conf_with, del, on_node_with, silent,
};

pub fn trials() -> Vec<Trial> {
    trials![
        random_kills_are_undone_by_del => [Need::Program("nft")],
        random_kills_are_undone_by_gc => [Need::Program("nft")],
        random_kills_are_undone_by_the_collector => [Need::Program("nft")],
        random_kills_are_undone_by_a_living_daemon => [Need::Program("nft")],
    ]
}

/// In each of the four tests; more than 500 in all.
const KILLS: usize = 130;
/// Who calls at the same time.
const WORKERS: usize = 4;
/// Containers of each worker.
const EACH: usize = 3;
/// Addresses of a /28 without those of the network, the gateway and the last: one more than there
/// are containers, so that an ADD that finds none has met a leak.
const POOL: usize = 13;
const SMALL: &str = "node_prefix = 28\n";
/// How many calls may end by themselves.
const SPARED: f64 = 0.2;

/// What is known of a container.
enum State {
    Detached,
    Attached(Value),
    /// A call was killed.
    Unknown,
}

/// Workers that attach and detach, and are interrupted.
struct Storm<'a> {
    node: &'a Node,
    seed: Seed,
    kills: usize,
    containers: Vec<(Sandbox, Mutex<State>)>,
    /// Which container has an address, as far as an ADD said so and no DEL was begun.
    holders: Mutex<BTreeMap<String, usize>>,
    /// How long undisturbed calls take, in microseconds: ADD and DEL.
    durations: [AtomicUsize; 2],
    killed: AtomicUsize,
    /// Killed when the record was there and the attachment was not complete.
    half_way: AtomicUsize,
    calls: AtomicUsize,
}

/// Everything of a node that calls could have changed.
struct Before {
    state: HostState,
    rest: String,
}

impl Before {
    /// Addresses, rules, and the files that stay for good.
    fn rest(node: &Node) -> Result<String> {
        // The daemon replaces its own, by way of new ones.
        let files = format!("ls -A {RUN_DIR} | grep -v -e '[.]json$' -e '^[.].*[.]new$'");
        let mut lines = Vec::new();
        // Link-local addresses come and are tried a little later, by the kernel.
        let addresses = ["ip", "-o", "addr", "show", "scope", "global"];
        for words in [&addresses[..], &["ip", "rule"], &["ip", "-6", "rule"], &["sh", "-c", &files]] {
            lines.extend(node.exec(words)?.lines().map(str::to_owned));
        }
        lines.sort();
        Ok(lines.join("\n"))
    }

    fn returns(&self, node: &Node) -> Result<()> {
        self.state.returns(node)?;
        eventually("the rest to be as before", PATIENT, || {
            let now = Self::rest(node)?;
            ensure!(now == self.rest, "it has {now}\ninstead of {}", self.rest);
            anyhow::Ok(())
        })?;
        Ok(())
    }
}

/// The storm, and then `ending`, after which nothing is left.
fn storm(node: &Node, ending: impl FnOnce(Storm<'_>) -> Result<()>) -> Result<()> {
    let seed = Seed::choose()?;
    let start = Instant::now();
    let kills = times(KILLS, 20 * KILLS);
    let state = HostState::of(node)?;
    let storm = Storm::new(node, seed, kills).with_context(|| seed.to_string())?;
    // The first calls make files that stay, and devices that the daemon destroys a little later.
    state.returns(node).with_context(|| seed.to_string())?;
    let before = Before { state, rest: Before::rest(node)? };
    let through = || -> Result<()> {
        let workers: Vec<usize> = (0..WORKERS).collect();
        at_once(&workers, |worker| storm.work(*worker))?;
        storm.nobody_shares_an_address()?;
        storm.the_attached_are_whole()?;
        let (calls, half_way) = (storm.calls.load(Ordering::Relaxed), storm.half_way.load(Ordering::Relaxed));
        print(&format!(
            "kills: {} of {calls} calls, {half_way} of them in the middle of an ADD; {seed}; {:.1?}",
            storm.killed.load(Ordering::Relaxed),
            start.elapsed()
        ));
        // Before the first change or after the last, there is little to be found.
        ensure!(half_way * 20 > kills, "the calls were not killed half way");
        ending(storm)?;
        before.returns(node)?;
        all_addresses_are_free(node)?;
        before.returns(node)
    };
    through().with_context(|| seed.to_string())
}

fn random_kills_are_undone_by_del() -> Result<()> {
    on_orphaned_node(SMALL, |node| {
        storm(node, |storm| {
            for (number, (sandbox, _)) in storm.containers.iter().enumerate() {
                del(node, &sandbox.attachment, &conf_of(number))?;
                sandbox.has(&["lo"])?;
            }
            Ok(())
        })
    })
}

fn random_kills_are_undone_by_gc() -> Result<()> {
    on_orphaned_node(SMALL, |node| {
        storm(node, |storm| {
            let nothing = conf_with(json!({"cni.dev/valid-attachments": []}));
            silent(&call(node, "GC", &storm.containers[0].0.attachment, &nothing)?)?;
            storm.containers.iter().try_for_each(|(sandbox, _)| sandbox.has(&["lo"]))
        })
    })
}

fn random_kills_are_undone_by_the_collector() -> Result<()> {
    on_orphaned_node(SMALL, |node| {
        storm(node, |storm| {
            // What was not completed goes while the namespaces are there, and nothing else does.
            collect_all(node)?;
            storm.nothing_is_half_made()?;
            storm.the_attached_are_whole()?;
            storm.vanish()?;
            let before = node.exec(["ls", "/run/minionet/leases"])?;
            Ok(eventually("the collector to free all addresses", PATIENT, || {
                // The kernel takes its time to destroy namespaces, and interfaces with them.
                collect_all(node)?;
                let leases = node.exec(["ls", "/run/minionet/leases"])?;
                ensure!(leases.is_empty(), "of {before} there are left {leases}");
                anyhow::Ok(())
            })?)
        })
    })
}

fn random_kills_are_undone_by_a_living_daemon() -> Result<()> {
    let config = format!("{SMALL}pod_network = \"10.32.0.0/16\"\nnode_networks = \"172.20.0.0/24\"\n");
    on_node_with(&format!("{config}collect_interval = \"100ms\"\n"), |node| {
        storm(node, |storm| {
            eventually("the daemon to undo what was half made", PATIENT, || storm.nothing_is_half_made())?;
            storm.the_attached_are_whole()?;
            // Nobody calls DEL.
            storm.vanish()
        })
    })
}

/// A configuration with everything in it; each container has a port of its own.
fn conf_of(container: usize) -> Value {
    let mut conf = full_conf();
    conf["runtimeConfig"]["portMappings"][0]["hostPort"] = (8_000 + container).into();
    conf
}

/// As many pods as there are addresses can be attached at the same time.
fn all_addresses_are_free(node: &Node) -> Result<()> {
    let numbers: Vec<usize> = (0..POOL).collect();
    let sandbox = |number: &usize| Sandbox::new(node, &format!("late{number}"));
    let late: Vec<Sandbox> = numbers.iter().map(sandbox).collect::<Result<_>>()?;
    let conf = conf_with(json!({}));
    let results = at_once(&numbers, |number| add(node, &late[*number].attachment, &conf))?;
    let firsts: BTreeSet<String> =
        results.iter().map(|result| Ok(addresses(result)?.remove(0))).collect::<Result<_>>()?;
    ensure!(firsts.len() == POOL, "{firsts:?}");
    at_once(&numbers, |number| del(node, &late[*number].attachment, &conf))?;
    for (number, _) in late.into_iter().enumerate() {
        node.unbind_pod(&format!("late{number}"))?;
    }
    Ok(())
}

impl<'a> Storm<'a> {
    fn new(node: &'a Node, seed: Seed, kills: usize) -> Result<Self> {
        let container =
            |number| anyhow::Ok((Sandbox::new(node, &format!("c{number}"))?, Mutex::new(State::Detached)));
        let storm = Self {
            node,
            seed,
            kills,
            containers: (0..WORKERS * EACH).map(container).collect::<Result<_>>()?,
            holders: Mutex::default(),
            durations: Default::default(),
            killed: AtomicUsize::new(0),
            half_way: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
        };
        // How long a call takes here.
        for verb in ["ADD", "DEL"] {
            storm.make(0, verb, None)?;
        }
        Ok(storm)
    }

    /// Attaches and detaches containers of its own until enough was killed.
    fn work(&self, worker: usize) -> Result<()> {
        let mut random = self.seed.generator(worker as u64);
        while self.killed.load(Ordering::Relaxed) < self.kills {
            let calls = self.calls.fetch_add(1, Ordering::Relaxed);
            ensure!(calls < 50 * self.kills, "{calls} calls, and too few were killed");
            let container = worker * EACH + random.random_range(0..EACH);
            let verb = if random.random_bool(0.5) { "ADD" } else { "DEL" };
            let longest = self.durations[usize::from(verb == "DEL")].load(Ordering::Relaxed);
            let after = random.random_range(0..=longest * 5 / 4) as u64;
            let after = (!random.random_bool(SPARED)).then(|| Duration::from_micros(after));
            self.make(container, verb, after).with_context(|| format!("{verb} of c{container}"))?;
        }
        Ok(())
    }

    /// Makes a call, kills it after a while, and judges what comes of it.
    fn make(&self, container: usize, verb: &str, kill_after: Option<Duration>) -> Result<()> {
        let (sandbox, state) = &self.containers[container];
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if verb == "DEL" {
            // From now on the addresses may be another's.
            self.holders.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, c| *c != container);
        }
        let start = Instant::now();
        let output = self.execute(sandbox, verb, &conf_of(container), kill_after)?;
        if output.status.signal() == Some(SIGKILL) {
            self.killed.fetch_add(1, Ordering::Relaxed);
            if self.stage(container)? == Some(Stage::Adding) {
                self.half_way.fetch_add(1, Ordering::Relaxed);
            }
            // An ADD of what is attached harms nobody.
            if verb == "DEL" || !matches!(*state, State::Attached(_)) {
                *state = State::Unknown;
            }
            return Ok(());
        }
        if kill_after.is_none() {
            let micros = start.elapsed().as_micros() as usize;
            self.durations[usize::from(verb == "DEL")].store(micros, Ordering::Relaxed);
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if verb == "DEL" {
            ensure!(output.status.success() && text.is_empty(), "{} {text}", output.status);
            *state = State::Detached;
            return Ok(());
        }
        let answer: Value = serde_json::from_str(&text).with_context(|| format!("one document: {text}"))?;
        match (&*state, output.status.success()) {
            (State::Detached | State::Unknown, true) => {
                self.hold(container, &answer)?;
                *state = State::Attached(answer);
            }
            (State::Attached(_), false) if answer["code"] == 112 => {}
            // It was complete, or the collector is at work on it.
            (State::Unknown, false) if answer["code"] == 112 || answer["code"] == 11 => {}
            (State::Detached, _) => bail!("it was detached: {answer}"),
            (State::Attached(_), _) => bail!("it was attached: {answer}"),
            (State::Unknown, _) => bail!("{answer}"),
        }
        Ok(())
    }

    fn execute(
        &self,
        sandbox: &Sandbox,
        verb: &str,
        conf: &Value,
        kill_after: Option<Duration>,
    ) -> Result<Output> {
        let mut command = command(self.node, verb, &sandbox.attachment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        // Less than a pipe holds, so nobody waits.
        child.stdin.take().context("its input")?.write_all(conf.to_string().as_bytes())?;
        if let Some(after) = kill_after {
            pause(after);
            child.kill()?;
        }
        Ok(child.wait_with_output()?)
    }

    /// Notes down the addresses of a result, which nobody else may have.
    fn hold(&self, container: usize, result: &Value) -> Result<()> {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        for address in addresses(result)? {
            if let Some(other) = holders.insert(address.clone(), container) {
                bail!("{address} was given to c{container} while c{other} had it");
            }
        }
        Ok(())
    }

    /// How far a container's record has come.
    fn stage(&self, container: usize) -> Result<Option<Stage>> {
        let attachment = &self.containers[container].0.attachment;
        let key = Key {
            network: "net1".into(),
            container: attachment.container.clone(),
            ifname: attachment.interface.clone(),
        };
        let found = self.node.run(|| Store::new(Path::new(RUN_DIR)).find(key.id()))??;
        Ok(found.map(|found| found.stage))
    }

    /// The records tell of every address once.
    fn nobody_shares_an_address(&self) -> Result<()> {
        let mut seen = BTreeMap::new();
        let store = Store::new(Path::new(RUN_DIR));
        let records = self.node.run(|| -> Result<Vec<_>> {
            let found = store.recorded()?.into_iter().filter_map(|id| store.find(id).transpose());
            found.map(|found| Ok(found?.read()??)).collect()
        })??;
        for record in records {
            for assigned in &record.link.addresses {
                // Where a DEL was killed, the lease may have gone before the record.
                let id = record.key.id();
                if !self.node.run(|| store.has_lease(assigned.address, id))?? {
                    continue;
                }
                let other = seen.insert(assigned.address, record.key.container.clone());
                ensure!(other.is_none(), "{} of {other:?} and {}", assigned.address, record.key.container);
            }
        }
        Ok(())
    }

    /// What an ADD said to be there is there, all of it.
    fn the_attached_are_whole(&self) -> Result<()> {
        for (number, (sandbox, state)) in self.containers.iter().enumerate() {
            if let State::Attached(result) = &*state.lock().unwrap_or_else(PoisonError::into_inner) {
                let check =
                    call(self.node, "CHECK", &sandbox.attachment, &checking(&conf_of(number), result))?;
                silent(&check).with_context(|| format!("CHECK of c{number}"))?;
            }
        }
        Ok(())
    }

    fn nothing_is_half_made(&self) -> Result<()> {
        for number in 0..self.containers.len() {
            ensure!(self.stage(number)? != Some(Stage::Adding), "c{number} is half made");
        }
        Ok(())
    }

    /// The namespaces go, as when a runtime loses everything; nobody calls DEL.
    fn vanish(self) -> Result<()> {
        for (number, (sandbox, _)) in self.containers.into_iter().enumerate() {
            self.node.unbind_pod(&format!("c{number}"))?;
            drop(sandbox);
        }
        Ok(())
    }
}

/// The moment of a kill is chosen at random, not waited for.
#[allow(clippy::disallowed_methods)]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
