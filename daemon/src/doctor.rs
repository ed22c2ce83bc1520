//! `minionetd doctor`: gathers facts about this node, has them judged, and prints the findings.

mod cni;
mod gather;
mod host;
mod kernel;
mod kube;
mod peers;
mod pods;
mod print;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::ArgMatches;
use minionet_core::doctor::{Verdict, examine};

use crate::terminal;

/// The exit status where there are warnings.
const WARNINGS: u8 = 3;

/// The exit status where there are errors.
const ERRORS: u8 = 4;

/// Examines this node.
///
/// # Errors
/// Without root, or when the findings cannot be printed; whatever else fails is a finding.
pub fn run(matches: &ArgMatches) -> Result<ExitCode> {
    // Much of what there is to see is hidden from others, and half an examination misleads.
    ensure!(nix::unistd::geteuid().is_root(), "the doctor needs root: sudo minionetd doctor");
    let report = examine(&gather::facts(matches));
    let text = match matches.get_flag("json") {
        true => print::json(&report),
        false => print::text(&report, matches.get_flag("all")),
    };
    terminal::print(&text)?;
    Ok(match report.verdict {
        Verdict::Error => ExitCode::from(ERRORS),
        Verdict::Warning => ExitCode::from(WARNINGS),
        Verdict::Skipped | Verdict::Ok | Verdict::Note => ExitCode::SUCCESS,
    })
}
