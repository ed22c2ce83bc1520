//! The two processes around the program: they wait, reap and forward signals.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What a supervising process reacts to; the other signals keep their default effect.
const HANDLED: [Signal; 7] = [
    Signal::SIGCHLD,
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Signals that are blocked, so that they can be waited for.
pub(super) struct Supervisor {
    handled: SigSet,
    before: SigSet,
}

impl Supervisor {
    /// Blocks the signals. Children inherit that until they call [`Supervisor::release`].
    pub(super) fn new() -> nix::Result<Self> {
        let handled: SigSet = HANDLED.into_iter().collect();
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&handled), Some(&mut before))?;
        Ok(Self { handled, before })
    }

    /// Restores the mask of before [`Supervisor::new`].
    pub(super) fn release(&self) -> nix::Result<()> {
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None)
    }

    /// Waits for `main` to end, reaping other children and forwarding signals meanwhile.
    ///
    /// Returns the exit status, or 128 plus the signal's number, as a shell does.
    pub(super) fn wait(&self, main: Pid) -> i32 {
        loop {
            if let Some(status) = reap(main) {
                return status;
            }
            match self.handled.wait() {
                Ok(Signal::SIGCHLD) | Err(_) => {}
                // A program that is gone is found at the next turn.
                Ok(signal) => drop(kill(main, signal)),
            }
        }
    }
}

/// Reaps every child that has ended; the status of `main`, if it is among them.
fn reap(main: Pid) -> Option<i32> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == main => return Some(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => {
                return Some(128 + signal as i32);
            }
            Ok(WaitStatus::StillAlive) => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            // No child is left although `main` was not seen: somebody else reaped it.
            Err(_) => return Some(1),
        }
    }
}

/// Kills every child that is left, and what they leave behind, where no pid namespace does it.
pub(super) fn kill_children() {
    while let Ok(children) = fs::read_to_string("/proc/thread-self/children") {
        let children: Vec<i32> = children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        if children.is_empty() {
            return;
        }
        for child in children {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            let _ = waitpid(Pid::from_raw(child), None);
        }
    }
}
