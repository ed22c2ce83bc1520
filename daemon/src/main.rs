//! `minionetd`: discovers the minions of a cluster by DNS and keeps the overlay right.
//!
//! This crate wires: it gathers the configuration, asks DNS, hands what it heard to the decisions
//! in `minionet-core`, and what they decided to the kernel through `minionet-netlink`.

mod cli;
mod clock;
mod collector;
mod conflist;
mod files;
mod firewall;
mod forwarding;
mod health;
mod hostports;
mod keep;
mod logging;
mod node;
mod notices;
mod plan;
mod probe;
mod resolve;
mod run;
mod settings;
mod sysctls;

use std::process::ExitCode;

fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    let result = match matches.subcommand() {
        Some(("run", matches)) => run::run(matches),
        Some(("plan", matches)) => settings::gather(matches).and_then(|config| plan::run(&config, matches)),
        // The command line demands one of the above.
        _ => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            // If even this cannot be written there is nobody left to tell.
            let _unheard = writeln!(std::io::stderr(), "minionetd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
