//! What has to be done so that the disk holds nothing that was installed.

use std::collections::BTreeSet;

use super::{Disk, Found, Manifest, Recorded, Step, parents};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The steps in their order.
    pub steps: Vec<Step>,
    /// Whether everything goes; otherwise the manifest has to stay for another attempt.
    pub complete: bool,
}

/// Removes what the manifest tells of. A file that was changed since is kept, unless `force`.
/// `last` are paths that are removed after all others but the directories above them: the manifest
/// itself, so that a removal that is killed can be taken up again.
pub fn remove(manifest: &Manifest, disk: &Disk, last: &[&str], force: bool) -> Removal {
    let mut steps = Vec::new();
    let mut gone = BTreeSet::new();
    let mut complete = true;
    for (path, recorded) in &manifest.files {
        let found = disk.get(path).unwrap_or(&Found::Nothing);
        match found {
            Found::Nothing => {}
            found if recorded.is_ours(found) || (force && is_like(recorded, found)) => {
                steps.push(Step::Remove(path.clone()));
                gone.insert(path.clone());
            }
            _ => {
                steps.push(Step::Keep(path.clone()));
                complete = false;
            }
        }
    }
    // The deepest come first, as their paths are the longer ones. What stands above the last paths
    // waits for them: once they are gone, nobody remembers what else was to go.
    let (above, elsewhere): (Vec<_>, Vec<_>) = manifest
        .directories
        .iter()
        .rev()
        .partition(|directory| last.iter().any(|path| parents(path).contains(directory)));
    remove_directories(&elsewhere, disk, &mut gone, &mut steps);
    if complete {
        for path in last.iter().filter(|path| !matches!(disk.get(**path), None | Some(Found::Nothing))) {
            steps.push(Step::Remove((*path).to_owned()));
            gone.insert((*path).to_owned());
        }
    }
    remove_directories(&above, disk, &mut gone, &mut steps);
    Removal { steps, complete }
}

/// Removes those of the directories that hold nothing but what is gone by then.
fn remove_directories(
    directories: &[&String],
    disk: &Disk,
    gone: &mut BTreeSet<String>,
    steps: &mut Vec<Step>,
) {
    for directory in directories {
        let Some(Found::Directory(entries)) = disk.get(*directory) else { continue };
        if entries.iter().all(|entry| gone.contains(&format!("{directory}/{entry}"))) {
            steps.push(Step::RemoveDirectory((*directory).clone()));
            gone.insert((*directory).clone());
        }
    }
}

/// Whether something can be removed as what it was: never a directory or a device.
fn is_like(recorded: &Recorded, found: &Found) -> bool {
    let is_file = matches!(found, Found::File { .. } | Found::Link { .. });
    is_file && matches!(recorded, Recorded::File { .. } | Recorded::Program { .. } | Recorded::Link { .. })
}
