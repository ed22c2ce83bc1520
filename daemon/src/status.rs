//! `minionetd status`, `peers` and `pods`: gathers, and prints what `minionet_core::status` makes
//! of it.

mod ask;
mod gather;
mod terminal;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use minionet_core::status::{self, Report, Style};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

/// The longest pause between two looks, in seconds: a day.
const LONGEST: u64 = 86_400;

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    Status,
    /// The peers.
    Peers,
    /// The pods.
    Pods,
}

impl Part {
    /// The part that a command shows.
    pub fn named(command: &str) -> Option<Self> {
        match command {
            "status" => Some(Part::Status),
            "peers" => Some(Part::Peers),
            "pods" => Some(Part::Pods),
            _ => None,
        }
    }
}

/// Adds the options that the commands have in common.
pub fn with_options(command: Command) -> Command {
    command.arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON")).arg(
        Arg::new("watch")
            .long("watch")
            .value_name("SECONDS")
            .num_args(0..=1)
            .default_missing_value("2")
            .value_parser(value_parser!(u64).range(1..=LONGEST))
            .help("Look again and again, with so many seconds between [default: 2]"),
    )
}

/// Carries out a command.
///
/// # Errors
/// When there is nothing to look with, or nowhere to print to.
pub fn run(command: &str, matches: &ArgMatches) -> Result<ExitCode> {
    let part = Part::named(command).context("no such command")?;
    let runtime =
        Builder::new_current_thread().enable_all().build().context("cannot start the event loop")?;
    let json = matches.get_flag("json");
    let Some(seconds) = matches.get_one::<u64>("watch") else {
        let report = gather::report(&runtime);
        if let (Part::Pods, Some(why)) = (part, &report.pods_unknown) {
            // An empty list would say that there are none.
            bail!("{why}");
        }
        let text = if json { document(part, &report)? } else { text(part, &report, terminal::style()) };
        terminal::print(&text)?;
        let verdict = if part == Part::Status { report.verdict.exit_status() } else { 0 };
        return Ok(ExitCode::from(verdict));
    };
    watch(&runtime, part, json, Duration::from_secs(*seconds))
}

/// Looks again and again, until a signal or a reader that has gone ends it.
fn watch(runtime: &Runtime, part: Part, json: bool, pause: Duration) -> Result<ExitCode> {
    loop {
        let report = gather::report(runtime);
        let going = if json {
            terminal::print(&line(part, &report)?)?
        } else {
            // Anew each time: the window may have another size by now.
            terminal::repaint(&text(part, &report, terminal::style()))?
        };
        if !going {
            return Ok(ExitCode::SUCCESS);
        }
        // Made inside: a timer needs the runtime around it.
        runtime.block_on(async { sleep(pause).await });
    }
}

fn text(part: Part, report: &Report, style: Style) -> String {
    match part {
        Part::Status => status::status(report, style),
        Part::Peers => status::peers(report, style),
        Part::Pods => status::pods(report, style),
    }
}

fn document(part: Part, report: &Report) -> Result<String> {
    Ok(match part {
        Part::Status => report.to_text(),
        Part::Peers => serde_json::to_string_pretty(&report.peers)? + "\n",
        Part::Pods => serde_json::to_string_pretty(&report.pods)? + "\n",
    })
}

/// The document on one line.
fn line(part: Part, report: &Report) -> Result<String> {
    Ok(match part {
        Part::Status => report.to_line(),
        Part::Peers => serde_json::to_string(&report.peers)? + "\n",
        Part::Pods => serde_json::to_string(&report.pods)? + "\n",
    })
}
