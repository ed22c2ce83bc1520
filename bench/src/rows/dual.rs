//! ADD of pods with addresses of both families.

use std::time::Duration;

use anyhow::Result;

use super::Bench;
use super::add::adds;
use crate::finding::{Finding, Findings, Target};
use crate::stats::ratios;
use crate::subjects::{Reference, Subject, with_pods};

/// How often each is called.
const ROUNDS: usize = 40;
/// The reference plugin waits for one to two seconds each time.
const SLOW_ROUNDS: usize = 6;

/// The row.
pub fn run(bench: &Bench) -> Result<Findings> {
    let programs = &bench.programs;
    let names = ["minionet, dual stack", "minionet", "floor, dual stack", "floor"];
    let subjects = vec![
        Subject::minionet_dual(programs)?,
        Subject::minionet(programs, "")?,
        Subject::floor(programs, true)?,
        Subject::floor(programs, false)?,
    ];
    let mut subjects = with_pods(subjects, 1)?;
    let samples = adds(&mut subjects, bench.rounds(ROUNDS), Duration::ZERO)?;
    let of = |position: usize| (names[position], samples[position].as_slice());
    let single = Finding::ratio("dual-stack ADD against IPv4", Target::AtMost(1.3), "ms", of(0), of(1))
        .with_floor("the floor's dual-stack ADD against its IPv4 one", &ratios(&samples[2], &samples[3]));
    let floor = Finding::ratio("dual-stack ADD against the floor", Target::None, "ms", of(0), of(2));
    let slow = vec![Subject::minionet_dual(programs)?, Subject::reference(Reference::PtpDual)?];
    let mut slow = with_pods(slow, 1)?;
    let samples = adds(&mut slow, bench.rounds(SLOW_ROUNDS), Duration::ZERO)?;
    let ptp = Finding::ratio(
        "dual-stack ADD against ptp + host-local",
        Target::AtMost(0.01),
        "ms",
        ("minionet, dual stack", &samples[0]),
        ("ptp + host-local, dual stack", &samples[1]),
    );
    Ok(vec![single, floor, ptp].into())
}
