//! Gathers the configuration from where it lies.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ArgMatches;
use minionet_core::config::{Config, Layer};
use minionet_core::constants::{CONFIG_FILE, MINIONS_FILE};

use crate::cli;
use crate::processes::{self, Process};

/// Reads flags, environment and file, and checks all of it.
///
/// # Errors
/// Everything that is wrong, each with its place; or a file that was named and cannot be read.
pub fn gather(matches: &ArgMatches) -> Result<Config> {
    let file = file(matches.get_one::<PathBuf>("config"))?;
    check(&[cli::flags(matches), environment(), file])
}

/// The variables of this process.
fn environment() -> Layer {
    Layer::from_env(std::env::vars_os().filter_map(|(name, value)| {
        // A name or value that is no text cannot be a setting.
        Some((name.into_string().ok()?, value.into_string().ok()?))
    }))
}

/// As [`gather`], for a command that an operator gives: a shell has neither the environment nor the
/// flags that the daemon was started with. Where it runs, those are taken from it, and otherwise
/// the variables from the file that its service has them from.
///
/// # Errors
/// As [`gather`].
pub fn gather_as_daemon(matches: &ArgMatches) -> Result<Config> {
    let daemon = running();
    let started = daemon.as_ref().and_then(|daemon| {
        let matches = cli::command().try_get_matches_from(&daemon.arguments).ok()?;
        matches.subcommand_matches("run").cloned()
    });
    let service = match &daemon {
        Some(daemon) => Layer::from_env(daemon.environment()),
        None => Layer::from_env(pairs(&fs::read_to_string(MINIONS_FILE).unwrap_or_default())),
    };
    let named = matches.get_one::<PathBuf>("config");
    let file = file(named.or(started.as_ref().and_then(|started| started.get_one::<PathBuf>("config"))))?;
    let flags = started.as_ref().map(cli::flags).unwrap_or_default();
    check(&[cli::flags(matches), flags, environment(), service, file])
}

/// The daemon of this network namespace, if one runs.
fn running() -> Option<Process> {
    let own = std::process::id();
    let is_daemon = |p: &Process| {
        p.program() == "minionetd" && p.arguments.get(1).is_some_and(|verb| verb == "run") && p.id != own
    };
    processes::here().into_iter().find(is_daemon)
}

/// The variables of a file that a service reads (systemd.exec(5), `EnvironmentFile=`).
fn pairs(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let unquoted = |value: &str| {
        let inner = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
        inner('"').or_else(|| inner('\'')).unwrap_or(value).to_owned()
    };
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), unquoted(value.trim()))).collect()
}

/// The configuration file; only the default one may be missing.
fn file(named: Option<&PathBuf>) -> Result<Layer> {
    let path = named.map_or(Path::new(CONFIG_FILE), PathBuf::as_path);
    match fs::read_to_string(path) {
        Ok(text) => Ok(Layer::from_toml(&path.display().to_string(), &text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(Layer::default()),
        Err(e) => Err(e).with_context(|| format!("cannot read the configuration file {}", path.display())),
    }
}

fn check(layers: &[Layer]) -> Result<Config> {
    let config = Config::from_layers(layers).context("the configuration is not usable")?;
    if !config.node_networks.is_empty() {
        // Nothing has to be heard from DNS to know that such a plan cannot hold.
        config.plan(None).context("the configuration is not usable")?;
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_service_is_understood() {
        let text =
            "# made by the image\nCLUSTER_NAME=cncfdemo\n;no\nMINIONET_VNI = \"5\"\nX='two words'\nbroken\n";
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let expected = [("CLUSTER_NAME", "cncfdemo"), ("MINIONET_VNI", "5"), ("X", "two words")];
        assert_eq!(pairs(text), expected.map(pair));
    }
}
