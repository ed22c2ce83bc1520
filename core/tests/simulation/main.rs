//! A cluster of minions, simulated: the real membership, plan and difference of every node, with
//! a simulated clock, DNS and kernel, through joins, leaves, changed addresses, restarts and all
//! faults of DNS.
//!
//! * A removal of an address that is registered, and has been for a minute, is wrongful,
//!   whatever DNS says; there must be none, neither from a membership nor from a kernel table.
//! * After every episode and its calm, all tables are exactly what the plan says for the nodes
//!   that are registered.
//! * The same seed gives the same history, on however many processors.
//!
//! The default suite has a small cluster for some days. The whole month of 5000 nodes:
//!
//! ```text
//! cargo test --release -p minionet-core --test simulation -- --ignored
//! ```
//!
//! `MINIONET_SIMULATION="SEED NODES DAYS"` asks for another history.

#![allow(clippy::unwrap_used)]

mod cohort;
mod episode;
// The same model that the tests of the difference use.
#[path = "../../src/overlay/tests/kernel.rs"]
mod kernel;
mod minion;
#[path = "../../src/membership/tests/random.rs"]
mod random;
mod simulation;
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Instant;

use minionet_core::overlay::object::ObservedObject;
use minionet_core::overlay::{
    Change, NextHop, Observed, ObservedDevice, ObservedNeighbour, ObservedRoute, REFUSING_METRIC,
    default_metric, object,
};

use episode::{TROUBLES, Trouble};
use simulation::Simulation;
use world::Seconds;

const DAY: Seconds = 86_400;

/// Runs a history and returns its digest.
fn history(seed: u64, nodes: usize, days: u64) -> u64 {
    let start = Instant::now();
    let mut simulation = Simulation::new(seed, nodes);
    simulation.episode(Trouble::None);
    let mut episodes = 1;
    while simulation.world.now < days * DAY {
        // Every kind of trouble in turn, so that a short run has them all.
        let trouble = TROUBLES[episodes % TROUBLES.len()];
        simulation.episode(trouble);
        episodes += 1;
    }
    let nodes = simulation.world.registered().len();
    assert_eq!(simulation.exact(), nodes, "every table is exact");
    simulation.conclude();
    assert_eq!(simulation.log.wrongful, Vec::<String>::new());
    let (log, seconds) = (&simulation.log, start.elapsed().as_secs_f64());
    let line = format!(
        "simulation: seed {seed}, {nodes} nodes at the end, {:.1} days, {episodes} episodes, {} rounds of {} \
         node-rounds, {} events, {} removals, 0 wrongful, {} changes of tables, at most {} cohorts, {seconds:.1} s \
         ({:.0} node-rounds/s), at most {} of memory, digest {:016x}\n",
        simulation.world.now as f64 / DAY as f64,
        simulation.rounds,
        simulation.node_rounds,
        log.events,
        log.removals,
        log.changes,
        simulation.most,
        simulation.node_rounds as f64 / seconds,
        memory(),
        log.digest,
    );
    // Not by a macro, whose output the test harness would keep to itself.
    io::stderr().write_all(line.as_bytes()).unwrap();
    log.digest
}

/// The most memory that this process has had, as the kernel tells in proc_pid_status(5).
fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.map_or_else(|| "an unknown amount".to_owned(), |l| l.trim().to_owned())
}

#[test]
fn days_of_a_small_cluster() {
    history(1, 120, 2);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let digest = history(11, 60, 1);
    assert_eq!(digest, history(11, 60, 1));
    assert_ne!(digest, history(12, 60, 1));
}

#[test]
#[ignore = "takes minutes: run it with --release"]
fn a_month_of_thousands() {
    let asked = std::env::var("MINIONET_SIMULATION").unwrap_or_else(|_| "1 5000 30".to_owned());
    let numbers: Vec<u64> = asked.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let [seed, nodes, days] = numbers[..] else { panic!("MINIONET_SIMULATION=\"SEED NODES DAYS\"") };
    history(seed, nodes as usize, days);
}
