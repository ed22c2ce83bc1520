//! The commands of the documentation: found, and executed as they stand.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use minionet_tests::systemd::Systemd;
use netns_testbed::{Node, eventually};

use super::LONG;

/// The root of the repository.
const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// How a command ends that is not executed; the reason follows.
const NOT_EXECUTED: &str = "  # not executed: ";

/// What may stand in a block that is no command.
const OTHER_BLOCKS: [&str; 4] = ["text", "json", "ini", "yaml"];

/// Where an operator's shell looks for programs.
const SEARCH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an operator looks at again while the probe has yet to hear of all peers.
const LOOKS: [&str; 3] = ["minionetd status", "minionetd doctor", "minionetd trace"];

/// A line of a block of commands.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// The headings above it, from the document's own to the nearest.
    pub section: String,
    /// The line, with its comment.
    pub line: String,
    /// Why it is not executed, if it is not.
    pub reason: Option<String>,
}

/// The documents that may hold commands, by their paths in the repository.
///
/// `BENCHMARKS.md` is not among them: the benchmark prints most of it.
pub fn documents() -> Result<Vec<String>> {
    let mut names: Vec<String> =
        ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md", "packaging/README.md"]
            .map(str::to_owned)
            .into();
    for entry in fs::read_dir(Path::new(REPOSITORY).join("docs"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".md") {
            names.push(format!("docs/{name}"));
        }
    }
    Ok(names)
}

/// The text of a document.
pub fn read(name: &str) -> Result<String> {
    fs::read_to_string(PathBuf::from(REPOSITORY).join(name)).with_context(|| name.to_owned())
}

/// The commands of a document; blocks that might hide one are errors.
pub fn parse(text: &str) -> Result<Vec<Command>> {
    let mut commands = Vec::new();
    let (mut block, mut section, mut before) = (None, String::new(), "");
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim();
        match (block, trimmed.strip_prefix("```")) {
            (None, Some(info)) => {
                let kind = match info.split_once(' ') {
                    // A program as a whole, which one of ours takes out of the document and executes.
                    Some(("sh", name)) => {
                        ensure!(is_tried(info)?, "line {number}: no script tries {name}");
                        "text"
                    }
                    Some((kind, _)) => kind,
                    None => info,
                };
                ensure!(kind == "sh" || OTHER_BLOCKS.contains(&kind), "line {number}: a block of {info:?}");
                // Renewed as a whole by a script, so what looks like a command there was one.
                let screen = before.starts_with("<!-- begin ");
                block = Some((kind, screen));
            }
            (Some(_), Some("")) => block = None,
            (Some(("sh", _)), None) if !trimmed.is_empty() => {
                let reason = trimmed.split_once(NOT_EXECUTED).map(|(_, reason)| reason.to_owned());
                ensure!(
                    reason.as_ref().is_none_or(|r| r.contains(' ')),
                    "line {number}: say why it is not executed"
                );
                ensure!(!trimmed.ends_with('\\'), "line {number}: a command is one line");
                commands.push(Command { section: section.clone(), line: trimmed.to_owned(), reason });
            }
            (Some((_, false)), None) => {
                ensure!(!trimmed.starts_with("$ "), "line {number}: a command in a block of something else");
            }
            (None, None) => {
                if let Some(heading) = line.strip_prefix('#') {
                    heading.trim_start_matches('#').trim().clone_into(&mut section);
                }
                let indented = line.starts_with("    ") && before.is_empty();
                ensure!(!indented, "line {number}: put what is indented into a block with its kind");
            }
            _ => {}
        }
        before = trimmed;
    }
    ensure!(block.is_none(), "a block does not end");
    Ok(commands)
}

/// Whether one of the scripts of the repository looks for a block with this title.
fn is_tried(title: &str) -> Result<bool> {
    for entry in fs::read_dir(Path::new(REPOSITORY).join("scripts"))? {
        if fs::read_to_string(entry?.path())?.contains(&format!("```{title}")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Somebody who follows a document, section by section.
pub struct Reader {
    name: &'static str,
    left: Vec<Command>,
}

impl Reader {
    /// Opens a document.
    pub fn of(name: &'static str) -> Result<Self> {
        let mut left = parse(&read(name)?).context(name)?;
        left.retain(|command| command.reason.is_none());
        Ok(Reader { name, left })
    }

    /// Executes all commands of a section, in a shell of root in the directory of the programs.
    pub fn follow(&mut self, section: &str, node: &Node, systemd: &Systemd) -> Result<()> {
        let (now, left): (Vec<_>, Vec<_>) = self.left.drain(..).partition(|c| c.section == section);
        self.left = left;
        ensure!(!now.is_empty(), "{} has no commands in the section {section}", self.name);
        for Command { line, .. } in now {
            let run = || shell(node, systemd, &line);
            let done = match LOOKS.iter().any(|look| line.starts_with(look)) {
                true => eventually(&line, LONG, run).map(drop).map_err(anyhow::Error::from),
                false => run().map(drop),
            };
            done.with_context(|| format!("{}, {section}: {line}; the log: {}", self.name, log(node)))?;
        }
        Ok(())
    }

    /// Says that the document is read.
    ///
    /// # Errors
    /// When a command is neither executed nor marked.
    pub fn close(self) -> Result<()> {
        match self.left.first() {
            None => Ok(()),
            Some(command) => bail!("{}: nobody executes {command:?}", self.name),
        }
    }
}

/// Runs a line as in a shell that somebody has just logged in to, beside systemd.
pub fn shell(node: &Node, systemd: &Systemd, line: &str) -> Result<String> {
    let script = format!("cd {} && {line}", node.programs().display());
    systemd.exec(["env", "-i", SEARCH, "sh", "-c", &script])
}

fn log(node: &Node) -> String {
    node.log().unwrap_or_default()
}
