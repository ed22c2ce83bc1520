//! Stops a program at any of its system calls: makes the call fail, or kills the program before
//! it. Whatever a program does to the world it does by system calls, so these are all the moments
//! there are.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What happens at the chosen system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The program is killed (SIGKILL) before the call.
    Kill,
    /// The call is not made, and fails with this error; one that closes is made, and fails.
    Error(Errno),
    /// Neither this call nor any that is counted after it is made; all fail with this error. So
    /// what was done cannot be undone either.
    Errors(Errno),
}

/// Which calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// All.
    All,
    /// Those that ask anything of the world: all but memory, signals, locks and clocks.
    Asking,
    /// Those after which the world may be another: between two of them, one moment is like the
    /// other.
    Changing,
    /// Those that send something: to the kernel, as nobody else is sent anything.
    Sending,
    /// Those that ask the kernel for memory.
    Allocating,
}

/// How a program ended under the tracer.
#[derive(Debug)]
pub struct Traced {
    /// Its exit status; none where it was killed by a signal.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// The call at which the fault came, if it was reached: its name and number.
    pub hit: Option<String>,
    /// How many calls of those that are counted it made before.
    pub calls: usize,
    /// How often it slept, as between two looks at what is not ready yet.
    pub pauses: usize,
}

/// Runs a program undisturbed, and counts its calls.
///
/// # Errors
/// As [`run`].
pub fn count(command: Command, input: &[u8], which: Calls) -> Result<Traced> {
    run(command, input, Fault::Kill, which, usize::MAX)
}

/// Runs a program and stops it at the call of a number (from 0) among those that are counted.
///
/// To be called from a thread that lives on: the program is the child of the thread.
pub fn run(mut command: Command, input: &[u8], fault: Fault, which: Calls, at: usize) -> Result<Traced> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let traced = || Ok(ptrace::traceme()?);
    // SAFETY: the closure makes one system call; it allocates nothing and takes no lock.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(traced)
    };
    let mut child = command.spawn().context("start the program")?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    // Small enough for the buffer of the pipe, so nobody waits.
    child.stdin.take().context("its input")?.write_all(input)?;
    let mut tracer =
        Tracer { pid, fault, which, at, calls: 0, pauses: 0, hit: None, inside: BTreeMap::new() };
    let code = tracer.follow()?;
    let mut stdout = String::new();
    child.stdout.take().context("its output")?.read_to_string(&mut stdout)?;
    Ok(Traced { code, stdout, hit: tracer.hit, calls: tracer.calls, pauses: tracer.pauses })
}

/// Whether a thread is inside of a system call, and how that is to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Outside,
    Call,
    FailingCall,
}

struct Tracer {
    pid: Pid,
    fault: Fault,
    which: Calls,
    at: usize,
    calls: usize,
    pauses: usize,
    hit: Option<String>,
    inside: BTreeMap<Pid, Inside>,
}

impl Tracer {
    /// Follows the program to its end.
    fn follow(&mut self) -> Result<Option<i32>> {
        // Only the children of this thread: other tests have children of their own.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        match waitpid(self.pid, Some(flags))? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            other => bail!("the program did not start: {other:?}"),
        }
        let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
        ptrace::setoptions(self.pid, options | Options::PTRACE_O_EXITKILL)?;
        ptrace::syscall(self.pid, None)?;
        loop {
            match waitpid(Pid::from_raw(-1), Some(flags))? {
                WaitStatus::Exited(pid, code) if pid == self.pid => return Ok(Some(code)),
                WaitStatus::Signaled(pid, ..) if pid == self.pid => return Ok(None),
                WaitStatus::PtraceSyscall(pid) => self.at_call(pid)?,
                // A new thread begins with a stop of its own.
                WaitStatus::Stopped(pid, Signal::SIGSTOP) => go_on(pid, None)?,
                WaitStatus::Stopped(pid, signal) => go_on(pid, Some(signal))?,
                WaitStatus::PtraceEvent(pid, ..) => go_on(pid, None)?,
                _ => {}
            }
        }
    }

    fn at_call(&mut self, pid: Pid) -> Result<()> {
        let state = self.inside.entry(pid).or_insert(Inside::Outside);
        match *state {
            Inside::Outside => {
                *state = Inside::Call;
                let call = call(pid);
                self.pauses += usize::from(is_pause(&call));
                if !self.which.contains(&call) {
                    return go_on(pid, None);
                }
                if self.calls == self.at {
                    self.hit = Some(format!("call {} ({call})", self.at));
                }
                match self.fault {
                    Fault::Kill if self.calls == self.at => {
                        kill(self.pid, Signal::SIGKILL)?;
                        return Ok(());
                    }
                    Fault::Error(_) if self.calls != self.at => {}
                    Fault::Errors(_) if self.calls < self.at => {}
                    // A program that cannot end is nothing that there is.
                    _ if number(&call) == Some(libc::SYS_exit_group) => {}
                    Fault::Kill => {}
                    Fault::Error(_) | Fault::Errors(_) => {
                        *state = Inside::FailingCall;
                        if !happens_all_the_same(&call) {
                            registers::cancel(pid)?;
                        }
                    }
                }
                self.calls += 1;
            }
            Inside::Call => *state = Inside::Outside,
            Inside::FailingCall => {
                *state = Inside::Outside;
                if let Fault::Error(errno) | Fault::Errors(errno) = self.fault {
                    registers::set_result(pid, errno)?;
                }
            }
        }
        go_on(pid, None)
    }
}

