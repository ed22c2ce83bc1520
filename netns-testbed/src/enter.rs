//! Leaves the machine: everything the testbed makes lives in namespaces of its own.
//!
//! Three processes take part. The one that was started only waits, forwards signals and passes
//! the exit status on. The second is process 1 of a pid namespace: it reaps orphans, and when it
//! ends, the kernel kills everything inside; it ends with the first, also if that is killed with
//! SIGKILL. The third returns from [`enter`] and is the program. A process 1 of its own, instead
//! of the program itself, keeps `std::process::Child::wait` right (nobody else reaps the
//! program's children) and signals deliverable (the kernel shields process 1 from them).

mod plan;
mod supervise;

use std::fs;
use std::io::Write;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use self::plan::Plan;
use self::supervise::Supervisor;

/// Why a program could not enter namespaces of its own.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// [`enter`] was called too late.
    #[error("the testbed must be entered before the first thread is started, but {threads} threads run")]
    Threads {
        /// How many threads the process has.
        threads: usize,
    },
    /// The kernel refused every way.
    #[error(
        "cannot create namespaces ({attempts}): run as root, or allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
    )]
    Refused {
        /// Each way that was tried, with the kernel's answer.
        attempts: String,
    },
    /// A step failed that had worked in the trial run.
    #[error("cannot {step}")]
    Step {
        /// What was attempted.
        step: &'static str,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
}

/// Names the step of a failed call.
fn step<T, E: Into<std::io::Error>>(step: &'static str, result: Result<T, E>) -> Result<T, EnterError> {
    result.map_err(|source| EnterError::Step { step, source: source.into() })
}

/// Continues the program in network, mount and (where possible) pid namespaces of its own.
///
/// To be called first in `main`, while the process has one thread. An ordinary user gets a user
/// namespace as well, in which they are root. Inside, `/run` is empty, `/proc` and `/sys` show
/// the new namespaces, and the loopback device is up. The process that was started never returns
/// from this function; it exits with the status of the one that does.
///
/// # Errors
/// [`EnterError`], when the process has several threads or namespaces are not permitted.
pub fn enter() -> Result<(), EnterError> {
    let threads = step("count threads", fs::read_dir("/proc/self/task"))?.count();
    if threads != 1 {
        return Err(EnterError::Threads { threads });
    }
    // What stdio still holds would otherwise be written by each of the processes.
    step("flush standard output", std::io::stdout().flush())?;
    let plan = Plan::choose()?;
    raise_file_limit();
    let supervisor = step("block signals", Supervisor::new())?;

    step("create namespaces", plan.unshare())?;
    if let Some(init) = step("fork", fork())? {
        std::process::exit(supervisor.wait(init));
    }

    // A killed starter must take everything along. In the namespace this is process 1.
    step("tie the process to its parent", prctl::set_pdeathsig(Signal::SIGKILL))?;
    step("prepare mounts", plan.mount())?;
    if !plan.pid_namespace() {
        step("become the reaper of orphans", prctl::set_child_subreaper(true))?;
    }
    if let Some(program) = step("fork", fork())? {
        let status = supervisor.wait(program);
        if !plan.pid_namespace() {
            supervise::kill_children();
        }
        std::process::exit(status);
    }
    step("tie the process to its parent", prctl::set_pdeathsig(Signal::SIGKILL))?;
    step("unblock signals", supervisor.release())?;
    step("bring the loopback device up", loopback_up())
}

/// Forks; `Some` with the child's id in the parent, `None` in the child.
#[allow(unsafe_code)]
fn fork() -> nix::Result<Option<nix::unistd::Pid>> {
    // SAFETY: the process has one thread (checked by `enter`), so the child starts with every
    // lock free and may run any code.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Some(child)),
        nix::unistd::ForkResult::Child => Ok(None),
    }
}

/// Each host of a cluster costs a few descriptors; the usual soft limit of 1024 is for `select`.
fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Not fatal: a small cluster fits into the old limit.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn loopback_up() -> std::io::Result<()> {
    let output = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}
