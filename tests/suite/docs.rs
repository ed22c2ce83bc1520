//! What the documentation says about tests: that they exist, and show every row of its tables.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};

/// The documents that name tests, and whether each row of their tables has to.
const DOCUMENTS: [(&str, bool); 2] = [("docs/failure-modes.md", true), ("docs/cni.md", false)];

/// Tests of other crates are named by the command that runs them: this, a crate and a function.
const COMMAND: &str = "cargo test -p minionet-";

pub fn trials(others: &[Trial]) -> Vec<Trial> {
    let names: Vec<String> = others.iter().map(|trial| trial.name().to_owned()).collect();
    let test = move || match every_test_that_is_named_exists(&names) {
        Ok(()) => Ok(()),
        Err(error) => Err(Failed::from(format!("{error:#}"))),
    };
    vec![Trial::test("docs::every_test_that_is_named_exists", test)]
}

fn every_test_that_is_named_exists(names: &[String]) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the directory of the workspace")?;
    let mut wrong = Vec::new();
    for (document, each_row) in DOCUMENTS {
        let text = fs::read_to_string(root.join(document)).with_context(|| format!("read {document}"))?;
        let mut named = 0;
        for (number, line) in (1..).zip(text.lines()) {
            let tests: Vec<&str> = code(line).filter(|code| is_test(code)).collect();
            named += tests.len();
            for test in &tests {
                if !exists(root, names, test)? {
                    wrong.push(format!("{document}:{number}: there is no test {test}"));
                }
            }
            if each_row && is_row(&text, number) && tests.is_empty() {
                wrong.push(format!("{document}:{number}: no test shows it: {line}"));
            }
        }
        ensure!(named > 20, "{document} names {named} tests: is it read rightly?");
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// What stands between backquotes in a line.
fn code(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether it can only be the name of a test or of a group of tests.
fn is_test(code: &str) -> bool {
    let path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':';
    code.starts_with(COMMAND) || (code.contains("::") && code.chars().all(path))
}

/// Whether a line, counted from 1, is a row of a table, and not its head.
fn is_row(text: &str, number: usize) -> bool {
    let line = |number: usize| text.lines().nth(number - 1).unwrap_or_default();
    let rule = |number: usize| line(number).starts_with("|---");
    line(number).starts_with('|') && !rule(number) && !rule(number + 1)
}

fn exists(root: &Path, names: &[String], test: &str) -> Result<bool> {
    if let Some(command) = test.strip_prefix(COMMAND) {
        let (package, function) = command.split_once(' ').context("a package and a function")?;
        return defines(&root.join(package), &format!("fn {function}("));
    }
    let group = format!("{test}::");
    Ok(names.iter().any(|name| name == test || name.starts_with(&group)))
}

/// Whether a source file below a directory has this text.
fn defines(directory: &Path, text: &str) -> Result<bool> {
    let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    for path in paths {
        let found = if path.is_dir() {
            defines(&path, text)?
        } else {
            path.extension().is_some_and(|kind| kind == "rs") && fs::read_to_string(&path)?.contains(text)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}
