//! Standard input and output: one document in, one document out.

use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use minionet_core::cni::conf::STDIN_MAX;
use minionet_core::cni::{Code, Coded};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use serde_json::Value;
use thiserror::Error;

/// How long VERSION waits for what it can do without: longer than a caller on a busy machine takes to
/// write it, and short for a person who called without an input.
const VERSION_PATIENCE: Duration = Duration::from_secs(2);

/// The device number of `/dev/null` (Documentation/admin-guide/devices.txt of the kernel).
const DEV_NULL: u64 = nix::sys::stat::makedev(1, 3);

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

/// Reads standard input to its end, or one octet further than anything that is accepted.
pub fn read() -> Result<Vec<u8>, StdioError> {
    let mut content = Vec::new();
    let mut stdin = io::stdin().lock().take(STDIN_MAX as u64 + 1);
    stdin.read_to_end(&mut content).map_err(|source| StdioError::Read { source })?;
    Ok(content)
}

/// Reads what comes on standard input soon; never fails, and never waits for its end.
pub fn read_some() -> Vec<u8> {
    let mut stdin = io::stdin().lock();
    let start = Instant::now();
    let mut content = Vec::new();
    while content.len() <= STDIN_MAX {
        let left = VERSION_PATIENCE.saturating_sub(start.elapsed());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        // What is there is seen also by a program that was stopped until no time was left.
        match poll(&mut [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)], left) {
            Ok(1..) => {}
            Err(Errno::EINTR) => continue,
            _ => break,
        }
        // All that is read ahead is taken, as poll(2) does not see it.
        let length = match stdin.fill_buf() {
            Ok(piece) => {
                content.extend_from_slice(piece);
                piece.len()
            }
            Err(_) => break,
        };
        if length == 0 {
            break;
        }
        stdin.consume(length);
    }
    content
}

/// Writes the one document of a call to standard output.
pub fn write(document: &Value) -> Result<(), StdioError> {
    let text = format!("{document:#}\n");
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|source| StdioError::Write { source })
}

/// Writes to standard error, for persons.
pub fn explain(text: &str) -> io::Result<()> {
    io::stderr().lock().write_all(text.as_bytes())
}

/// Makes sure that a result can get out.
///
/// A program that starts with standard output closed gets `/dev/null` there, open for reading
/// and writing (`std` does that, so that no other file takes the number); a result would vanish
/// in silence. A caller who does not want it opens `/dev/null` for writing only.
pub fn require_stdout() -> Result<(), StdioError> {
    let examine = || -> io::Result<bool> {
        let stdout = io::stdout();
        let found = fstat(stdout.as_fd())?;
        let is_device = found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits();
        if !is_device || found.st_rdev != DEV_NULL {
            return Ok(true);
        }
        let flags = OFlag::from_bits_retain(fcntl(stdout.as_fd(), FcntlArg::F_GETFL)?);
        Ok(flags & OFlag::O_ACCMODE != OFlag::O_RDWR)
    };
    match examine() {
        Ok(true) => Ok(()),
        Ok(false) => Err(StdioError::NoStdout),
        Err(source) => Err(StdioError::Write { source }),
    }
}
