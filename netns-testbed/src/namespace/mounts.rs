//! The file system of a host: the machine's programs, and state of its own.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::mount::{MsFlags, mount};

/// Directories that start empty on each host.
const OWN: [&str; 4] = ["/etc", "/run", "/var/lib", "/var/log"];

/// What programs need from the machine's `/etc`; the rest is the host's own.
const KEPT: [&str; 7] =
    ["alternatives", "ld.so.cache", "iproute2", "passwd", "group", "protocols", "services"];

/// Gives the calling thread's mount namespace the directories of a host.
pub(super) fn furnish() -> io::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let kept: Vec<(&str, File)> = KEPT
        .into_iter()
        .filter_map(|name| Some((name, File::open(Path::new("/etc").join(name)).ok()?)))
        .collect();
    for directory in OWN {
        mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    }
    for (name, file) in kept {
        let target = Path::new("/etc").join(name);
        if file.metadata()?.is_dir() {
            fs::create_dir(&target)?;
        } else {
            File::create_new(&target)?;
        }
        // Reached through the descriptor: its path now leads into the new, empty directory.
        let source = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
        mount(Some(source.as_str()), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    }
    fs::write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")?;
    fs::write("/etc/nsswitch.conf", "hosts: files dns\n")?;
    fs::create_dir_all("/run/netns")?;
    // Shows the network namespace this thread is in; useful to a person, needed by nothing here.
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>);
    Ok(())
}
