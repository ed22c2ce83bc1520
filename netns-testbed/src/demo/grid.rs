//! The reachability matrix as text, at most 80 columns wide. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use minionet_core::addr::Family;

use super::report::Pair;
use crate::terminal::{Colour, Paint};

/// The width of a line.
const WIDTH: usize = 80;
/// From so many pods on, a line for each pod is printed instead of a column for each.
const MANY: usize = 33;

/// The matrix of every family that there is, for pods in this order.
pub fn matrix(pods: &[&str], pairs: &[Pair], paint: Paint) -> String {
    let mut text = String::new();
    for family in [Family::V4, Family::V6] {
        let pairs: Vec<&Pair> = pairs.iter().filter(|pair| pair.family == family).collect();
        if pairs.is_empty() {
            continue;
        }
        let title = format!("Reachability over {family}");
        let _ = writeln!(text, "\n{}", paint.paint(Colour::Bold, &title));
        if pods.len() < MANY {
            text += "round-trip times in microseconds, from the pod on the left to the pod above\n";
            text += &full(pods, &pairs, paint);
        } else {
            text += "round-trip times in microseconds from each pod to all others\n";
            text += &short(pods, &pairs, paint);
        }
        let answered = pairs.iter().filter(|pair| pair.rtt_us.is_some()).count();
        let (verdict, colour) = if answered == pairs.len() {
            (format!("complete: {answered} of {} answered", pairs.len()), Colour::Green)
        } else {
            (format!("INCOMPLETE: {answered} of {} answered", pairs.len()), Colour::Red)
        };
        let _ = writeln!(text, "{}", paint.paint(colour, &verdict));
    }
    text
}

/// A column for each pod, in as many blocks as it takes.
fn full(pods: &[&str], pairs: &[&Pair], paint: Paint) -> String {
    let known: BTreeMap<(&str, &str), Option<u64>> =
        pairs.iter().map(|pair| ((pair.from.as_str(), pair.to.as_str()), pair.rtt_us)).collect();
    let cell = &|from: &str, to: &str| match known.get(&(from, to)) {
        Some(Some(rtt)) => rtt.to_string(),
        Some(None) => "LOST".to_owned(),
        None => ".".to_owned(),
    };
    // Above a column, the number says it all.
    let above = |pod: &str| pod.strip_prefix("pod").unwrap_or(pod).to_owned();
    let name = pods.iter().map(|pod| pod.len()).max().unwrap_or(0);
    let cells = pods.iter().flat_map(|from| pods.iter().map(move |to| cell(from, to)));
    let longest = cells.chain(pods.iter().map(|pod| above(pod))).map(|cell| cell.len()).max();
    let width = longest.unwrap_or(0) + 2;
    // Blocks of about the same size.
    let blocks = pods.len().div_ceil(((WIDTH - name) / width).max(1)).max(1);
    let per_block = pods.len().div_ceil(blocks).max(1);
    let mut text = String::new();
    for (number, block) in pods.chunks(per_block).enumerate() {
        if number > 0 {
            text.push('\n');
        }
        let heads: String = block.iter().map(|to| format!("{:>width$}", above(to))).collect();
        let _ = writeln!(text, "{:name$}{heads}", "");
        for from in pods {
            let _ = write!(text, "{from:name$}");
            for to in block {
                let cell = cell(from, to);
                let padded = format!("{cell:>width$}");
                text += &match cell.as_str() {
                    "LOST" => paint.paint(Colour::Red, &padded),
                    "." => paint.paint(Colour::Dim, &padded),
                    _ => padded,
                };
            }
            text.push('\n');
        }
    }
    text
}

