//! Which namespaces the kernel lets this process create, found by trying it in a child.

use std::fs;
use std::io;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{getegid, geteuid};

use super::{EnterError, fork, step};

/// A way of entering.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    user: bool,
    pid: bool,
}

impl Plan {
    /// The best way that works here.
    pub(super) fn choose() -> Result<Self, EnterError> {
        let mut attempts = Vec::new();
        // Some containers forbid a fresh /proc; then there is no pid namespace to see either.
        for pid in [true, false] {
            for user in [false, true] {
                let plan = Self { user, pid };
                if !user && !geteuid().is_root() {
                    continue;
                }
                match plan.rehearse()? {
                    Ok(()) => return Ok(plan),
                    Err(error) => attempts.push(format!("{plan}: {error}")),
                }
            }
        }
        Err(EnterError::Refused { attempts: attempts.join("; ") })
    }

    /// Whether the processes live in a pid namespace, which kills them all when it ends.
    pub(super) fn pid_namespace(self) -> bool {
        self.pid
    }

    /// Creates the namespaces for this process; the pid namespace starts with the next child.
    pub(super) fn unshare(self) -> io::Result<()> {
        let (uid, gid) = (geteuid(), getegid());
        let mut flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
        flags.set(CloneFlags::CLONE_NEWPID, self.pid);
        flags.set(CloneFlags::CLONE_NEWUSER, self.user);
        unshare(flags)?;
        if self.user {
            // The order is the kernel's: user_namespaces(7), "Defining user and group ID mappings".
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
            fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
        }
        Ok(())
    }

    /// Mounts what the new namespaces need; in process 1 of the pid namespace, if there is one.
    pub(super) fn mount(self) -> io::Result<()> {
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        if self.pid {
            mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>)?;
        }
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
        // Only /sys/class/net differs, and nothing here needs it: a refusal is no reason to stop.
        let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>);
        Ok(())
    }

    /// Does it all in a child; the inner result is what the kernel said.
    fn rehearse(self) -> Result<io::Result<()>, EnterError> {
        if let Some(child) = step("fork", fork())? {
            return Ok(match step("wait for the trial run", waitpid(child, None))? {
                WaitStatus::Exited(_, 0) => Ok(()),
                WaitStatus::Exited(_, code) => Err(io::Error::from_raw_os_error(code)),
                other => Err(io::Error::other(format!("{other:?}"))),
            });
        }
        let outcome = self.unshare().and_then(|()| match fork()? {
            Some(inner) => match waitpid(inner, None)? {
                WaitStatus::Exited(_, 0) => Ok(()),
                WaitStatus::Exited(_, code) => Err(io::Error::from_raw_os_error(code)),
                other => Err(io::Error::other(format!("{other:?}"))),
            },
            None => exit_with(self.mount()),
        });
        exit_with(outcome)
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}, {}",
            if self.user { "in a user namespace" } else { "as root" },
            if self.pid { "with a pid namespace" } else { "without a pid namespace" },
        )
    }
}

/// Ends the process with the error number as its status: they are below 256 and never 0.
fn exit_with(outcome: io::Result<()>) -> ! {
    std::process::exit(match outcome {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(nix::libc::EIO),
    })
}