/// Whether a call has its effect also when it fails: close(2) releases the descriptor, and with it
/// the locks of its file.
fn happens_all_the_same(call: &str) -> bool {
    number(call) == Some(libc::SYS_close)
}

/// Lets a thread go on to its next call; it may have been killed with the others by now.
fn go_on(pid: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether a call, given as [`call`] has it, is a sleep.
fn is_pause(call: &str) -> bool {
    number(call).is_some_and(|number| [libc::SYS_nanosleep, libc::SYS_clock_nanosleep].contains(&number))
}

impl Calls {
    /// Whether a call is counted, given as [`call`] has it.
    fn contains(self, call: &str) -> bool {
        let Some(number) = number(call) else { return true };
        match self {
            Calls::All => true,
            Calls::Asking => !MEMORY_AND_CLOCKS.contains(&number) && !ENDING.contains(&number),
            Calls::Sending => [libc::SYS_sendto, libc::SYS_sendmsg].contains(&number),
            Calls::Allocating => [libc::SYS_brk, libc::SYS_mmap, libc::SYS_mremap].contains(&number),
            Calls::Changing => {
                !MEMORY_AND_CLOCKS.contains(&number)
                    && !READING.contains(&number)
                    && !OLD_READING.contains(&number)
                    && !opens_what_is_there(call)
            }
        }
    }
}

/// Whether a call opens a file without making or emptying it.
fn opens_what_is_there(call: &str) -> bool {
    let flags = match number(call) {
        Some(libc::SYS_openat) => argument(call, 2),
        #[cfg(target_arch = "x86_64")]
        Some(libc::SYS_open) => argument(call, 1),
        _ => return false,
    };
    flags.is_some_and(|flags| flags & i64::from(libc::O_CREAT | libc::O_TRUNC) == 0)
}

/// These end a program: before them, all is done.
const ENDING: [i64; 2] = [libc::SYS_exit, libc::SYS_exit_group];

/// These are the program's own business.
const MEMORY_AND_CLOCKS: [i64; 19] = [
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_set_tid_address,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
];

/// These read, or make what goes with the program. Whatever is not among them is taken for a change
/// of the world.
const READING: [i64; 29] = [
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_ppoll,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_lseek,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_faccessat,
    libc::SYS_socket,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_fcntl,
    libc::SYS_getpid,
    libc::SYS_geteuid,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_sched_yield,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_exit,
];

/// Only some kinds of machines have these.
#[cfg(target_arch = "x86_64")]
const OLD_READING: [i64; 6] = [
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_poll,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_READING: [i64; 0] = [];

/// The number of a call, given as [`call`] has it.
fn number(call: &str) -> Option<i64> {
    call.split(' ').next()?.parse().ok()
}

/// An argument of a call, counted from 0.
fn argument(call: &str, index: usize) -> Option<i64> {
    let text = call.split(' ').nth(index + 1)?;
    // Addresses and negative numbers need all the bits.
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok().map(|bits| bits as i64)
}

/// The number of the call that a thread is at, and its arguments (proc_pid_syscall(5)).
fn call(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default().trim_end().to_owned()
}

/// Whether calls can be made to fail on this machine.
pub const CAN_FAIL: bool = cfg!(target_arch = "x86_64");

#[cfg(target_arch = "x86_64")]
mod registers {
    use anyhow::Result;
    use nix::errno::Errno;
    use nix::sys::ptrace;
    use nix::unistd::Pid;

    /// Makes the call that a thread is at one that does not exist.
    pub fn cancel(pid: Pid) -> Result<()> {
        let mut registers = ptrace::getregs(pid)?;
        registers.orig_rax = u64::MAX;
        Ok(ptrace::setregs(pid, registers)?)
    }

    /// Makes the call that a thread comes back from fail with an error.
    pub fn set_result(pid: Pid, errno: Errno) -> Result<()> {
        let mut registers = ptrace::getregs(pid)?;
        registers.rax = i64::from(-(errno as i32)) as u64;
        Ok(ptrace::setregs(pid, registers)?)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod registers {
    use anyhow::{Result, bail};
    use nix::errno::Errno;
    use nix::unistd::Pid;

    pub fn cancel(_: Pid) -> Result<()> {
        bail!("system calls cannot be made to fail on this kind of machine")
    }

    pub fn set_result(_: Pid, _: Errno) -> Result<()> {
        bail!("system calls cannot be made to fail on this kind of machine")
    }
}
