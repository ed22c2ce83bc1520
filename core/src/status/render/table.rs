//! Tables that fit: aligned columns where there is room, and otherwise each row on several lines.

use std::fmt::Write;
use std::ops::Range;

use super::{Colour, Style};

/// Blanks between two columns where there is room, and where there is little.
const GAPS: [usize; 2] = [2, 1];

/// Blanks before the columns on further lines.
const INDENT: usize = 4;

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
    /// come closer together where that is enough; otherwise those that do not fit on the first line
    /// go to further ones, in every row alike.
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
        let whole = |gap: &usize| widths.iter().sum::<usize>() + gap * (widths.len() - 1) <= style.width;
        let gap = GAPS.into_iter().find(whole).unwrap_or(GAPS[0]);
        let layout = Layout { lines: split(&widths, gap, style.width), widths, gap };
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            // A row that continues another one has nothing on most of its lines.
            for line in layout.lines(row, style).filter(|line| !line.is_empty()) {
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }
}

/// Where each column goes.
struct Layout {
    lines: Vec<Range<usize>>,
    widths: Vec<usize>,
    gap: usize,
}

impl Layout {
    fn lines<'a>(&'a self, row: &'a [Cell], style: Style) -> impl Iterator<Item = String> + 'a {
        self.lines.iter().enumerate().map(move |(number, columns)| {
            let indent = if number == 0 { 0 } else { INDENT };
            self.line(row, columns.clone(), indent, style)
        })
    }

    fn line(&self, row: &[Cell], columns: Range<usize>, indent: usize, style: Style) -> String {
        let has_text = |column: &usize| row.get(*column).is_some_and(|cell| !cell.text.is_empty());
        // Behind the last cell with a text nothing is padded.
        let Some(last) = columns.clone().rev().find(has_text) else { return String::new() };
        let empty = Cell::default();
        let mut line = " ".repeat(indent);
        for column in columns.start..last {
            let cell = row.get(column).unwrap_or(&empty);
            line += &cell.padded(self.widths[column], style);
            line += &" ".repeat(self.gap);
        }
        line + &row.get(last).unwrap_or(&empty).padded(0, style)
    }
}

/// Which columns go on which line.
fn split(widths: &[usize], gap: usize, most: usize) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (column, width) in widths.iter().enumerate() {
        if column > start && used + gap + width > most {
            lines.push(start..column);
            (start, used) = (column, INDENT + width);
        } else {
            used += width + if column > start { gap } else { 0 };
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

    const NARROW: Style = Style { width: 19, colours: false };

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
        assert!(table().text(NARROW).lines().all(|line| line.len() <= 19));
    }

    #[test]
    fn columns_come_closer_where_that_is_enough() {
        let text = table().text(Style { width: 21, colours: false });
        assert!(text.starts_with("NAME      VALUE REST\n"), "{text}");
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
