//! The disk of this host, or of an image: looked at, and changed step by step.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use minionet_core::install::{Disk, Found, Step, parents};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::payload::{Payload, digest};
use crate::files;

/// A root directory. Links inside are followed as if it were the only one, so that an image's
/// absolute links never lead to the host's files.
pub struct Root {
    path: PathBuf,
    open: File,
}

impl Root {
    /// Opens a root.
    ///
    /// # Errors
    /// When it is no directory, or may not be read.
    pub fn open(path: &Path) -> Result<Self> {
        let open = File::open(path).with_context(|| format!("cannot open the root {}", path.display()))?;
        if !open.metadata().is_ok_and(|m| m.is_dir()) {
            bail!("the root {} is not a directory", path.display());
        }
        Ok(Root { path: path.to_owned(), open })
    }

    /// Whether it is this host's own.
    pub fn is_host(&self) -> bool {
        self.path == Path::new("/")
    }

    /// What is at these paths, and at the directories above them.
    ///
    /// # Errors
    /// When something is there and cannot be read.
    pub fn observe<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Result<Disk> {
        let mut disk = Disk::new();
        let mut halves = BTreeSet::new();
        for path in paths {
            halves.extend(path.rsplit_once('/').map(|(_, name)| temporary(name)));
            for parent in parents(path) {
                if !disk.contains_key(&parent) {
                    let found = self.look(&parent, true);
                    disk.insert(parent.clone(), found.with_context(|| format!("cannot read {parent}"))?);
                }
            }
            let found = self.look(path, false).with_context(|| format!("cannot read {path}"))?;
            disk.insert(path.to_owned(), found);
        }
        // What an attempt left that was killed while it wrote is ours, and in nobody's way.
        for found in disk.values_mut() {
            if let Found::Directory(entries) = found {
                entries.retain(|entry| !halves.contains(entry));
            }
        }
        Ok(disk)
    }

    fn look(&self, path: &str, follow: bool) -> io::Result<Found> {
        let real = match self.resolve(path, follow) {
            Ok(real) => real,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Found::Nothing);
            }
            Err(e) => return Err(e),
        };
        let metadata = match fs::symlink_metadata(&real) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            other => other?,
        };
        let kind = metadata.file_type();
        Ok(if kind.is_dir() {
            let names = fs::read_dir(&real)?.map(|entry| Ok(entry?.file_name()));
            let names: io::Result<Vec<_>> = names.collect();
            Found::Directory(names?.iter().map(|name| name.to_string_lossy().into_owned()).collect())
        } else if kind.is_file() {
            Found::File { digest: digest(&fs::read(&real)?), mode: metadata.permissions().mode() & 0o7777 }
        } else if kind.is_symlink() {
            Found::Link { target: fs::read_link(&real)?.to_string_lossy().into_owned() }
        } else {
            Found::Other
        })
    }

    /// The content of a file, or nothing where there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let read = || match self.resolve(path, true) {
            Ok(real) => fs::read(real).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        };
        read().with_context(|| format!("cannot read {path}"))
    }

    /// Takes one step; what is to be written is among the payloads.
    ///
    /// # Errors
    /// When the system refuses; the steps before it stay done.
    pub fn take(&self, step: &Step, payloads: &[Payload]) -> Result<()> {
        let path = step.path();
        let real = self.resolve(path, false).with_context(|| format!("cannot reach {path}"))?;
        let payload = payloads.iter().find(|payload| payload.item.path == path);
        let content = || payload.map(|p| p.bytes.as_slice()).unwrap_or_default();
        let failed = || format!("cannot {step}");
        match step {
            Step::MakeDirectory(_) => {
                match fs::create_dir(&real) {
                    // With the manifest, which comes first.
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists && real.is_dir() => {}
                    other => other.with_context(failed)?,
                }
                fs::set_permissions(&real, Permissions::from_mode(0o755)).with_context(failed)?;
            }
            Step::Write(_) | Step::Replace(_) => {
                let mode = payload.map_or(0o644, Payload::mode);
                files::replace_bytes(&real, content(), mode)?;
            }
            Step::SetMode(_, mode) => {
                fs::set_permissions(&real, Permissions::from_mode(*mode)).with_context(failed)?;
            }
            Step::Link { target, .. } => link(&real, target).with_context(failed)?,
            Step::Remove(_) => fs::remove_file(&real).with_context(failed)?,
            Step::RemoveDirectory(_) => remove_directory(&real).with_context(failed)?,
            Step::Keep(_) => {}
        }
        Ok(())
    }

    /// Writes a file as a whole, with the directories above it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let missing = |dir: &String| matches!(self.look(dir, true), Ok(Found::Nothing));
        for dir in parents(path).into_iter().filter(missing).collect::<BTreeSet<_>>() {
            self.take(&Step::MakeDirectory(dir), &[])?;
        }
        let real = self.resolve(path, false).with_context(|| format!("cannot reach {path}"))?;
        files::replace(&real, text, 0o644).map(drop)
    }

    /// Where a path of this root is for the host: all directories resolved inside the root, and
    /// what the last part leads to only where it is to be followed.
    fn resolve(&self, path: &str, follow: bool) -> io::Result<PathBuf> {
        let (dir, name) = match path.rsplit_once('/') {
            Some((dir, name)) if !follow => (dir, name),
            _ => (path, ""),
        };
        let dir = if dir.is_empty() { "/" } else { dir };
        if self.is_host() {
            // Needs no openat2(2), which kernels before 5.6 do not have.
            let real = fs::canonicalize(dir)?;
            return Ok(if name.is_empty() { real } else { real.join(name) });
        }
        let how =
            OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        let found = openat2(&self.open, dir, how)?;
        let real = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
        Ok(if name.is_empty() { real } else { real.join(name) })
    }
}

/// The name under which a file is written before it gets its own.
fn temporary(name: &str) -> String {
    format!(".{name}.new")
}

/// Removes a directory that holds nothing any more but what was never finished.
fn remove_directory(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') && name.ends_with(".new") {
            fs::remove_file(path.join(name))?;
        }
    }
    fs::remove_dir(path)
}

/// Makes a symbolic link, in the place of another if there is one, in one instant.
fn link(path: &Path, target: &str) -> io::Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = path.with_file_name(temporary(&name));
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    symlink(target, &temporary)?;
    fs::rename(&temporary, path)
}
