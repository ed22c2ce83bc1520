//! Standard input and output: one document in, one document out.
//!
//! They are used as they are: the buffers and locks of the standard library are for those who write
//! more than once.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use std::time::{Duration, Instant};

use minionet_core::cni::conf::STDIN_MAX;
use minionet_core::cni::{Code, Coded};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd;
use serde_json::Value;
use thiserror::Error;

/// How long VERSION waits for what it can do without: longer than a caller on a busy machine takes to
/// write it, and short for a person who called without an input.
const VERSION_PATIENCE: Duration = Duration::from_secs(2);

/// The device number of `/dev/null` (Documentation/admin-guide/devices.txt of the kernel).
const DEV_NULL: u64 = nix::sys::stat::makedev(1, 3);

/// How many octets are read at once; few configurations have more.
const PIECE: usize = 4096;

// SAFETY: [`prepare`] sees to it that all three are open, and nobody closes them.
#[allow(unsafe_code)]
const STDIN: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(0) };
// SAFETY: as above.
#[allow(unsafe_code)]
const STDOUT: BorrowedFd<'static> = unsafe { BorrowedFd::borrow_raw(1) };

/// Reading or writing failed.
#[derive(Debug, Error)]
pub enum StdioError {
    /// Standard input.
    #[error("cannot read the network configuration from stdin: {source}")]
    Read {
        /// What the system said.
        source: io::Error,
    },
    /// Standard output.
    #[error("cannot write the result to stdout: {source}")]
    Write {
        /// What the system said.
        source: io::Error,
    },
    /// Standard output is closed.
    #[error("stdout is closed, so the result would be lost: give the plugin a stdout")]
    NoStdout,
}

impl Coded for StdioError {
    fn code(&self) -> Code {
        Code::Io
    }

    fn details(&self) -> Option<String> {
        None
    }
}

/// What has to be so before anything is opened, read or written; the standard library's own start
/// would see to it as well.
///
/// Files that are closed are opened, as `/dev/null`: another file that took the number would be read
/// or written in their place. And a reader who has gone is an error, no reason to die half way.
pub fn prepare() {
    SigSet::from(Signal::SIGPIPE).thread_block().ok();
    // The lowest number that is free is the next to be given out.
    while let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        if null.as_raw_fd() > 2 {
            break;
        }
        let _stays_open = null.into_raw_fd();
    }
}

/// Reads standard input to its end, or a little further than anything that is accepted.
pub fn read() -> Result<Vec<u8>, StdioError> {
    let mut content = Vec::new();
    while content.len() <= STDIN_MAX {
        if read_piece(&mut content).map_err(|source| StdioError::Read { source })? == 0 {
            break;
        }
    }
    Ok(content)
}

/// Reads what is there, or waits for something; says how many octets it was, none at the end.
fn read_piece(content: &mut Vec<u8>) -> io::Result<usize> {
    let mut piece = [0; PIECE];
    loop {
        match unistd::read(STDIN, &mut piece) {
            Ok(length) => {
                content.extend_from_slice(&piece[..length]);
                return Ok(length);
            }
            Err(Errno::EINTR) => {}
            // Open for writing only: there is nothing to read.
            Err(Errno::EBADF) => return Ok(0),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Reads what comes on standard input soon; never fails, and never waits for its end.
pub fn read_some() -> Vec<u8> {
    let start = Instant::now();
    let mut content = Vec::new();
    while content.len() <= STDIN_MAX {
        let left = VERSION_PATIENCE.saturating_sub(start.elapsed());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        // What is there is seen also by a program that was stopped until no time was left.
        match poll(&mut [PollFd::new(STDIN, PollFlags::POLLIN)], left) {
            Ok(1..) => {}
            Err(Errno::EINTR) => continue,
            _ => break,
        }
        if !matches!(read_piece(&mut content), Ok(1..)) {
            break;
        }
    }
    content
}

/// Writes the one document of a call to standard output.
pub fn write(document: &Value) -> Result<(), StdioError> {
    let mut text = serde_json::to_vec_pretty(document).map_err(|e| StdioError::Write { source: e.into() })?;
    text.push(b'\n');
    let mut rest = text.as_slice();
    while !rest.is_empty() {
        match unistd::write(STDOUT, rest) {
            Ok(0) => return Err(StdioError::Write { source: io::ErrorKind::WriteZero.into() }),
            Ok(length) => rest = &rest[length..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(StdioError::Write { source: errno.into() }),
        }
    }
    Ok(())
}

/// Writes to standard error, for persons.
pub fn explain(text: &str) -> io::Result<()> {
    io::stderr().lock().write_all(text.as_bytes())
}

/// Makes sure that a result can get out.
///
/// A program that starts with standard output closed gets `/dev/null` there, open for reading
/// and writing ([`prepare`]); a result would vanish in silence. A caller who does not want it opens `/dev/null` for writing only.
pub fn require_stdout() -> Result<(), StdioError> {
    let examine = || -> io::Result<bool> {
        let found = fstat(STDOUT)?;
        let is_device = found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits();
        if !is_device || found.st_rdev != DEV_NULL {
            return Ok(true);
        }
        let flags = OFlag::from_bits_retain(fcntl(STDOUT, FcntlArg::F_GETFL)?);
        Ok(flags & OFlag::O_ACCMODE != OFlag::O_RDWR)
    };
    match examine() {
        Ok(true) => Ok(()),
        Ok(false) => Err(StdioError::NoStdout),
        Err(source) => Err(StdioError::Write { source }),
    }
}
