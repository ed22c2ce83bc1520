//! `minionetd`: discovers the minions of a cluster by DNS and keeps the overlay right.
//!
//! This crate wires: it gathers the configuration, asks DNS, hands what it heard to the decisions
//! in `minionet-core`, and what they decided to the kernel through `minionet-netlink`.

mod causes;
mod cleanup;
mod cli;
mod clock;
mod collector;
mod conflist;
mod doctor;
mod files;
mod firewall;
mod forwarding;
mod generate;
mod health;
mod hostports;
mod install;
mod keep;
mod local;
mod logging;
mod memory;
mod node;
mod notices;
mod notify;
mod output;
mod plan;
mod probe;
mod processes;
mod register;
mod resolve;
mod run;
mod service;
mod settings;
mod status;
mod sysctls;
mod terminal;
mod trace;
mod wait;

use std::process::ExitCode;

fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    let result = match matches.subcommand() {
        Some(("run", matches)) => run::run(matches).map(done),
        Some(("plan", matches)) => {
            settings::gather_as_daemon(matches).and_then(|config| plan::run(&config, matches)).map(done)
        }
        Some((name, matches)) if status::Part::named(name).is_some() => status::run(name, matches),
        Some(("doctor", matches)) => doctor::run(matches),
        Some(("trace", matches)) => trace::run(matches),
        Some(("register", matches)) => settings::gather(matches)
            .and_then(|config| register::register(&config))
            .map(|()| ExitCode::SUCCESS),
        Some(("deregister", matches)) => settings::gather(matches)
            .and_then(|config| register::deregister(&config, matches))
            .map(|()| ExitCode::SUCCESS),
        Some(("wait", matches)) => wait::run(matches).map(|()| ExitCode::SUCCESS),
        Some(("install", matches)) => install::install(matches).map(|()| ExitCode::SUCCESS),
        Some(("uninstall", matches)) => install::uninstall(matches).map(|()| ExitCode::SUCCESS),
        Some(("cleanup", matches)) => cleanup::run(matches).map(|()| ExitCode::SUCCESS),
        Some(("settings", matches)) => generate::settings(matches).map(|()| ExitCode::SUCCESS),
        Some(("completions", matches)) => generate::completions(matches).map(|()| ExitCode::SUCCESS),
        Some(("man", matches)) => generate::man(matches).map(|()| ExitCode::SUCCESS),
        // The command line demands one of the above.
        _ => Ok(ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            use std::io::Write;
            // If even this cannot be written there is nobody left to tell.
            let _unheard = writeln!(std::io::stderr(), "minionetd: {}", causes::chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// What is done and has nothing to judge is a success.
fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}
