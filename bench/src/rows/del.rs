//! DEL, and the end of many pods.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use super::Bench;
use crate::finding::{Finding, Findings, Target};
use crate::measure::{at_once, interleaved, ms, rest};
use crate::stats::ratios;
use crate::subjects::{Reference, Subject, with_pods};

/// How often each is called.
const ROUNDS: usize = 40;
/// How long is waited after each call. A daemon hears of what was done, forgets the connections of a pod
/// whose link is gone, and looks at its tables; with the kernel's lock held, it would be measured with
/// whoever comes next.
const AFTERWARDS: Duration = Duration::from_millis(50);
/// How often a node is drained.
const DRAINS: usize = 12;
/// Kubernetes' default for the pods of a node.
const PODS: usize = 110;
/// How many of them a runtime removes at once.
const LANES: usize = 8;

/// The row.
///
/// What DEL takes without a daemon is compared on nodes as kube-proxy makes them, as all others are
/// none: there the kernel looks for what to forget of each interface that goes down, and it does so
/// for whoever destroys one.
pub fn run(bench: &Bench) -> Result<Findings> {
    let orphaned = Subject::minionet(&bench.programs, "")?.beside_kube_proxy()?;
    if let Some(cluster) = orphaned.cluster() {
        cluster.node(0).kill_daemon(Signal::SIGKILL)?;
    }
    let subjects = [
        Subject::minionet(&bench.programs, "")?,
        orphaned,
        Subject::reference(Reference::Bridge)?,
        Subject::floor(&bench.programs, false)?,
        Subject::reference(Reference::Bridge)?.beside_kube_proxy()?,
        Subject::floor(&bench.programs, false)?.beside_kube_proxy()?,
    ];
    let mut subjects = with_pods(subjects, 1)?;
    let samples = interleaved(bench.rounds(ROUNDS), &mut subjects, |(subject, pods), round| {
        subject.add(&pods[0], round)?;
        rest(AFTERWARDS);
        let took = subject.del(&pods[0], round)?;
        subject.gone()?;
        rest(AFTERWARDS);
        Ok(ms(took))
    })?;
    let [minionet, orphaned, bridge, floor, bridge_beside, floor_beside] = &samples[..] else {
        bail!("samples of {} subjects", samples.len())
    };
    let ours = ("minionet, daemon killed", orphaned.as_slice());
    let with = Finding::ratio(
        "DEL against bridge + host-local",
        Target::AtMost(0.2),
        "ms",
        ("minionet", minionet),
        ("bridge + host-local", bridge),
    );
    let without = Finding::ratio(
        "DEL without a daemon against bridge + host-local, both beside kube-proxy",
        Target::AtMost(1.1),
        "ms",
        ours,
        ("bridge + host-local", bridge_beside),
    )
    .with_floor("deletion of the link alone", &ratios(floor_beside, bridge_beside));
    let unlike = Finding::ratio(
        "DEL without a daemon beside kube-proxy against bridge + host-local without it",
        Target::AtMost(1.1),
        "ms",
        ours,
        ("bridge + host-local", bridge),
    )
    .with_floor("deletion of the link alone, beside kube-proxy", &ratios(floor_beside, bridge));
    let floor = Finding::ratio(
        "DEL against the deletion of the link alone",
        Target::None,
        "ms",
        ("minionet", minionet),
        ("floor", floor),
    );
    Ok(vec![with, without, unlike, floor].into())
}

/// The end of all pods of a node. The floor takes the links out of the pods by the same messages as
/// the plugin, as many at a time, and then has the kernel destroy them all by one.
pub fn drain(bench: &Bench) -> Result<Findings> {
    let subjects = [
        Subject::minionet(&bench.programs, "")?,
        Subject::reference(Reference::Bridge)?,
        Subject::floor(&bench.programs, false)?,
    ];
    let mut subjects = with_pods(subjects, PODS)?;
    let samples = interleaved(bench.rounds(DRAINS), &mut subjects, |(subject, pods), round| {
        at_once(subject.host(), pods, LANES, |pod| subject.add_here(pod, round).map(drop))?;
        let start = Instant::now();
        at_once(subject.host(), pods, LANES, |pod| subject.leave_here(pod, round).map(drop))?;
        subject.destroy_left()?;
        subject.gone()?;
        let took = start.elapsed();
        rest(AFTERWARDS);
        Ok(ms(took))
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
