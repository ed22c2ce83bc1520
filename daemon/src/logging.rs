//! Log lines: for people, or one JSON object a line.

use std::io::{self, IsTerminal};

use anyhow::{Context, Result};
use minionet_core::config::{Config, LogFormat};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

/// Starts logging to standard error, where systemd's journal picks it up.
///
/// # Errors
/// When the log level is not a filter.
pub fn start(config: &Config) -> Result<()> {
    // The resolver library says the same again and again for every answer that is not signed
    // properly; what came of a lookup is said once, by the membership.
    let filter: Targets = format!("hickory_net=off,hickory_resolver=off,{}", config.log_level)
        .parse()
        .with_context(|| format!("log_level: \"{}\" is not a log level", config.log_level))?;
    let lines = fmt::layer().with_writer(io::stderr).with_target(false);
    let log = Registry::default().with(filter);
    match config.log_format {
        LogFormat::Json => log.with(lines.json().flatten_event(true)).init(),
        // The journal adds the time by itself; a file or a terminal does not.
        LogFormat::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            log.with(lines.without_time().with_ansi(false)).init()
        }
        LogFormat::Text => log.with(lines.with_ansi(io::stderr().is_terminal())).init(),
    }
    Ok(())
}
