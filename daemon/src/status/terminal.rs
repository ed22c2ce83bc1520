//! Where the text goes: how wide it is, whether it has colours, and how it is shown again.

use std::io::{self, IsTerminal};

use anyhow::Result;
use minionet_core::status::Style;
use minionet_core::words::count;

pub use crate::terminal::print_to_reader as print;
use crate::terminal::{has_colours, width};

/// How text is made for standard output.
pub fn style() -> Style {
    Style { width: width(), colours: has_colours() }
}

/// Writes a text over the one before it, on a terminal; elsewhere after it.
///
/// # Errors
/// As [`print()`].
pub fn repaint(text: &str) -> Result<bool> {
    if !io::stdout().is_terminal() {
        return print(&format!("{text}\n"));
    }
    let rows = terminal_size::terminal_size_of(io::stdout()).map(|(_, height)| usize::from(height.0));
    let text = rows.map_or_else(|| text.to_owned(), |rows| cut(text, rows));
    // ECMA-48: home (CUP), each line erased behind its end (EL), and all that is below (ED); so
    // nothing flickers.
    print(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))
}

/// As much of a text as a window of so many rows shows, from the top, where the warnings are.
fn cut(text: &str, rows: usize) -> String {
    let (lines, room) = (text.lines().count(), rows.saturating_sub(1).max(1));
    if lines <= room {
        return text.to_owned();
    }
    let shown: String = text.lines().take(room - 1).map(|line| format!("{line}\n")).collect();
    format!("{shown}and {} that this window has no room for\n", count(lines + 1 - room, "line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_cut_at_its_end() {
        assert_eq!(cut("a\nb\nc\n", 4), "a\nb\nc\n");
        assert_eq!(cut("a\nb\nc\nd\n", 4), "a\nb\nand 2 lines that this window has no room for\n");
        assert_eq!(cut("a\nb\n", 0), "and 2 lines that this window has no room for\n");
    }
}
