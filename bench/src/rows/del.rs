//! DEL, and the end of many pods.

use std::time::Instant;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::Bench;
use crate::finding::{Finding, Findings, Target};
use crate::measure::{at_once, interleaved, ms};
use crate::stats::ratios;
use crate::subjects::{Pod, Reference, Subject};

/// How often each is called.
const ROUNDS: usize = 40;
/// How often a node is drained.
const DRAINS: usize = 5;
/// Kubernetes' default for the pods of a node.
const PODS: usize = 110;
/// How many of them a runtime removes at once.
const LANES: usize = 8;

/// The row.
pub fn run(bench: &Bench) -> Result<Findings> {
    let orphaned = Subject::minionet(&bench.programs, "")?;
    if let Some(cluster) = orphaned.cluster() {
        cluster.node(0).kill_daemon(Signal::SIGKILL)?;
    }
    let subjects = [
        Subject::minionet(&bench.programs, "")?,
        orphaned,
        Subject::reference(Reference::Bridge)?,
        Subject::floor(&bench.programs, false)?,
        Subject::reference(Reference::Masquerade)?,
        Subject::floor_masquerading(&bench.programs)?,
    ];
    let mut subjects: Vec<(Subject, Vec<Pod>)> =
        subjects.into_iter().map(|s| s.pods(1).map(|pods| (s, pods))).collect::<Result<_>>()?;
    let samples = interleaved(bench.rounds(ROUNDS), &mut subjects, |(subject, pods), round| {
        subject.add(&pods[0], round)?;
        let took = subject.del(&pods[0], round)?;
        subject.gone()?;
        Ok(ms(took))
    })?;
    let bridge = ("bridge + host-local", samples[2].as_slice());
    let masquerading = ratios(&samples[5], &samples[2]);
    let with = Finding::ratio(
        "DEL against bridge + host-local",
        Target::AtMost(0.2),
        "ms",
        ("minionet", &samples[0]),
        bridge,
    );
    let without = Finding::ratio(
        "DEL without a daemon against bridge + host-local",
        Target::AtMost(1.1),
        "ms",
        ("minionet, daemon killed", &samples[1]),
        bridge,
    )
    .with_floor("deletion of the link alone, on a node that masquerades", &masquerading);
    let masquerade = Finding::ratio(
        "DEL without a daemon against bridge + host-local, masquerade",
        Target::None,
        "ms",
        ("minionet, daemon killed", &samples[1]),
        ("bridge + host-local, masquerade", &samples[4]),
    );
    let floor = Finding::ratio(
        "DEL against the deletion of the link alone",
        Target::None,
        "ms",
        ("minionet", &samples[0]),
        ("floor", &samples[3]),
    );
    Ok(vec![with, without, masquerade, floor].into())
}

/// The end of all pods of a node. The floor takes the links out of the pods by the same messages as
/// the plugin, as many at a time, and then has the kernel destroy them all by one.
pub fn drain(bench: &Bench) -> Result<Findings> {
    let subjects = [
        Subject::minionet(&bench.programs, "")?,
        Subject::reference(Reference::Bridge)?,
        Subject::floor(&bench.programs, false)?,
    ];
    let mut subjects: Vec<(Subject, Vec<Pod>)> =
        subjects.into_iter().map(|s| s.pods(PODS).map(|pods| (s, pods))).collect::<Result<_>>()?;
    let samples = interleaved(bench.rounds(DRAINS), &mut subjects, |(subject, pods), round| {
        at_once(subject.host(), pods, LANES, |pod| subject.add_here(pod, round).map(drop))?;
        let start = Instant::now();
        at_once(subject.host(), pods, LANES, |pod| subject.leave_here(pod, round).map(drop))?;
        subject.destroy_left()?;
        subject.gone()?;
        Ok(ms(start.elapsed()))
    })?;
    let finding = Finding::ratio(
        "drain against bridge + host-local, until the last link is gone",
        Target::AtMost(0.2),
        "ms",
        ("minionet", &samples[0]),
        ("bridge + host-local", &samples[1]),
    );
    let floor = ratios(&samples[2], &samples[1]);
    Ok(vec![finding.with_floor("the floor, all links destroyed by one message", &floor)].into())
}
