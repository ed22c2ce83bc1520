//! What is left on the machine after a runtime: nothing.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::bed::Bed;

/// Dropping a runtime with a running pod removes all of it.
pub fn nothing_is_left_behind() -> Result<()> {
    let bed = Bed::new()?;
    bed.run("web")?;
    let name = bed.runtime.cgroup().to_owned();
    let directory = bed.runtime.directory().to_owned();
    ensure!(!traces(&name)?.is_empty(), "the search for traces finds no running runtime");
    drop(bed);
    let left = traces(&name)?;
    ensure!(left.is_empty(), "{left:#?}");
    ensure!(!directory.exists(), "{} is left", directory.display());
    Ok(())
}

/// A start removes what a killed test could not.
pub fn next_test_removes_the_rest() -> Result<()> {
    // As after a kill of everything at once: a cgroup that nobody holds, and its directory.
    let directory = tempfile::Builder::new().prefix("minionet-cri-").tempdir()?.keep();
    let name = directory.file_name().context("a temporary directory without a name")?;
    let hierarchies = cgroup_hierarchies()?;
    ensure!(!hierarchies.is_empty(), "no hierarchy of control groups is mounted");
    // As supervisors do, so that none of another test sweeps what is half made.
    let locks: Vec<File> = hierarchies.iter().map(File::open).collect::<Result<_, _>>()?;
    locks.iter().try_for_each(File::lock)?;
    for hierarchy in &hierarchies {
        fs::create_dir(hierarchy.join(name))?;
        fs::create_dir(hierarchy.join(name).join("pod"))?;
    }
    drop(locks);
    Bed::new()?.runtime.stop()?;
    for left in hierarchies.iter().map(|hierarchy| hierarchy.join(name)).chain([directory.clone()]) {
        ensure!(!left.exists(), "{} is left", left.display());
    }
    Ok(())
}

/// The mounted hierarchies of control groups in use: those of version 1, or that of version 2.
fn cgroup_hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let of = |kind: &str| -> Vec<PathBuf> {
        let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        fields.filter(|line| line[2] == kind).map(|line| PathBuf::from(line[1])).collect()
    };
    let first = of("cgroup");
    Ok(if first.is_empty() { of("cgroup2") } else { first })
}

/// Mounts, cgroups and processes that carry the name of a runtime.
fn traces(name: &str) -> Result<Vec<String>> {
    let mut found: Vec<String> = fs::read_to_string("/proc/self/mounts")?
        .lines()
        .filter(|line| line.contains(name))
        .map(str::to_owned)
        .collect();
    for hierarchy in cgroup_hierarchies()? {
        let cgroup = hierarchy.join(name);
        if cgroup.exists() {
            found.push(cgroup.display().to_string());
        }
    }
    for process in fs::read_dir("/proc")? {
        // A process may end while it is looked at.
        let command = fs::read(process?.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        if command.contains(name) {
            found.push(command.replace('\0', " "));
        }
    }
    Ok(found)
}
