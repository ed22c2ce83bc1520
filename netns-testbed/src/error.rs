//! The error of the library: which operation failed, on what, and why.

use std::io;
use std::process::ExitStatus;

/// What can go wrong while a testbed is built or used.
///
/// The text of the cause is in the `source` and not repeated in the message: print the chain once.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call or a file operation failed.
    #[error("cannot {operation}")]
    Io {
        /// What was attempted and on which object, as in "enter the namespace of node1".
        operation: String,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A program ran and reported a failure.
    #[error("`{command}` in {place} failed ({status}): {stderr}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// The host in which it ran.
        place: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said, trimmed.
        stderr: String,
    },
    /// A value given by the caller cannot be used.
    #[error("{what} {value:?} cannot be used: {reason}")]
    Invalid {
        /// What kind of value it is.
        what: &'static str,
        /// The value as it was given.
        value: String,
        /// Why it cannot be used and what would do.
        reason: String,
    },
    /// A CNI plugin reported a failure.
    #[error("CNI {command} of {plugin} failed ({status}): {message}")]
    Cni {
        /// `ADD`, `DEL` or another verb of the CNI specification.
        command: String,
        /// The plugin's `type`.
        plugin: String,
        /// How the plugin ended.
        status: ExitStatus,
        /// Its error document, or its standard error where it printed none.
        message: String,
    },
    /// A JSON document could not be read.
    #[error("{what} is not the JSON that was expected")]
    Json {
        /// Which document.
        what: String,
        /// What the parser found.
        #[source]
        source: serde_json::Error,
    },
    /// A condition did not come true in time.
    #[error("{what} did not happen within {seconds:.1} s: {last}")]
    Timeout {
        /// The condition.
        what: String,
        /// How long it was waited for, in seconds.
        seconds: f64,
        /// What the last attempt saw.
        last: String,
    },
    /// The programs under test were not found.
    #[error(
        "{program} was not found in {searched}: build it with `cargo build -p minionet-plugin -p minionet-daemon -p netns-testbed` or name its directory in MINIONET_BIN_DIR"
    )]
    NoBinary {
        /// The file name of the program.
        program: String,
        /// The directories in which it was looked for.
        searched: String,
    },
}

/// The result of the library's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names the operation of a failed system call: `open().during(|| format!("open {path}"))`.
pub(crate) trait During<T> {
    /// Turns the error into [`Error::Io`].
    fn during<S: Into<String>>(self, operation: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during<S: Into<String>>(self, operation: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::Io { operation: operation().into(), source: source.into() })
    }
}
