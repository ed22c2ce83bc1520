//! Colours and width.

/// The escape sequences in use: ECMA-48, "Select Graphic Rendition".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// As it is.
    Plain,
    /// Headings.
    Bold,
    /// What matters less.
    Dim,
    /// What is wrong.
    Red,
    /// What is well.
    Green,
    /// What needs attention.
    Yellow,
}

/// How text is made.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// How many columns there are.
    pub width: usize,
    /// Whether there are colours.
    pub colours: bool,
}

impl Style {
    /// A text in a colour; pad it first, as escape sequences count as characters.
    pub fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Plain => return text.to_owned(),
            _ if !self.colours || text.is_empty() => return text.to_owned(),
            Colour::Bold => 1,
            Colour::Dim => 2,
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
