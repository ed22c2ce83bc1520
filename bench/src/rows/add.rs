//! ADD beside the floor and the reference plugins.

use std::time::Duration;

use anyhow::Result;

use super::Bench;
use crate::finding::{Finding, Findings, Target};
use crate::measure::{interleaved, ms, rest};
use crate::stats::ratios;
use crate::subjects::{Pod, Reference, Subject, with_pods};

/// How often each is called, one after the other.
const ROUNDS: usize = 150;
/// How often each is called, with a pause before.
const COLD_ROUNDS: usize = 50;
/// How long nothing happens before a call, so that the processor's caches are others' meanwhile: as on
/// a node where a pod is started now and then. How much of them is lost is the machine's doing, and its
/// other users', so there is no target for that.
const PAUSE: Duration = Duration::from_millis(50);

/// Who is who among the subjects: we, the floor of messages alone, and that with files.
const OURS: usize = 0;
const FLOOR: usize = 1;
const WITH_FILES: usize = 2;

/// Calls ADD of each subject in turn, and after each DEL and a pause, uncounted: milliseconds by subject.
pub fn adds(subjects: &mut [(Subject, Vec<Pod>)], rounds: usize, pause: Duration) -> Result<Vec<Vec<f64>>> {
    interleaved(rounds, subjects, |(subject, pods), round| {
        let took = subject.add(&pods[0], round)?;
        subject.del(&pods[0], round)?;
        subject.gone()?;
        if !pause.is_zero() {
            rest(pause);
        }
        Ok(ms(took))
    })
}

/// The row.
pub fn run(bench: &Bench) -> Result<Findings> {
    let subjects = vec![
        Subject::minionet(&bench.programs, "")?,
        Subject::floor(&bench.programs, false)?,
        Subject::floor_with_files(&bench.programs)?,
        Subject::reference(Reference::Bridge)?,
        Subject::reference(Reference::Masquerade)?,
    ];
    let mut subjects = with_pods(subjects, 1)?;
    let names: Vec<String> = subjects.iter().map(|(subject, _)| subject.name.clone()).collect();
    let warm = adds(&mut subjects, bench.rounds(ROUNDS), Duration::ZERO)?;
    let cold = adds(&mut subjects, bench.rounds(COLD_ROUNDS), PAUSE)?;
    let mut findings = Vec::new();
    for (how, samples, targets) in [("ADD", warm, true), ("ADD after 50 ms of rest", cold, false)] {
        let against = |theirs: usize, target| {
            let target = if targets { target } else { Target::None };
            let of = |position: usize| (names[position].as_str(), samples[position].as_slice());
            let what = format!("{how} against {}", names[theirs]);
            let finding = Finding::ratio(&what, target, "ms", of(OURS), of(theirs));
            [(FLOOR, "the floor"), (WITH_FILES, "with the files")]
                .into_iter()
                .filter(|_| theirs > WITH_FILES)
                .fold(finding, |finding, (floor, name)| {
                    finding.with_floor(name, &ratios(&samples[floor], &samples[theirs]))
                })
        };
        let (bridge, masquerade) = (WITH_FILES + 1, WITH_FILES + 2);
        findings.extend([
            against(FLOOR, Target::AtMost(1.5)),
            against(WITH_FILES, Target::None),
            against(bridge, Target::AtMost(1.0 / 6.0)),
            against(masquerade, Target::AtMost(1.0 / 12.0)),
        ]);
    }
    Ok(findings.into())
}
