//! The visitor's side: `netns-testbed exec` and `netns-testbed status`.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::fstat;
use nix::unistd::geteuid;

use super::place;
use super::protocol::{self, Answer, Request};

/// Run a program inside a node or pod of a demo that is held
///
/// The program sees the network, the files and the processes of that place; without one, a shell is
/// started. Only who started the demo may enter it.
#[derive(Args)]
pub struct Exec {
    /// The process of the demo, where several are held
    #[arg(long, value_name = "PID")]
    demo: Option<u32>,
    /// A node (node1), a pod (pod1-1), or dns1, router, external
    #[arg(value_name = "PLACE")]
    place: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Show the nodes and pods of a demo that is held
#[derive(Args)]
pub struct Status {
    /// The process of the demo, where several are held
    #[arg(long, value_name = "PID")]
    demo: Option<u32>,
}

/// Runs a program inside a held demo; the exit status is the program's.
///
/// # Errors
/// When there is no such demo or place, or the program cannot be started.
pub fn exec(options: &Exec) -> Result<ExitCode> {
    let (answer, descriptors) = request(options.demo, &Request::Enter(options.place.clone()))?;
    let variables = match answer {
        Answer::Enter(variables) => variables,
        Answer::Refused(reason) => bail!(reason),
        Answer::Overview(_) => bail!("the demo answered another question"),
    };
    enter(descriptors).with_context(|| format!("cannot enter {}", options.place))?;

    let shell = || vec![std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())];
    let words = if options.command.is_empty() { shell() } else { options.command.clone() };
    let name = words.first().cloned().unwrap_or_default();
    let mut command = Command::new(&name);
    command.args(words.iter().skip(1));
    for (variable, value) in variables {
        if variable == "PATH" {
            // Added to what the person has.
            let path = std::env::var_os("PATH").unwrap_or_default();
            let all = std::env::split_paths(&path).chain([PathBuf::from(value)]);
            command.env(variable, std::env::join_paths(all)?);
        } else {
            command.env(variable, value);
        }
    }
    run(command).with_context(|| format!("cannot run {}", name.display()))
}

/// Prints the overview of a held demo.
///
/// # Errors
/// When there is no such demo, or the overview cannot be written.
pub fn status(options: &Status) -> Result<ExitCode> {
    match request(options.demo, &Request::Overview)?.0 {
        Answer::Overview(text) => crate::terminal::print(&text).context("write the overview")?,
        Answer::Refused(reason) => bail!(reason),
        Answer::Enter(_) => bail!("the demo answered another question"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks the demo that is meant.
fn request(demo: Option<u32>, request: &Request) -> Result<(Answer, Vec<OwnedFd>)> {
    let stream = find(demo)?;
    let exchange = || {
        protocol::greet(&stream)?;
        protocol::ask(&stream, request)?;
        protocol::listen(&stream)
    };
    exchange().context("talk to the demo")
}

/// Connects to the only demo, or to the one of a process. Sockets that nobody listens on are
/// removed: their demo was killed.
fn find(demo: Option<u32>) -> Result<UnixStream> {
    let mut live = Vec::new();
    for (process, path) in place::sockets() {
        match UnixStream::connect(&path) {
            Ok(stream) => live.push((process, stream)),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                // Whether it can be removed changes nothing here.
                let _ = std::fs::remove_file(&path);
            }
            // Ended since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(anyhow!(error).context(format!("cannot connect to {}", path.display())));
            }
        }
    }
    let all: Vec<String> = live.iter().map(|(process, _)| process.to_string()).collect();
    if let Some(wanted) = demo {
        let found = live.into_iter().find(|(process, _)| *process == wanted);
        return found
            .map(|(_, stream)| stream)
            .with_context(|| format!("no demo of process {wanted} is held; there are: {}", all.join(" ")));
    }
    if live.len() > 1 {
        bail!("several demos are held: choose with --demo among {}", all.join(" "));
    }
    live.pop().map(|(_, stream)| stream).with_context(|| {
        format!(
            "no demo of user {} is held: start one with `netns-testbed demo --hold`, or enter as the user who did",
            geteuid()
        )
    })
}

/// Moves this process, which has one thread, into the namespaces; children follow into the last.
fn enter(descriptors: Vec<OwnedFd>) -> Result<()> {
    let [user, pid, mounts, net] = <[OwnedFd; protocol::DESCRIPTORS]>::try_from(descriptors)
        .map_err(|received| anyhow!("the demo sent {} namespaces", received.len()))?;
    // The user namespace first: it gives the right to enter the others. Entering one's own is an
    // error: setns(2).
    if !is_own(&user, "user")? {
        setns(&user, CloneFlags::CLONE_NEWUSER).context("enter the user namespace")?;
    }
    setns(&pid, CloneFlags::CLONE_NEWPID).context("enter the pid namespace")?;
    setns(&net, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
    setns(&mounts, CloneFlags::CLONE_NEWNS).context("enter the mount namespace")
}

/// Whether a namespace is the one that this process is in.
fn is_own(namespace: &OwnedFd, kind: &str) -> Result<bool> {
    let path = format!("/proc/self/ns/{kind}");
    let own = nix::sys::stat::stat(path.as_str()).with_context(|| format!("look at {path}"))?;
    let other = fstat(namespace).context("look at a namespace")?;
    Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

/// Runs a program to its end, for the exit status of a shell: 128 and the number of a signal.
#[allow(unsafe_code)]
fn run(mut command: Command) -> Result<ExitCode> {
    // A Ctrl-C is for the program, which decides what it means; this process waits for it.
    let signals: SigSet = [Signal::SIGINT, Signal::SIGQUIT].into_iter().collect();
    signals.thread_block().context("block signals")?;
    // Whoever ends this process means the program.
    let tie = || Ok(prctl::set_pdeathsig(Signal::SIGHUP)?);
    // SAFETY: one system call, which allocates nothing and takes no lock.
    unsafe { command.pre_exec(tie) };
    let status = command.status()?;
    let code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
