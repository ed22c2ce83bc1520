//! Where the sockets of held demos are.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, geteuid};

/// What the names of the sockets begin with; the process id follows.
const PREFIX: &str = "netns-testbed-";

/// The name of the socket of a process. To be called outside of the testbed's user namespace, in
/// which everybody is root.
pub(super) fn socket_name(pid: u32) -> String {
    format!("{PREFIX}{}-{pid}.sock", geteuid())
}

/// The directories in which the sockets of this user may be, the best first.
///
/// Root's depends on no variable, as `sudo` drops most.
fn candidates() -> Vec<PathBuf> {
    let user = geteuid();
    let shared = PathBuf::from("/tmp");
    if user.is_root() {
        return vec!["/run".into(), shared];
    }
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    named.into_iter().chain([format!("/run/user/{user}").into(), shared]).collect()
}

/// A directory in which a socket can be made, held open: its path may lead elsewhere later.
pub(super) fn open() -> Option<OwnedFd> {
    let usable = |path: &PathBuf| access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    candidates().iter().filter(|path| usable(path)).find_map(|path| Some(File::open(path).ok()?.into()))
}

/// The sockets of this user, with the process ids in their names.
pub(super) fn sockets() -> Vec<(u32, PathBuf)> {
    let user = geteuid().as_raw();
    let entries = candidates().into_iter().filter_map(|path| fs::read_dir(path).ok()).flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        // Anybody may leave a socket in /tmp.
        .filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.uid() == user))
        .filter_map(|entry| Some((process_of(&entry.path(), user)?, entry.path())))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The process id in the name of a user's socket.
fn process_of(path: &Path, user: u32) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix(&format!("{PREFIX}{user}-"))?.strip_suffix(".sock")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_read_from_the_name_that_was_made_for_it() {
        let user = geteuid().as_raw();
        let path = Path::new("/run").join(socket_name(4711));
        assert_eq!(process_of(&path, user), Some(4711));
        assert_eq!(process_of(&path, user + 1), None);
        assert_eq!(process_of(Path::new("/run/other.sock"), user), None);
    }
}
