//! Gathers the configuration from where it lies.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ArgMatches;
use minionet_core::config::{Config, Layer};
use minionet_core::constants::CONFIG_FILE;

use crate::cli;

/// Reads flags, environment and file, and checks all of it.
///
/// # Errors
/// Everything that is wrong, each with its place; or a file that was named and cannot be read.
pub fn gather(matches: &ArgMatches) -> Result<Config> {
    let named = matches.get_one::<PathBuf>("config");
    let path = named.map_or(Path::new(CONFIG_FILE), PathBuf::as_path);
    let file = match fs::read_to_string(path) {
        Ok(text) => Layer::from_toml(&path.display().to_string(), &text),
        // Only the default file may be missing.
        Err(e) if e.kind() == io::ErrorKind::NotFound && named.is_none() => Layer::default(),
        Err(e) => {
            return Err(e).with_context(|| format!("cannot read the configuration file {}", path.display()));
        }
    };
    let environment = Layer::from_env(std::env::vars_os().filter_map(|(name, value)| {
        // A name or value that is no text cannot be a setting.
        Some((name.into_string().ok()?, value.into_string().ok()?))
    }));
    let config = Config::from_layers(&[cli::flags(matches), environment, file]);
    let config = config.context("the configuration is not usable")?;
    if !config.node_networks.is_empty() {
        // Nothing has to be heard from DNS to know that such a plan cannot hold.
        config.plan(None).context("the configuration is not usable")?;
    }
    Ok(config)
}
