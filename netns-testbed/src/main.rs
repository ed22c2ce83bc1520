//! The testbed command: `netns-testbed demo`, and the way into a demo that is held.

mod demo;
mod held;
mod terminal;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Whole clusters of minions on one machine, out of network namespaces, with a real DNS server.
///
/// Works as root, and as an ordinary user where user namespaces are permitted. Nothing outside of
/// the namespaces is touched, and nothing is left behind.
#[derive(Parser)]
#[command(name = "netns-testbed", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Options),
    Exec(held::Exec),
    Status(held::Status),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Exec(options) => held::exec(&options),
        Command::Status(options) => held::status(&options),
    };
    outcome.unwrap_or_else(|error| {
        // Where standard error is closed, nobody reads.
        let _ = writeln!(std::io::stderr(), "netns-testbed: {error:#}");
        ExitCode::FAILURE
    })
}
