//! The programs of an earlier commit, replacing one by the other, and copies that can be executed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// The variable with the directory of an earlier commit's programs; `make test` sets it.
const PREVIOUS: &str = "MINIONET_PREVIOUS_BIN_DIR";

/// What a package installs.
const PROGRAMS: [&str; 2] = ["minionet", "minionetd"];

/// The directory with the programs of an earlier commit.
///
/// # Errors
/// Says why there is none.
pub fn previous_programs() -> Result<PathBuf, String> {
    let directory = match std::env::var_os(PREVIOUS) {
        Some(directory) if !directory.is_empty() => PathBuf::from(directory),
        _ => {
            return Err(format!(
                "no earlier programs: `make test` sets {PREVIOUS} where git has a commit before"
            ));
        }
    };
    match PROGRAMS.iter().find(|name| !directory.join(name).is_file()) {
        Some(name) => Err(format!("{PREVIOUS}: {} has no {name}", directory.display())),
        None => Ok(directory),
    }
}

/// Copies a program or a script to where it is to be executed.
///
/// By another process: whoever is just being started by another test has, until it is executed, all
/// files open that are open here, and what somebody has open for writing cannot be executed
/// (`ETXTBSY`, execve(2)).
///
/// # Errors
/// When it cannot be copied.
pub fn copy_program(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("install").args(["-m", "755"]).args([from, to]).output();
    let copied = copied.context("execute install(1)")?;
    ensure!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    Ok(())
}

/// The programs as a package installs them: in one place, and replaced under the running ones.
#[derive(Debug)]
pub struct Installed {
    directory: TempDir,
}

impl Installed {
    /// Installs the programs of a directory.
    ///
    /// # Errors
    /// When the place cannot be made.
    pub fn of(programs: &Path) -> Result<Self> {
        let installed = Self { directory: tempfile::tempdir().context("make a directory")? };
        installed.replace(programs)?;
        Ok(installed)
    }

    /// Each program at once, as package managers do it: rename(2).
    ///
    /// # Errors
    /// When a program cannot be replaced.
    pub fn replace(&self, programs: &Path) -> Result<()> {
        for name in PROGRAMS {
            let new = self.directory.path().join(format!("{name}.new"));
            symlink(programs.join(name), &new).with_context(|| format!("link {}", new.display()))?;
            fs::rename(&new, self.directory.path().join(name)).context("replace a program")?;
        }
        Ok(())
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}
