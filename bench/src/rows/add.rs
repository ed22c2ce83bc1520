//! ADD beside the floor and the reference plugins.

use anyhow::Result;

use super::Bench;
use crate::finding::{Finding, Findings, Target};
use crate::measure::{interleaved, ms};
use crate::stats::ratios;
use crate::subjects::{Pod, Reference, Subject};

/// How often each is called.
const ROUNDS: usize = 150;

/// Who is who among the subjects: we, the floor of messages alone, and that with files.
const OURS: usize = 0;
const FLOOR: usize = 1;
const WITH_FILES: usize = 2;

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
        Subject::floor_with_files(&bench.programs)?,
        Subject::reference(Reference::Bridge)?,
        Subject::reference(Reference::Masquerade)?,
    ];
    let names: Vec<String> = subjects.iter().map(|subject| subject.name.clone()).collect();
    let samples = adds(subjects, bench.rounds(ROUNDS))?;
    let against = |theirs: usize, target| {
        let of = |position: usize| (names[position].as_str(), samples[position].as_slice());
        let what = format!("ADD against {}", names[theirs]);
        let finding = Finding::ratio(&what, Target::AtMost(target), "ms", of(OURS), of(theirs));
        [(FLOOR, "the floor"), (WITH_FILES, "with the files")]
            .into_iter()
            .filter(|_| theirs > WITH_FILES)
            .fold(finding, |finding, (floor, name)| {
                finding.with_floor(name, &ratios(&samples[floor], &samples[theirs]))
            })
    };
    let with_files = Finding::ratio(
        "ADD against floor with files",
        Target::None,
        "ms",
        (&names[OURS], &samples[OURS]),
        (&names[WITH_FILES], &samples[WITH_FILES]),
    );
    let (bridge, masquerade) = (WITH_FILES + 1, WITH_FILES + 2);
    let findings =
        [against(FLOOR, 1.5), with_files, against(bridge, 1.0 / 6.0), against(masquerade, 1.0 / 12.0)];
    Ok(Vec::from(findings).into())
}
