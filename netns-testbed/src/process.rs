//! Starting programs so that none outlives the testbed.

use std::fs;
use std::io::{self, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::sys::signal::Signal;

use crate::error::{During, Error, Result};

/// One program to start, and where to send the result.
struct Job {
    command: Command,
    reply: Sender<io::Result<Child>>,
}

/// Starts a program from the thread that lives as long as the process.
///
/// The signal that a child asks for with `PR_SET_PDEATHSIG` comes when the *thread* that started it
/// ends (prctl(2)), so a short-lived thread must not start anything that is to stay.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = channel::<Job>();
        thread::spawn(move || {
            for mut job in queue {
                // The caller is waiting, unless it panicked; then nobody wants the child.
                if let Err(unwanted) = job.reply.send(job.command.spawn())
                    && let Ok(mut child) = unwanted.0
                {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        });
        jobs
    });
    let (reply, answer) = channel();
    let gone = || io::Error::other("the thread that starts programs is gone");
    spawner.send(Job { command, reply }).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// The command line as a person would type it.
pub(crate) fn command_line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a program to its end with `input` as its standard input.
pub(crate) fn run_with_input(mut command: Command, input: &[u8]) -> Result<Output> {
    let name = command_line(&command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command).during(|| format!("start `{name}`"))?;
    let stdin = child.stdin.take();
    thread::scope(|scope| {
        // In a thread of its own: a program may talk before it has read everything.
        scope.spawn(move || {
            if let Some(mut stdin) = stdin {
                // A program that does not read to the end is no error; its status tells.
                let _ = stdin.write_all(input);
            }
        });
        child.wait_with_output().during(|| format!("wait for `{name}`"))
    })
}

/// Runs a program to its end; its standard output, or an error with what it said.
pub(crate) fn run_checked(command: Command, place: &str, input: &[u8]) -> Result<String> {
    let line = command_line(&command);
    let output = run_with_input(command, input)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Command {
        command: line,
        place: place.to_owned(),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Whether a process does something of its own with a signal: it catches it, or holds it back to ask
/// for it; proc(5), `SigCgt` and `SigBlk`. A program that has only just started does not yet, and ends
/// by what it is soon to understand.
pub fn catches(process: u32, signal: Signal) -> bool {
    // Of every thread: the one that asks is shown as if it did not hold it back.
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok()).any(|status| {
        let mut masks = status.lines().filter_map(|line| {
            let mask = line.strip_prefix("SigCgt:").or_else(|| line.strip_prefix("SigBlk:"))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        });
        masks.any(|mask| mask >> (signal as i32 - 1) & 1 == 1)
    })
}

/// Lets a command not inherit what the tests are set up with (`MINIONET_…`): it is no setting of a
/// node.
pub fn forget_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"MINIONET_") {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use super::*;

    #[test]
    fn a_signal_is_caught_by_who_asks_for_it() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap : HUP; echo ready; read word"]);
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(catches(child.id(), Signal::SIGHUP));
        assert!(!catches(child.id(), Signal::SIGTERM));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!catches(child.id(), Signal::SIGHUP), "nobody is left");
    }
}
