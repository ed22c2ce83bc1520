//! What is generated from the command line and the table of settings: completions, man pages, the
//! reference of the settings.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{ArgMatches, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use minionet_core::config::document;

use crate::{cli, files, output};

/// Section of the manual for commands of the administrator (man(1)).
const SECTION: &str = "8";

/// `minionetd completions`.
///
/// # Errors
/// When standard output cannot be written to.
pub fn completions(matches: &ArgMatches) -> Result<()> {
    let shell = matches.get_one::<Shell>("shell").copied().unwrap_or(Shell::Bash);
    output::write(&completion(shell))
}

/// The completions for a shell.
pub fn completion(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "minionetd", &mut text);
    text
}

/// `minionetd man`.
///
/// # Errors
/// When a page cannot be written.
pub fn man(matches: &ArgMatches) -> Result<()> {
    let dir = matches.get_one::<PathBuf>("dir").map_or(Path::new("."), PathBuf::as_path);
    fs::create_dir_all(dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
    for (name, page) in pages() {
        files::replace_bytes(&dir.join(&name), &page, 0o644)?;
    }
    Ok(())
}

/// `minionetd settings`.
///
/// # Errors
/// When standard output cannot be written to.
pub fn settings(matches: &ArgMatches) -> Result<()> {
    let text = if matches.get_flag("markdown") { document::reference() } else { document::sample() };
    output::write(text.as_bytes())
}

/// The man pages by file name: one for the program and one for each command.
pub fn pages() -> Vec<(String, Vec<u8>)> {
    let program = cli::command();
    let commands: Vec<Command> = program
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| {
            // A page is named minionetd-run and says `minionetd run`.
            let name = command.get_name().to_owned();
            command.clone().name(format!("minionetd-{name}")).bin_name(format!("minionetd {name}"))
        })
        .collect();
    std::iter::once(program).chain(commands).map(page).collect()
}

fn page(command: Command) -> (String, Vec<u8>) {
    let name = format!("{}.{SECTION}", command.get_name());
    let version = format!("minionet {}", env!("CARGO_PKG_VERSION"));
    let mut text = Vec::new();
    let man = Man::new(command).section(SECTION).source(version).manual("minionet");
    // Writing to memory does not fail.
    let _written = man.render(&mut text);
    (name, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let names: Vec<String> = pages().into_iter().map(|(name, _)| name).collect();
        for command in cli::command().get_subcommands() {
            let name = format!("minionetd-{}.8", command.get_name());
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
        let (_, text) = pages().remove(1);
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with(".ie") || text.contains(".TH minionetd-run 8"), "{text}");
    }

    #[test]
    fn completions_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(completion(shell)).unwrap();
            assert!(text.contains("cleanup") && text.contains("cluster-name"), "{shell}");
        }
    }
}
