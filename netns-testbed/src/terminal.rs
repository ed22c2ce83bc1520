//! What a person sees: results on standard output, progress on standard error.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Instant;

/// The escape sequences of the colours in use: ECMA-48, "Select Graphic Rendition".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Headings.
    Bold,
    /// What went well.
    Green,
    /// What went wrong.
    Red,
    /// What matters less.
    Dim,
}

/// Whether a stream gets colours.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// No colours.
    pub const PLAIN: Self = Self { colours: false };

    /// Colours on a terminal, unless the environment says otherwise (no-color.org).
    fn for_stream(stream: &impl IsTerminal) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { colours: stream.is_terminal() && !unwanted }
    }

    /// For standard output.
    pub fn stdout() -> Self {
        Self::for_stream(&io::stdout())
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
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Writes a result to standard output.
///
/// # Errors
/// When it cannot be written; a reader that has gone away, as in `| head`, is no error.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a remark to standard error.
pub fn note(text: &str) {
    // Where standard error is closed, nobody reads.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Lines that say what is going on, with the time since the start.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    start: Instant,
    paint: Paint,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Self {
        Self { start: Instant::now(), paint: Paint::for_stream(&io::stderr()) }
    }

    /// A step.
    pub fn step(&self, text: &str) {
        self.line(&format!("{text}\n"));
    }

    /// Something that went wrong.
    pub fn failure(&self, text: &str) {
        self.line(&format!("{}\n", self.paint.paint(Colour::Red, text)));
    }

    fn line(&self, text: &str) {
        let time = format!("{:8.3} s", self.start.elapsed().as_secs_f64());
        let line = format!("{}  {text}", self.paint.paint(Colour::Dim, &time));
        note(&line);
    }
}
