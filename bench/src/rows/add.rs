//! ADD beside the floor and the reference plugins.

use anyhow::Result;

use super::Bench;
use crate::finding::{Finding, Findings, Target};
use crate::measure::{interleaved, ms};
use crate::subjects::{Pod, Reference, Subject};

/// How often each is called.
const ROUNDS: usize = 60;

/// Calls ADD of each subject in turn, and DEL after each, uncounted: milliseconds by subject.
pub fn adds(subjects: Vec<Subject>, rounds: usize) -> Result<Vec<Vec<f64>>> {
    let mut subjects: Vec<(Subject, Vec<Pod>)> =
        subjects.into_iter().map(|s| s.pods(1).map(|pods| (s, pods))).collect::<Result<_>>()?;
    interleaved(rounds, &mut subjects, |(subject, pods), round| {
        let took = subject.add(&pods[0], round)?;
        subject.del(&pods[0], round)?;
        subject.gone()?;
        Ok(ms(took))
    })
}

/// The row.
pub fn run(bench: &Bench) -> Result<Findings> {
    let subjects = vec![
        Subject::minionet(&bench.programs, "")?,
        Subject::floor(&bench.programs, false)?,
        Subject::reference(Reference::Bridge)?,
        Subject::reference(Reference::Masquerade)?,
    ];
    let names: Vec<String> = subjects.iter().map(|subject| subject.name.clone()).collect();
    let samples = adds(subjects, bench.rounds(ROUNDS))?;
    let targets = [1.5, 1.0 / 6.0, 1.0 / 12.0];
    let ours = (names[0].as_str(), samples[0].as_slice());
    let against = |(position, target): (usize, f64)| {
        let theirs = (names[position].as_str(), samples[position].as_slice());
        let what = format!("ADD against {}", theirs.0);
        let finding = Finding::ratio(&what, Target::AtMost(target), "ms", ours, theirs);
        if position == 1 {
            return finding;
        }
        let floor = crate::stats::ratios(&samples[1], &samples[position]);
        finding.with_floor("the floor", &floor)
    };
    Ok((1..).zip(targets).map(against).collect::<Vec<_>>().into())
}
