//! What commands print: colours, lines that fit the terminal, and the writing itself.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};

/// Columns where nothing tells how many there are.
const WIDTH: usize = 80;

/// The fewest columns that are made use of.
const NARROWEST: usize = 40;

/// The escape sequences in use: ECMA-48, "Select Graphic Rendition".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// What went well.
    Green,
    /// What deserves a look.
    Yellow,
    /// What is wrong.
    Red,
    /// What matters less.
    Dim,
    /// What matters more.
    Bold,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    colours: bool,
}

/// Whether standard output is to have colours: on a terminal, unless the environment says otherwise
/// (no-color.org).
pub fn has_colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    io::stdout().is_terminal() && !unwanted
}

/// As many columns as the terminal has; `COLUMNS` wins, as for other programs.
pub fn width() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let size = || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
    told.or_else(size).unwrap_or(WIDTH).max(NARROWEST)
}

impl Paint {
    /// For standard output.
    pub fn stdout() -> Self {
        Paint { colours: has_colours() }
    }

    /// A text in a colour; pad it first, as the escape sequences count as characters.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        if !self.colours {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Bold => 1,
            Colour::Dim => 2,
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Breaks a text into lines that fit the terminal with the first `indent` columns kept free. A word
/// that is too long has a line of its own.
pub fn wrap(text: &str, indent: usize) -> Vec<String> {
    wrap_to(text, width().saturating_sub(indent))
}

fn wrap_to(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Writes to standard output. A reader that has gone away, as in `| head`, is no failure.
///
/// # Errors
/// When it cannot be written.
pub fn print(text: &str) -> Result<()> {
    print_to_reader(text).map(drop)
}

/// As [`print`], and says whether somebody still reads.
///
/// # Errors
/// As [`print`].
pub fn print_to_reader(text: &str) -> Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("cannot print"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit() {
        let text = "word ".repeat(100);
        let lines = wrap_to(&text, 50);
        assert!(lines.iter().all(|line| line.len() <= 50 && line.len() > 44), "{lines:?}");
        assert_eq!(lines.join(" "), text.trim());
        assert_eq!(wrap_to("", 10), [""]);
        let long = "x".repeat(100);
        assert_eq!(wrap_to(&format!("a {long} b"), 80), ["a".to_owned(), long, "b".to_owned()]);
    }

    #[test]
    fn without_colours_a_text_stays_as_it_is() {
        assert_eq!(Paint { colours: false }.paint(Colour::Red, "x"), "x");
        assert_eq!(Paint { colours: true }.paint(Colour::Red, "x"), "\x1b[31mx\x1b[0m");
    }
}
