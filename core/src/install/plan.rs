//! What has to be done so that the disk holds what it should.

use std::collections::BTreeSet;

use thiserror::Error;

use super::{Content, Disk, Found, Item, Manifest, Policy, Recorded, Step, parents};

/// What is to be done, and what is to be remembered of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The steps in their order.
    pub steps: Vec<Step>,
    /// What is to be remembered, before the first step is taken.
    pub manifest: Manifest,
    /// How many items are as they should be already.
    pub unchanged: usize,
}

/// A path at which something is that will not be replaced.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{path} is {is} where {should} has to be: move it away")]
pub struct Conflict {
    /// The path.
    pub path: String,
    is: &'static str,
    should: &'static str,
}

/// Compares what should be there with what is there. With `force`, files that somebody changed
/// are replaced as well.
///
/// # Errors
/// Every [`Conflict`]; nothing can be done before they are out of the way.
pub fn plan(
    items: &[Item],
    disk: &Disk,
    last: Option<&Manifest>,
    version: &str,
    force: bool,
) -> Result<Plan, Vec<Conflict>> {
    let mut planner = Planner {
        disk,
        last,
        force,
        steps: Vec::new(),
        conflicts: Vec::new(),
        manifest: Manifest::new(version),
        made: BTreeSet::new(),
        unchanged: 0,
    };
    planner.manifest.directories = last.map(|m| m.directories.clone()).unwrap_or_default();
    for item in items {
        for parent in parents(&item.path) {
            planner.directory(&parent);
        }
        planner.item(item);
    }
    planner.obsolete(items);
    if !planner.conflicts.is_empty() {
        return Err(planner.conflicts);
    }
    Ok(Plan { steps: planner.steps, manifest: planner.manifest, unchanged: planner.unchanged })
}

struct Planner<'a> {
    disk: &'a Disk,
    last: Option<&'a Manifest>,
    force: bool,
    steps: Vec<Step>,
    conflicts: Vec<Conflict>,
    manifest: Manifest,
    /// Directories that are looked after already.
    made: BTreeSet<String>,
    unchanged: usize,
}

impl Planner<'_> {
    fn found(&self, path: &str) -> &Found {
        self.disk.get(path).unwrap_or(&Found::Nothing)
    }

    fn recorded(&self, path: &str) -> Option<&Recorded> {
        self.last?.files.get(path)
    }

    fn directory(&mut self, path: &str) {
        if !self.made.insert(path.to_owned()) {
            return;
        }
        match self.found(path) {
            Found::Nothing => {
                self.steps.push(Step::MakeDirectory(path.to_owned()));
                self.manifest.directories.insert(path.to_owned());
            }
            // Links to directories were followed: one that is left leads nowhere.
            Found::Directory(_) => {}
            other => self.conflict(path, other.clone(), "a directory"),
        }
    }

    fn item(&mut self, item: &Item) {
        let path = &item.path;
        let found = self.found(path).clone();
        match &item.content {
            Content::Directory => return self.directory(path),
            Content::Later => {}
            Content::File { digest, mode, policy } => match &found {
                Found::Nothing => self.steps.push(Step::Write(path.clone())),
                Found::File { digest: now, mode: has } if now == digest => {
                    if has == mode {
                        self.unchanged += 1;
                    } else {
                        self.steps.push(Step::SetMode(path.clone(), *mode));
                    }
                }
                Found::File { .. } if self.may_replace(path, *policy, &found) => {
                    self.steps.push(Step::Replace(path.clone()));
                }
                Found::File { .. } => return self.keep(path),
                // What a package manager or a person linked is replaced for a program only.
                Found::Link { .. } if *policy == Policy::Replace || self.force => {
                    self.steps.push(Step::Replace(path.clone()));
                }
                Found::Link { .. } => return self.keep(path),
                other => return self.conflict(path, other.clone(), "a file"),
            },
            Content::Link { target } => match &found {
                Found::Link { target: now } if now == target => self.unchanged += 1,
                Found::Nothing => {
                    self.steps.push(Step::Link { path: path.clone(), target: target.clone() });
                }
                Found::Link { .. } if self.may_replace(path, Policy::Respect, &found) => {
                    self.steps.push(Step::Link { path: path.clone(), target: target.clone() });
                }
                Found::Link { .. } => return self.keep(path),
                other => return self.conflict(path, other.clone(), "a symbolic link"),
            },
        }
        self.manifest.files.extend(Recorded::of(&item.content).map(|recorded| (path.clone(), recorded)));
    }

    fn may_replace(&self, path: &str, policy: Policy, found: &Found) -> bool {
        policy == Policy::Replace || self.force || self.recorded(path).is_some_and(|r| r.is_ours(found))
    }

    /// What is kept is remembered as it was installed, if it ever was.
    fn keep(&mut self, path: &str) {
        self.steps.push(Step::Keep(path.to_owned()));
        let recorded = self.recorded(path).cloned();
        self.manifest.files.extend(recorded.map(|recorded| (path.to_owned(), recorded)));
    }

    /// What an earlier version installed and this one does not.
    fn obsolete(&mut self, items: &[Item]) {
        let wanted: BTreeSet<&str> = items.iter().map(|item| item.path.as_str()).collect();
        let last = self.last.into_iter().flat_map(|manifest| &manifest.files);
        for (path, recorded) in last.filter(|(path, _)| !wanted.contains(path.as_str())) {
            match self.found(path) {
                Found::Nothing => {}
                found if recorded.is_ours(found) || self.force => {
                    self.steps.push(Step::Remove(path.clone()));
                }
                _ => self.keep(path),
            }
        }
    }

    fn conflict(&mut self, path: &str, found: Found, should: &'static str) {
        let is = match found {
            Found::Directory(_) => "a directory",
            Found::File { .. } => "a file",
            Found::Link { .. } => "a symbolic link",
            Found::Nothing | Found::Other => "neither a file nor a directory",
        };
        self.conflicts.push(Conflict { path: path.to_owned(), is, should });
    }
}
