//! What a test has to say beyond its outcome.

use std::io::Write;

/// Writes a measured value to standard error: it informs and is never judged.
pub fn print(line: &str) {
    // Where standard error is closed, nobody reads.
    let _ = writeln!(std::io::stderr(), "{line}");
}
