//! Files that are replaced as a whole, or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};

/// Replaces a file so that every reader, also after a loss of power, sees the old or the new
/// content: written beside it, synced, renamed, and the directory synced. Does nothing when
/// the content is there already; says whether it wrote.
///
/// # Errors
/// With the path, when any of these steps fails.
pub fn replace(path: &Path, content: &str, mode: u32) -> Result<bool> {
    replace_bytes(path, content.as_bytes(), mode)
}

/// As [`replace`], for what is no text.
///
/// # Errors
/// As [`replace`].
pub fn replace_bytes(path: &Path, content: &[u8], mode: u32) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    write(path, content, mode).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().and_then(|n| n.to_str());
    let (Some(dir), Some(name)) = (path.parent(), name) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file"));
    };
    fs::create_dir_all(dir)?;
    // A leading dot and an unknown ending: readers of the directory pass it over. The name is
    // the same each time, so that whatever a crash leaves is overwritten by the next attempt.
    let temporary = dir.join(format!(".{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    // Whatever the umask, and whatever a crash left: who is to read it must be able to.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_when_it_differs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/file.json");
        assert!(replace(&path, "one", 0o644).unwrap());
        assert!(!replace(&path, "one", 0o644).unwrap());
        assert!(replace(&path, "two", 0o644).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_a_crash_left_does_not_hinder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(dir.path().join(".file.new"), "half of some").unwrap();
        replace(&path, "whole", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
    }

    #[test]
    fn an_error_names_the_path() {
        let error = format!("{:#}", replace(Path::new("/proc/nowhere/file"), "x", 0o644).unwrap_err());
        assert!(error.contains("cannot write /proc/nowhere/file: "), "{error}");
    }
}
