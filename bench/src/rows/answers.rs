//! VERSION and STATUS beside a program that does nothing.

use std::process::Command;

use anyhow::Result;

use super::Bench;
use crate::finding::{Finding, Findings, Target};
use crate::measure::{interleaved, ms, time};
use crate::subjects::{Reference, Subject};

/// How often each is called.
const ROUNDS: usize = 200;

/// What is called.
#[derive(Clone, Copy)]
enum Call {
    Empty,
    Ours(&'static str),
    Theirs(&'static str),
}

/// The row.
pub fn run(bench: &Bench) -> Result<Findings> {
    let ours = Subject::minionet(&bench.programs, "")?;
    let theirs = Subject::reference(Reference::Bridge)?;
    let empty = bench.programs.path("minionet-empty");
    let mut calls = [Call::Empty, Call::Ours("VERSION"), Call::Ours("STATUS"), Call::Theirs("VERSION")];
    let samples = interleaved(bench.rounds(ROUNDS), &mut calls, |call, _| {
        Ok(ms(match call {
            Call::Empty => {
                let mut command = Command::new(&empty);
                command.env_clear();
                time(ours.host(), command, b"")?.0
            }
            Call::Ours(verb) => ours.ask(verb)?,
            Call::Theirs(verb) => theirs.ask(verb)?,
        }))
    })?;
    let more = |verb: &str, position: usize| {
        let more: Vec<f64> =
            samples[position].iter().zip(&samples[0]).map(|(ours, empty)| ours - empty).collect();
        Finding::value(&format!("{verb}: more than an empty program"), Target::AtMost(1.0), "ms", &more)
            .beside("minionet", "ms", &samples[position])
            .beside("empty program", "ms", &samples[0])
    };
    let version = more("VERSION", 1).beside("bridge", "ms", &samples[3]);
    Ok(vec![version, more("STATUS", 2)].into())
}
