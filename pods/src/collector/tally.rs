//! How much passes have removed, all together.

use std::collections::BTreeMap;

use super::{Outcome, Removed};

/// What was removed since the start, and how often something could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// What was removed, by its kind; every kind is there from the beginning.
    pub removed: BTreeMap<&'static str, u64>,
    /// What should have been removed and was not.
    pub failed: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let kinds = ["dead", "interface", "lease", "route", "unfinished"];
        Tally { removed: kinds.map(|kind| (kind, 0)).into(), failed: 0 }
    }
}

impl Tally {
    /// Adds what a pass did.
    pub fn add(&mut self, outcome: &Outcome) {
        for removed in &outcome.removed {
            let (kind, count) = match removed {
                Removed::Unfinished(_) => ("unfinished", 1),
                Removed::Dead(_) => ("dead", 1),
                Removed::Interface(_) => ("interface", 1),
                Removed::Leases(count) => ("lease", *count as u64),
                Removed::Route(_) => ("route", 1),
            };
            *self.removed.entry(kind).or_default() += count;
        }
        self.failed += outcome.failed.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_there_before_and_after() {
        let mut tally = Tally::default();
        let kinds: Vec<_> = tally.removed.keys().copied().collect();
        let text = || "x".to_owned();
        let removed = vec![
            Removed::Unfinished(text()),
            Removed::Dead(text()),
            Removed::Dead(text()),
            Removed::Interface(text()),
            Removed::Leases(7),
            Removed::Route(text()),
        ];
        tally.add(&Outcome { removed, failed: Vec::new() });
        assert_eq!(tally.removed.keys().copied().collect::<Vec<_>>(), kinds);
        assert_eq!(tally.removed.values().copied().collect::<Vec<_>>(), [2, 1, 7, 1, 1]);
    }
}
