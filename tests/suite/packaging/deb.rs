//! The Debian package: built, looked into, installed, upgraded, removed and purged.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::Binaries;
use tempfile::TempDir;

use super::install::tree;

/// The root of the repository.
const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The only file that an operator is expected to change.
const CONFIG: &str = "etc/minionet/minionet.toml";

pub fn trials() -> Vec<Trial> {
    trials![
        the_package_is_installed_upgraded_and_removed_without_a_trace =>
            [Need::Program("dpkg-deb"), Need::Program("dpkg"), Need::Root],
    ]
}

/// Runs a program and expects success; its standard output comes back.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// A root with nothing but what dpkg needs of it.
struct Machine(TempDir);

impl Machine {
    fn new() -> Result<Self> {
        let root = tempfile::tempdir()?;
        for directory in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log", "etc/systemd/system"] {
            fs::create_dir_all(root.path().join(directory))?;
        }
        fs::write(root.path().join("var/lib/dpkg/status"), "")?;
        fs::write(root.path().join("var/log/dpkg.log"), "")?;
        Ok(Machine(root))
    }

    /// Runs dpkg; scripts of packages run outside of the root, and are told where it is.
    fn dpkg(&self, words: &[&str]) -> Result<String> {
        let root = format!("--root={}", self.0.path().display());
        run(Command::new("dpkg")
            .args([root.as_str(), "--force-script-chrootless", "--force-confold"])
            .args(words))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Everything but dpkg's own records.
    fn files(&self) -> Result<BTreeSet<PathBuf>> {
        let dpkg = self.path("var/lib/dpkg");
        Ok(tree(self.0.path())?.into_keys().filter(|path| !path.starts_with(&dpkg)).collect())
    }
}

fn the_package_is_installed_upgraded_and_removed_without_a_trace() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (root, package) = (scratch.path().join("root"), scratch.path().join("minionet.deb"));
    let programs = Binaries::locate()?.directory().to_owned();
    let mut build = Command::new(format!("{REPOSITORY}/scripts/deb"));
    build.arg(&programs).arg(&package).arg("none").env("MINIONET_PACKAGE_ROOT", &root);
    run(&mut build)?;
    let package = package.display().to_string();
    expect_metadata(&root)?;
    let fields = run(Command::new("dpkg-deb").args(["--field", &package, "Package", "Version", "Depends"]))?;
    ensure!(fields == "Package: minionet\nVersion: 0.1.0\n", "{fields}");
    let contents = run(Command::new("dpkg-deb").args(["--contents", &package]))?;
    ensure!(contents.lines().all(|line| line.contains(" root/root ")), "{contents}");

    let machine = Machine::new()?;
    let before = machine.files()?;
    machine.dpkg(&["--install", &package])?;
    ensure!(machine.dpkg(&["--status", "minionet"])?.contains("Status: install ok installed"));
    let unit = fs::read_to_string(machine.path("usr/lib/systemd/system/minionetd.service"))?;
    ensure!(unit.contains("\nExecStart=/usr/bin/minionetd run\n"), "{unit}");
    let wants = machine.path("etc/systemd/system/multi-user.target.wants/minionetd.service");
    let target = fs::read_link(&wants).context("the service is not enabled")?;
    ensure!(target.ends_with("lib/systemd/system/minionetd.service"), "{}", target.display());
    let version = run(Command::new(machine.path("usr/bin/minionetd")).arg("--version"))?;
    ensure!(version == "minionetd 0.1.0\n", "{version}");
    // An upgrade keeps what the operator wrote, and whether the service is enabled.
    fs::write(machine.path(CONFIG), "vni = 7\n")?;
    fs::remove_file(&wants)?;
    machine.dpkg(&["--install", &package])?;
    ensure!(fs::read_to_string(machine.path(CONFIG))? == "vni = 7\n");
    ensure!(!wants.exists(), "an upgrade enabled what the operator had disabled");
    // Removed, but for the configuration; purged, with all that the daemon remembered.
    fs::write(machine.path("etc/cni/net.d/10-minionet.conflist"), "{}\n")?;
    fs::create_dir_all(machine.path("var/lib/minionet"))?;
    fs::write(machine.path("var/lib/minionet/node.json"), "{}\n")?;
    machine.dpkg(&["--remove", "minionet"])?;
    ensure!(machine.path(CONFIG).is_file() && !machine.path("opt").exists());
    ensure!(!machine.path("etc/cni").exists(), "the list of a network without a plugin is left");
    machine.dpkg(&["--purge", "minionet"])?;
    // What deb-systemd-helper keeps of its own is no package's.
    let helper = machine.path("var/lib/systemd");
    let after: BTreeSet<PathBuf> =
        machine.files()?.into_iter().filter(|path| !path.starts_with(&helper)).collect();
    ensure!(after == before, "{:?}", after.symmetric_difference(&before));
    Ok(())
}

/// The metadata for cargo-deb name every file that the package has, and the same configuration.
fn expect_metadata(root: &Path) -> Result<()> {
    let manifest: toml::Table = fs::read_to_string(format!("{REPOSITORY}/daemon/Cargo.toml"))?.parse()?;
    let deb = &manifest["package"]["metadata"]["deb"];
    let conffiles = fs::read_to_string(format!("{REPOSITORY}/packaging/debian/conffiles"))?;
    let named: Vec<&str> =
        deb["conf-files"].as_array().into_iter().flatten().filter_map(|v| v.as_str()).collect();
    ensure!(named == conffiles.lines().collect::<Vec<_>>(), "{named:?}");
    let sources: Vec<&str> =
        deb["assets"].as_array().into_iter().flatten().filter_map(|asset| asset[0].as_str()).collect();
    for path in tree(root)?.into_keys().filter(|path| path.is_file()) {
        let relative = format!("../target/package/{}", path.strip_prefix(root)?.display());
        let covered = |source: &&str| match source.strip_suffix("**/*") {
            Some(directory) => relative.starts_with(directory),
            None => relative == **source,
        };
        ensure!(sources.iter().any(covered), "no asset is {relative}");
    }
    Ok(())
}
