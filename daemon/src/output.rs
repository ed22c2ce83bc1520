//! What commands print.

use std::io::{self, Write};

use anyhow::{Context, Result};

/// Prints lines. A reader that has heard enough, as in `minionetd … | head`, is no failure.
///
/// # Errors
/// When standard output cannot be written to.
pub fn say(text: &str) -> Result<()> {
    write(text.as_bytes()).and_then(|()| write(b"\n"))
}

/// Prints bytes as they are.
///
/// # Errors
/// As [`say`].
pub fn write(bytes: &[u8]) -> Result<()> {
    match io::stdout().lock().write_all(bytes) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot print"),
    }
}
