//! The programs that are measured, all built as they are shipped.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use netns_testbed::{Binaries, target};
use nix::mount::{MsFlags, mount};

/// Debian's directory of the reference CNI plugins (package containernetworking-plugins).
pub const REFERENCE: &str = "/usr/lib/cni";

/// Where the programs are put, so that all run from memory. Mounted in the bench's own namespace.
const PLACE: &str = "/mnt";

/// The profile of what is linked as the plugin, and for its target.
const PLUGIN: &str = "plugin";

/// Ours, each in the profile in which it is shipped, and the floors.
const OURS: [(&str, &str); 4] =
    [("release", "minionetd"), (PLUGIN, "minionet"), (PLUGIN, "minionet-floor"), (PLUGIN, "minionet-empty")];

/// The programs, in one directory.
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Finds what was built beside this program: `make bench` builds it all.
    ///
    /// # Errors
    /// When this program itself was built without optimisation, or another is not there: a figure
    /// of anything else than what is shipped would say nothing.
    pub fn locate() -> Result<[PathBuf; OURS.len()]> {
        ensure!(
            !cfg!(debug_assertions),
            "this is a debug build, whose figures would say nothing: make bench builds what is to be measured"
        );
        let own = std::env::current_exe().context("find the path of this program")?;
        // target/<triple>/release/minionet-bench
        let here = own.ancestors().nth(2).unwrap_or(Path::new("/"));
        let there = here.with_file_name(target("plugin")?);
        let paths = OURS.map(|(profile, name)| {
            let built = if profile == PLUGIN { &there } else { here };
            built.join(profile).join(name)
        });
        for path in &paths {
            ensure!(path.is_file(), "{} is not there: make bench builds it", path.display());
        }
        Ok(paths)
    }

    /// Puts them into memory. To be called in a mount namespace of one's own.
    pub fn place(paths: &[PathBuf]) -> Result<Self> {
        mount(Some("tmpfs"), PLACE, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .with_context(|| format!("mount a file system in memory at {PLACE}"))?;
        for path in paths {
            let name = path.file_name().unwrap_or_default();
            fs::copy(path, Path::new(PLACE).join(name))
                .with_context(|| format!("copy {} to {PLACE}", path.display()))?;
        }
        Ok(Programs { directory: PLACE.into() })
    }

    /// For the testbed.
    pub fn binaries(&self) -> Binaries {
        Binaries::in_directory(&self.directory)
    }

    /// One of them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Whether the programs of others are there, by name and the package that has them.
pub fn require(needs: &[(&str, &str)]) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    directories.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let missing: Vec<&str> = needs
        .iter()
        .filter(|(name, _)| !directories.iter().any(|directory| directory.join(name).is_file()))
        .map(|(_, package)| *package)
        .collect();
    ensure!(missing.is_empty(), "not installed: {} (the names of Debian's packages)", missing.join(", "));
    Ok(())
}
