//! Where the text goes: how wide it is, whether it has colours, and how it is shown again.

use std::io::{self, IsTerminal};

use anyhow::Result;
use minionet_core::status::Style;

use crate::terminal::has_colours;
pub use crate::terminal::print_to_reader as print;

/// Columns where nothing tells how many there are.
const WIDTH: usize = 80;

/// The fewest columns that are made use of.
const NARROWEST: usize = 40;

/// How text is made for standard output.
pub fn style() -> Style {
    Style { width: width().max(NARROWEST), colours: has_colours() }
}

/// As many columns as the terminal has; `COLUMNS` wins, as for other programs.
fn width() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let size = || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    told.or_else(size).unwrap_or(WIDTH)
}

/// Writes a text over the one before it, on a terminal; elsewhere after it.
///
/// # Errors
/// As [`print()`].
pub fn repaint(text: &str) -> Result<bool> {
    if !io::stdout().is_terminal() {
        return print(&format!("{text}\n"));
    }
    // ECMA-48: home (CUP), each line erased behind its end (EL), and all that is below (ED); so
    // nothing flickers.
    print(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))
}
