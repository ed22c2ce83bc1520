//! Many ADDs at once.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Bench;
use crate::finding::{Finding, Findings, Plot, Series, Target};
use crate::measure::{at_once, interleaved, ms};
use crate::stats::Summary;
use crate::subjects::{Pod, Reference, Subject, with_pods};

/// How many at once, and how often.
const CROWDS: [(usize, usize); 3] = [(10, 10), (100, 6), (500, 3)];
/// Room for them: a /22 has 1021 addresses for pods.
const CONFIG: &str = "node_networks = [\"172.20.0.0/24\"]\nnode_prefix = 22";
/// How many DELs at once clean up.
const LANES: usize = 8;

/// The row.
pub fn run(bench: &Bench) -> Result<Findings> {
    let names = ["minionet", "bridge + host-local"];
    let most = CROWDS.map(|(count, _)| count).into_iter().max().unwrap_or(1);
    let subjects = [Subject::minionet(&bench.programs, CONFIG)?, Subject::reference(Reference::Bridge)?];
    let mut subjects = with_pods(subjects, most)?;
    let mut findings = Vec::new();
    let mut series = names.map(|name| Series { name: name.into(), points: Vec::new() });
    let mut calls = 0;
    for (count, rounds) in CROWDS {
        let samples = interleaved(bench.rounds(rounds), &mut subjects, |(subject, pods), _| {
            calls += 1;
            let pods = &pods[..count];
            let took = crowd(subject, pods, calls)?;
            at_once(subject.host(), pods, LANES, |pod| subject.del_here(pod, calls).map(drop))?;
            subject.gone()?;
            Ok(ms(took))
        })?;
        for (series, samples) in series.iter_mut().zip(&samples) {
            series.points.push((count as f64, Summary::of(samples)));
        }
        let target = if count >= 100 { Target::AtMost(0.25) } else { Target::None };
        let what = format!("{count} ADDs at once against {}", names[1]);
        let (ours, theirs) = ((names[0], &samples[0][..]), (names[1], &samples[1][..]));
        findings.push(Finding::ratio(&what, target, "ms", ours, theirs));
    }
    let plot = Plot {
        name: "parallel",
        title: "ADDs at once: time until the last has ended".into(),
        x: "ADDs at once",
        y: "ms",
        series: series.into(),
    };
    Ok(Findings { findings, plots: vec![plot] })
}

/// Starts ADD for all pods as fast as they can be started: the time until the last has ended.
fn crowd(subject: &Subject, pods: &[Pod], call: usize) -> Result<Duration> {
    subject.host().run(|| {
        let start = Instant::now();
        let mut children: Vec<Child> = Vec::with_capacity(pods.len());
        for pod in pods {
            let mut command = subject.command("ADD", pod, call);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn()?;
            if let Some(mut pipe) = child.stdin.take() {
                std::io::Write::write_all(&mut pipe, subject.stdin())?;
            }
            children.push(child);
        }
        for child in children {
            let output = child.wait_with_output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        Ok(start.elapsed())
    })?
}