/// A line for each pod.
fn short(pods: &[&str], pairs: &[&Pair], paint: Paint) -> String {
    let name = pods.iter().map(|pod| pod.len()).max().unwrap_or(0).max("POD".len());
    let mut text =
        format!("{:name$} {:>12} {:>8} {:>8} {:>8}  LOST\n", "POD", "ANSWERED", "LEAST", "MEDIAN", "MOST");
    for pod in pods {
        let own: Vec<&&Pair> = pairs.iter().filter(|pair| pair.from == *pod).collect();
        let mut times: Vec<u64> = own.iter().filter_map(|pair| pair.rtt_us).collect();
        times.sort_unstable();
        let time = |position: usize| times.get(position).map_or("-".to_owned(), u64::to_string);
        let answered = format!("{} of {}", times.len(), own.len());
        let (least, median, most) = (time(0), time(times.len() / 2), time(times.len().saturating_sub(1)));
        let _ = write!(text, "{pod:name$} {answered:>12} {least:>8} {median:>8} {most:>8}");
        let lost: Vec<&str> =
            own.iter().filter(|pair| pair.rtt_us.is_none()).map(|pair| pair.to.as_str()).collect();
        if !lost.is_empty() {
            let more = if lost.len() > 3 { " ..." } else { "" };
            let first = lost.iter().take(3).copied().collect::<Vec<_>>().join(" ");
            text += &format!("  {}", paint.paint(Colour::Red, &format!("{first}{more}")));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("pod{}-{}", number / 2 + 1, number % 2 + 1)).collect()
    }

    fn pairs(names: &[String], family: Family) -> Vec<Pair> {
        let address =
            if family == Family::V4 { [10, 32, 1, 2].into() } else { [0xfd00, 0, 0, 0, 0, 0, 0, 2].into() };
        let all = names.iter().flat_map(|from| names.iter().map(move |to| (from, to)));
        all.filter(|(from, to)| from != to)
            .enumerate()
            .map(|(number, (from, to))| Pair {
                from: from.clone(),
                to: to.clone(),
                family,
                address,
                rtt_us: Some(90 + number as u64),
            })
            .collect()
    }

    fn render(names: &[String], pairs: &[Pair]) -> String {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        matrix(&names, pairs, Paint::PLAIN)
    }

    #[test]
    fn six_pods_fit_into_one_block() {
        let names = names(6);
        let text = render(&names, &pairs(&names, Family::V4));
        let expected = "
Reachability over IPv4
round-trip times in microseconds, from the pod on the left to the pod above
        1-1  1-2  2-1  2-2  3-1  3-2
pod1-1    .   90   91   92   93   94
pod1-2   95    .   96   97   98   99
pod2-1  100  101    .  102  103  104
pod2-2  105  106  107    .  108  109
pod3-1  110  111  112  113    .  114
pod3-2  115  116  117  118  119    .
complete: 30 of 30 answered
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_lost_answer_is_seen_in_its_place_and_in_the_sum() {
        let names = names(2);
        let mut pairs = pairs(&names, Family::V6);
        pairs[1].rtt_us = None;
        let text = render(&names, &pairs);
        assert!(text.contains("pod1-1     .    90\npod1-2  LOST     .\n"), "{text}");
        assert!(text.contains("Reachability over IPv6") && !text.contains("IPv4"), "{text}");
        assert!(text.ends_with("INCOMPLETE: 1 of 2 answered\n"), "{text}");
    }

    #[test]
    fn many_pods_stay_within_the_line_and_none_is_left_out() {
        for count in [1, 10, 11, 20, 32, 33, 120] {
            let names = names(count);
            let mut pairs = pairs(&names, Family::V4);
            if let Some(pair) = pairs.last_mut() {
                pair.rtt_us = None;
            }
            let text = render(&names, &pairs);
            assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
            let rows =
                |name: &String| text.lines().filter(|line| line.split(' ').next() == Some(name)).count();
            assert!(count == 1 || names.iter().all(|name| rows(name) >= 1), "{text}");
            if count >= MANY {
                assert!(text.contains(&format!("{} of {}", count - 1, count - 1)), "{text}");
            }
        }
    }
}
