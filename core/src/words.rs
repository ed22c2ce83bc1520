//! Times, numbers and lists in words, as all commands print them.

use std::fmt::Display;

/// How long it lasted, in one unit: `12 s`, `3 min`, `5 h`, `2 d`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long ago it was. A clock that was set back makes it now.
pub fn ago(now: u64, at: u64) -> String {
    format!("{} ago", span(now.saturating_sub(at)))
}

/// The first few of several: `a, b and 7 more`.
pub fn few<T: Display>(items: impl ExactSizeIterator<Item = T>) -> String {
    const FEW: usize = 3;
    let more = items.len().saturating_sub(FEW);
    let text = items.take(FEW).map(|item| item.to_string()).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}

/// `1 peer`, `2 peers`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {}", choose(number, noun, &format!("{noun}s")))
}

/// The first for one of something, the second for none and for several: `is` and `are`.
pub fn choose<'a>(number: usize, one: &'a str, several: &'a str) -> &'a str {
    if number == 1 { one } else { several }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_one_unit() {
        let spans =
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d")];
        for (seconds, text) in spans {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(ago(5, 9), "0 s ago");
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|n| count(n, "peer")), ["0 peers", "1 peer", "2 peers"]);
        assert_eq!([0, 1, 2].map(|n| choose(n, "is", "are")), ["are", "is", "are"]);
    }

    #[test]
    fn a_long_list_is_cut() {
        assert_eq!(few([1, 2, 3].iter()), "1, 2, 3");
        assert_eq!(few([1, 2, 3, 4, 5].iter()), "1, 2, 3 and 2 more");
    }
}
