//! Tables that fit: aligned columns where there is room, and otherwise each row on several lines.

use std::fmt::Write;

use super::{Colour, Style};

/// Blanks between two columns.
const GAP: usize = 2;

/// One cell.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    pub(super) fn new(text: impl ToString) -> Self {
        Cell { text: text.to_string(), colour: None }
    }

    pub(super) fn coloured(text: impl ToString, colour: Colour) -> Self {
        Cell { text: text.to_string(), colour: Some(colour) }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }

    fn padded(&self, width: usize, style: Style) -> String {
        style.paint(self.colour.unwrap_or(Colour::Plain), &format!("{:width$}", self.text))
    }
}

/// Rows of cells below a head.
pub(super) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn new(head: &[&'static str]) -> Self {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells at its end may be left out.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The text, at most as wide as the style says as long as single cells are not wider. Columns
    /// that do not fit on the first line go to further ones, in every row alike.
    pub(super) fn text(&self, style: Style) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let head: Vec<Cell> = self.head.iter().map(|title| Cell::coloured(title, Colour::Dim)).collect();
        let widths: Vec<usize> = (0..head.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.chain(head.get(column)).map(Cell::width).max().unwrap_or(0)
            })
            .collect();
        let lines = split(&widths, style.width);
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            for (number, columns) in lines.iter().enumerate() {
                let line = line(row, columns.clone(), &widths, number > 0, style);
                // A row that continues another one has nothing on most of its lines.
                if number == 0 || !line.trim().is_empty() {
                    let _ = writeln!(text, "{line}");
                }
            }
        }
        text
    }
}

fn line(
    row: &[Cell],
    columns: std::ops::Range<usize>,
    widths: &[usize],
    further: bool,
    style: Style,
) -> String {
    let empty = Cell::default();
    // Behind the last cell with a text nothing is padded.
    let last =
        columns.clone().rev().find(|column| row.get(*column).is_some_and(|cell| !cell.text.is_empty()));
    let Some(last) = last else { return String::new() };
    let mut line = " ".repeat(if further { 2 * GAP } else { 0 });
    for column in columns.start..=last {
        let cell = row.get(column).unwrap_or(&empty);
        let width = if column == last { 0 } else { widths[column] };
        line += &cell.padded(width, style);
        if column != last {
            line += &" ".repeat(GAP);
        }
    }
    line
}

/// Which columns go on which line.
fn split(widths: &[usize], most: usize) -> Vec<std::ops::Range<usize>> {
    let mut lines = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (column, width) in widths.iter().enumerate() {
        let indent = if start > 0 { 2 * GAP } else { 0 };
        if column > start && indent + used + GAP + width > most {
            lines.push(start..column);
            (start, used) = (column, *width);
        } else {
            used += width + if column > start { GAP } else { 0 };
        }
    }
    lines.push(start..widths.len());
    lines
}

/// A text in lines of at most so many characters, broken at blanks; longer words stay whole.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW: Style = Style { width: 20, colours: false };

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "VALUE", "REST"]);
        table.row(vec![Cell::new("a"), Cell::new("1"), Cell::new("x")]);
        table.row(vec![Cell::new("long name"), Cell::default(), Cell::new("y")]);
        table.row(vec![Cell::new("b")]);
        table
    }

    #[test]
    fn columns_are_aligned_where_there_is_room() {
        let wide = Style { width: 80, colours: false };
        let expected = "NAME       VALUE  REST\na          1      x\nlong name         y\nb\n";
        assert_eq!(table().text(wide), expected);
    }

    #[test]
    fn what_does_not_fit_goes_to_the_next_line() {
        let expected = "NAME       VALUE\n    REST\na          1\n    x\nlong name\n    y\nb\n";
        assert_eq!(table().text(NARROW), expected);
        assert!(table().text(NARROW).lines().all(|line| line.len() <= 20));
    }

    #[test]
    fn colours_do_not_disturb_the_alignment() {
        let coloured = table().text(Style { width: 80, colours: true });
        assert!(
            coloured.contains("\x1b[2mNAME     \x1b[0m  \x1b[2mVALUE\x1b[0m  \x1b[2mREST\x1b[0m"),
            "{coloured}"
        );
    }

    #[test]
    fn text_is_broken_at_blanks() {
        assert_eq!(wrap("one two three four", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("averyverylongword x", 5), ["averyverylongword", "x"]);
    }
}
