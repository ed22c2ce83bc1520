//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::error::{During, Error, Result};

/// Where [`Binaries::locate`] is to look; see [`Binaries::look_in`].
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// The directory that holds the programs under test.
#[derive(Clone, Debug)]
pub struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Finds the programs: in `MINIONET_BIN_DIR`, else where [`Binaries::look_in`] says, else beside
    /// the current program or above it.
    ///
    /// (cargo puts test programs into `deps/`, one level below the binaries.)
    ///
    /// # Errors
    /// [`Error::NoBinary`] that says how to build them.
    pub fn locate() -> Result<Self> {
        let chosen = std::env::var_os("MINIONET_BIN_DIR").map(PathBuf::from);
        let candidates: Vec<PathBuf> = match chosen.or_else(|| CHOSEN.get().cloned()) {
            Some(directory) => vec![directory],
            None => std::env::current_exe()
                .map(|program| program.ancestors().skip(1).take(2).map(Path::to_path_buf).collect())
                .unwrap_or_default(),
        };
        candidates
            .iter()
            .find(|directory| ["minionet", "minionetd"].iter().all(|name| directory.join(name).is_file()))
            .map(|directory| Self { directory: directory.clone() })
            .ok_or_else(|| Error::NoBinary {
                program: "minionet together with minionetd".into(),
                searched: listing(&candidates),
            })
    }

    /// From now on [`Binaries::locate`] looks in this directory; what was said first counts.
    pub fn look_in(directory: PathBuf) {
        CHOSEN.get_or_init(|| directory);
    }

    /// Programs of a given directory, for tests that bring their own stand-ins.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The directory, as for `CNI_PATH`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of the daemon.
    pub fn daemon(&self) -> PathBuf {
        self.directory.join("minionetd")
    }

    /// The path of the CNI plugin.
    pub fn plugin(&self) -> PathBuf {
        self.directory.join("minionet")
    }
}

/// For which target the `plugin` is built as it is shipped, and what runs here, the `host`; see
/// `scripts/target`.
///
/// # Errors
/// When the script cannot be executed, as beside no sources, or fails.
pub fn target(of: &str) -> Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/target");
    let said = Command::new(&script).arg(of).output().during(|| "execute scripts/target")?;
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).trim().to_owned();
    if !said.status.success() {
        let (command, place) = (format!("scripts/target {of}"), "the sources".to_owned());
        return Err(Error::Command { command, place, status: said.status, stderr: text(&said.stderr) });
    }
    Ok(text(&said.stdout))
}

fn listing(directories: &[PathBuf]) -> String {
    directories.iter().map(|directory| directory.display().to_string()).collect::<Vec<_>>().join(", ")
}
