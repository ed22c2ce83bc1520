//! Curves as SVG.
//!
//! Both axes are logarithmic: the counts span decades, and so does what is compared. A straight
//! line of slope one is linear growth, a level one no growth.

use std::fmt::Write;

use crate::finding::{Plot, Series};
use crate::report::number;

/// The drawing's size, and the edges of the area with the curves.
const SIZE: (f64, f64) = (720.0, 420.0);
const LEFT: f64 = 76.0;
const RIGHT: f64 = 520.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 356.0;

/// Told apart by people who see no red or no green (Okabe and Ito).
const COLOURS: [&str; 5] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00"];

/// Maps values to positions on one axis.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Spans all values, with some room at both ends.
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let logs: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low > high {
            return Axis { low: 0.0, high: 1.0, from, to };
        }
        let room = ((high - low) * 0.08).max(0.1);
        Axis { low: low - room, high: high + room, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(1e-9).log10() - self.low) / (self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    /// Round values on the axis: decades, and where those are few, halves of them.
    fn ticks(&self) -> Vec<f64> {
        let decades: Vec<f64> =
            (self.low.floor() as i32..=self.high.ceil() as i32).map(|e| 10f64.powi(e)).collect();
        let fine: &[f64] = if self.high - self.low > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let all = decades.iter().flat_map(|decade| fine.iter().map(move |factor| decade * factor));
        all.filter(|tick| (self.low..=self.high).contains(&tick.log10())).collect()
    }
}

/// Draws curves.
pub fn svg(plot: &Plot) -> String {
    let points = || plot.series.iter().flat_map(|series| &series.points);
    let x = Axis::new(points().map(|(count, _)| *count), LEFT, RIGHT);
    let y = Axis::new(points().flat_map(|(_, s)| [s.lower, s.median, s.upper]), BOTTOM, TOP);
    let mut out = String::new();
    let (width, height) = SIZE;
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"30\" font-size=\"17\" font-weight=\"bold\">{}</text>",
        escape(&plot.title)
    );
    grid(&mut out, plot, &x, &y);
    for (series, colour) in plot.series.iter().zip(COLOURS.iter().cycle()) {
        curve(&mut out, series, colour, &x, &y);
    }
    labels(&mut out, plot, &y);
    out.push_str("</svg>\n");
    out
}

fn grid(out: &mut String, plot: &Plot, x: &Axis, y: &Axis) {
    for tick in y.ticks() {
        let at = y.at(tick);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{RIGHT}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            at + 4.5,
            plain(tick)
        );
    }
    // Where the counts are few, they are the ticks; else they would lie on each other.
    let mut counts: Vec<f64> = plot.series.iter().flat_map(|s| s.points.iter().map(|p| p.0)).collect();
    counts.sort_by(f64::total_cmp);
    counts.dedup();
    for count in counts {
        let at = x.at(count);
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" y1=\"{BOTTOM}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#222\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 5.0,
            BOTTOM + 21.0,
            plain(count)
        );
    }
    let middle = (LEFT + RIGHT) / 2.0;
    let _ = writeln!(
        out,
        "<path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" fill=\"none\" stroke=\"#222\"/>\n\
         <text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        BOTTOM + 46.0,
        escape(plot.x),
        LEFT - 56.0,
        TOP - 8.0,
        escape(plot.y)
    );
}

/// The medians as a line, and the middle half of the samples as a bar on each.
fn curve(out: &mut String, series: &Series, colour: &str, x: &Axis, y: &Axis) {
    let positions: Vec<String> =
        series.points.iter().map(|(count, s)| format!("{:.1},{:.1}", x.at(*count), y.at(s.median))).collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>",
        positions.join(" ")
    );
    for (count, summary) in &series.points {
        let at = x.at(*count);
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" y1=\"{:.1}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>\
             <circle cx=\"{at:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/>",
            y.at(summary.lower),
            y.at(summary.upper),
            y.at(summary.median)
        );
    }
}

/// The name of each curve at its end, pushed apart where ends meet.
fn labels(out: &mut String, plot: &Plot, y: &Axis) {
    let mut ends: Vec<(f64, &Series, &str)> = plot
        .series
        .iter()
        .zip(COLOURS.iter().cycle())
        .filter_map(|(series, colour)| Some((y.at(series.points.last()?.1.median), series, *colour)))
        .collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = f64::NEG_INFINITY;
    for (at, series, colour) in ends {
        let at = at.max(free);
        free = at + 34.0;
        let value = series.points.last().map(|(_, s)| number(s.median)).unwrap_or_default();
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#555\" font-size=\"12\">{value} {}</text>",
            RIGHT + 8.0,
            at + 2.0,
            escape(&series.name),
            RIGHT + 8.0,
            at + 17.0,
            escape(plot.y)
        );
    }
}

/// A tick's value without digits that say nothing.
fn plain(value: f64) -> String {
    if value >= 1.0 {
        return format!("{value:.0}");
    }
    let text = format!("{value:.6}");
    text.trim_end_matches('0').to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Summary;

    #[test]
    fn a_drawing_names_its_curves_and_counts() {
        let points = [1.0, 100.0].map(|count| (count, Summary::of(&[count * 2.0]))).to_vec();
        let series = vec![Series { name: "ours & theirs".into(), points }];
        let plot = Plot { name: "p", title: "Cost".into(), x: "peers", y: "ms", series };
        let drawn = svg(&plot);
        for wanted in ["Cost", "ours &amp; theirs", ">100<", "peers", "200 ms"] {
            assert!(drawn.contains(wanted), "{wanted} is missing: {drawn}");
        }
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    }

    #[test]
    fn ticks_are_round() {
        // Room at both ends lets it reach from 2.4 to 50.4.
        let axis = Axis::new([3.0, 40.0].into_iter(), 0.0, 1.0);
        assert_eq!(axis.ticks(), [5.0, 10.0, 20.0, 50.0]);
    }
}
