//! The process that owns a runtime's namespaces and cleans up behind it.
//!
//! `supervisor.sh` is the first process of a mount and a pid namespace of its own. As long as
//! this end of its standard input is open it starts and signals containerd; when it closes,
//! by [`Supervisor::end`] or because the test died, it removes everything.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::poll::until;

/// The script, handed to `sh -c`.
const SCRIPT: &str = include_str!("supervisor.sh");

/// Time for the last clean-up; the script itself gives up on a busy cgroup after about a hundred
/// seconds.
const END: Duration = Duration::from_mins(5);

/// Why the supervisor could not do something.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// It could not be started.
    #[error("cannot start the runtime's supervisor (unshare, sh)")]
    Spawn(#[source] std::io::Error),
    /// It ended early.
    #[error("the runtime's supervisor ended while it should {task}: {stderr}")]
    Gone {
        /// What it should do.
        task: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// It could not remove everything.
    #[error("the runtime's supervisor left something behind ({status}): {stderr}")]
    Unclean {
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// It did not end.
    #[error(
        "the runtime's supervisor did not end within {END:?} and was killed; look for cgroups named {cgroup}"
    )]
    Stuck {
        /// The cgroup that may be left.
        cgroup: String,
    },
}

/// A running supervisor.
#[derive(Debug)]
pub(super) struct Supervisor {
    process: Child,
    commands: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    cgroup: String,
}

impl Supervisor {
    /// Starts a supervisor for `directory`; `spawn` gives a command for a program in the
    /// network and mount namespaces that the runtime shall start from.
    pub(super) fn start(
        directory: &Path,
        cgroup: &str,
        spawn: impl FnOnce(&str) -> Command,
    ) -> Result<Self, SupervisorError> {
        let mut process = spawn("unshare")
            // A slave sees what is mounted outside later on and shows nothing of its own.
            .args(["--mount", "--propagation", "slave", "--pid", "--fork", "--mount-proc"])
            .args(["--", "sh", "-c", SCRIPT, "supervisor", cgroup])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(SupervisorError::Spawn)?;
        let commands = process.stdin.take();
        let Some(replies) = process.stdout.take().map(BufReader::new) else {
            return Err(SupervisorError::Spawn(std::io::Error::other("no standard output")));
        };
        let mut supervisor = Self { process, commands, replies, cgroup: cgroup.to_owned() };
        supervisor.expect_reply("get ready")?;
        Ok(supervisor)
    }

    /// Starts containerd.
    pub(super) fn start_daemon(&mut self) -> Result<(), SupervisorError> {
        self.order("start")
    }

    /// Sends containerd a signal that ends it, and waits for its end. Shims and containers
    /// stay.
    pub(super) fn signal_daemon(&mut self, name: &str) -> Result<(), SupervisorError> {
        self.order(&format!("signal {name}"))
    }

    /// A command that runs a program in the runtime's namespaces.
    pub(super) fn command(&self, program: &str) -> Command {
        let process = self.process.id();
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{process}/ns/net"))
            .arg(format!("--mount=/proc/{process}/ns/mnt"))
            .arg(format!("--pid=/proc/{process}/ns/pid_for_children"))
            .args(["--", program]);
        command
    }

    /// Kills everything in the namespaces, removes what it left, and waits for that.
    pub(super) fn end(mut self) -> Result<(), SupervisorError> {
        let Some(status) = self.close() else {
            return Err(SupervisorError::Stuck { cgroup: self.cgroup.clone() });
        };
        if status.success() {
            return Ok(());
        }
        Err(SupervisorError::Unclean { status, stderr: self.complaints() })
    }

    /// Closes the supervisor's input and waits for its end; none if it had to be killed.
    fn close(&mut self) -> Option<ExitStatus> {
        drop(self.commands.take());
        let status = until(END, || self.process.try_wait().ok().flatten());
        if status.is_none() {
            // Only the processes' parent is killed here; its namespaces end with the first
            // process in them, which sees the end of its input in any case.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        status
    }

    fn order(&mut self, order: &str) -> Result<(), SupervisorError> {
        // A failed write means that nobody reads; the missing reply says so as well.
        if let Some(commands) = &mut self.commands {
            let _ = writeln!(commands, "{order}");
        }
        self.expect_reply(order)
    }

    fn expect_reply(&mut self, task: &str) -> Result<(), SupervisorError> {
        let mut reply = String::new();
        match self.replies.read_line(&mut reply) {
            Ok(length) if length > 0 => Ok(()),
            _ => Err(SupervisorError::Gone { task: task.to_owned(), stderr: self.complaints() }),
        }
    }

    /// What the script wrote to standard error; only to be called when it has ended or closed
    /// its output.
    fn complaints(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.process.stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        text.trim().to_owned()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.close();
    }
}
