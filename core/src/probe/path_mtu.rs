//! Searches the largest packet that passes to a peer.
//!
//! Sizes are those of the IP packet inside of the tunnel, in octets: what a pod's packet may
//! have. The full size is tried first, and is all that is ever tried on a path that is right.
//! Where it does not pass although small packets do, the largest that does is searched by
//! halving, and then the full size is tried again from time to time.

use std::time::Duration;

use super::Limits;

/// What is known of the path to one peer.
#[derive(Clone, Debug)]
pub(super) struct PathMtu {
    /// The size that pods may send: the MTU of the overlay.
    full: u16,
    /// A size that passes whenever anything does: that of the small packets.
    floor: u16,
    /// The largest size that passed when it was last searched, and when that was.
    known: Option<(u16, Duration)>,
    search: Option<Search>,
}

#[derive(Clone, Copy, Debug)]
struct Search {
    /// Passes.
    low: u16,
    /// Does not pass, if that is known of any.
    high: Option<u16>,
    /// What passed when it was last searched.
    hint: Option<u16>,
    /// Losses of the size that is being tried.
    losses: u32,
}

impl PathMtu {
    pub(super) fn new(full: u16, floor: u16) -> Self {
        PathMtu { full: full.max(floor), floor, known: None, search: None }
    }

    /// Takes what was known of the same path before, if that can be, as if it had been found here.
    pub(super) fn recall(&mut self, size: u16, at: Duration) {
        if (self.floor..=self.full).contains(&size) {
            self.known = Some((size, at));
        }
    }

    /// What [`PathMtu::recall`] takes; nothing while the path is in doubt.
    pub(super) fn settled(&self) -> Option<(u16, Duration)> {
        self.known.filter(|_| self.search.is_none())
    }

    /// Takes another full size: everything is tried anew.
    pub(super) fn set_full(&mut self, full: u16) {
        let full = full.max(self.floor);
        if full != self.full {
            *self = PathMtu::new(full, self.floor);
        }
    }

    /// Forgets how fresh the knowledge is, so that the next visit tries again.
    pub(super) fn doubt(&mut self) {
        if self.search.is_none() {
            self.search = Some(self.begin());
        }
    }

    /// The size to try now, if any.
    pub(super) fn wanted(&mut self, now: Duration, limits: &Limits) -> Option<u16> {
        if self.search.is_none() && self.is_stale(now, limits) {
            self.search = Some(self.begin());
        }
        self.search.map(|search| search.next(self.full))
    }

    /// The full size, if it passed the last time and is to be tried again now.
    pub(super) fn again(&mut self, now: Duration, limits: &Limits) -> Option<u16> {
        let passed = self.settled().is_some_and(|(size, _)| size == self.full);
        if passed && self.is_stale(now, limits) { self.wanted(now, limits) } else { None }
    }

    /// Whether the full size is to be tried with the next visit.
    pub(super) fn is_stale(&self, now: Duration, limits: &Limits) -> bool {
        self.known.is_none_or(|(_, at)| now.saturating_sub(at) >= limits.mtu_recheck)
    }

    /// Takes note that a size passed. Returns the largest size when that is now known.
    pub(super) fn passed(&mut self, size: u16, now: Duration) -> Option<u16> {
        let search = self.search.as_mut().filter(|search| search.next(self.full) == size)?;
        search.low = size;
        search.losses = 0;
        self.conclude(now)
    }

    /// Takes note that a size was lost, while a small packet that was sent with it passed.
    /// Returns the largest size when that is now known.
    pub(super) fn lost(&mut self, size: u16, now: Duration, limits: &Limits) -> Option<u16> {
        let search = self.search.as_mut().filter(|search| search.next(self.full) == size)?;
        search.losses += 1;
        if search.losses < limits.mtu_tries {
            return None;
        }
        search.high = Some(size);
        search.losses = 0;
        self.conclude(now)
    }

    /// The size that should pass.
    pub(super) fn full(&self) -> u16 {
        self.full
    }

    /// The largest size that passed when it was last searched.
    pub(super) fn known(&self) -> Option<u16> {
        self.known.map(|(size, _)| size)
    }

    /// Whether that is less than the full size.
    pub(super) fn is_limited(&self) -> bool {
        self.known().is_some_and(|size| size < self.full)
    }

    /// Whether a size is to be tried at the next opportunity.
    pub(super) fn is_open(&self) -> bool {
        self.search.is_some()
    }

    /// Whether the full size is known not to pass, and the largest that does is not known yet.
    pub(super) fn is_searching(&self) -> bool {
        self.search.is_some_and(|search| search.high.is_some() || search.losses > 0)
    }

    fn begin(&self) -> Search {
        let hint = self.known().filter(|size| (self.floor + 1..self.full).contains(size));
        Search { low: self.floor, high: None, hint, losses: 0 }
    }

    fn conclude(&mut self, now: Duration) -> Option<u16> {
        let search = self.search?;
        let end = search.high.map_or(self.full, |high| high - 1);
        if search.low < end {
            return None;
        }
        self.search = None;
        self.known = Some((search.low, now));
        Some(search.low)
    }
}

impl Search {
    /// The size to try next; larger than what passes, smaller than what does not.
    fn next(&self, full: u16) -> u16 {
        let Some(high) = self.high else { return full };
        match self.hint {
            // Is it still as it was?
            Some(hint) if self.low < hint && hint < high => hint,
            Some(hint) if self.low == hint && hint + 1 < high => hint + 1,
            _ => self.low + (high - self.low) / 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FLOOR: u16 = 124;

    fn limits() -> Limits {
        Limits::every(Duration::from_secs(30))
    }

    /// Searches on a path that lets sizes up to `real` pass; returns what it found and how many
    /// packets it took.
    fn search(mtu: &mut PathMtu, real: u16, now: Duration) -> (u16, u32) {
        let limits = limits();
        for packets in 1..200 {
            let size = mtu.wanted(now, &limits).unwrap();
            let found = if size <= real { mtu.passed(size, now) } else { mtu.lost(size, now, &limits) };
            if let Some(found) = found {
                return (found, packets);
            }
        }
        panic!("no end: {mtu:?}");
    }

    proptest! {
        #[test]
        fn it_finds_the_largest(full in FLOOR..9000, real in FLOOR..9000, later in FLOOR..9000) {
            let mut mtu = PathMtu::new(full, FLOOR);
            let (found, packets) = search(&mut mtu, real, Duration::ZERO);
            prop_assert_eq!(found, real.min(full));
            prop_assert!(packets <= 3 * 15, "{}", packets);
            prop_assert_eq!(mtu.is_limited(), real < full);
            // Nothing more to do until it is stale, and then the same on another path.
            prop_assert_eq!(mtu.wanted(Duration::from_secs(119), &limits()), None);
            let (found, packets) = search(&mut mtu, later, Duration::from_secs(120));
            prop_assert_eq!(found, later.min(full));
            prop_assert!(packets <= 3 * 17, "{}", packets);
        }
    }

    #[test]
    fn a_path_that_is_right_costs_one_packet() {
        let mut mtu = PathMtu::new(1450, FLOOR);
        assert_eq!(search(&mut mtu, 1500, Duration::ZERO), (1450, 1));
        assert!(!mtu.is_limited() && !mtu.is_searching());
    }

    #[test]
    fn a_limit_that_stays_is_confirmed_by_seven_packets() {
        let mut mtu = PathMtu::new(1450, FLOOR);
        assert_eq!(search(&mut mtu, 1350, Duration::ZERO).0, 1350);
        assert_eq!(search(&mut mtu, 1350, Duration::from_secs(300)), (1350, 7));
    }

    #[test]
    fn what_is_known_stays_known_while_it_is_checked() {
        let (mut mtu, limits) = (PathMtu::new(1450, FLOOR), limits());
        search(&mut mtu, 1500, Duration::ZERO);
        let now = Duration::from_secs(120);
        assert_eq!(mtu.wanted(now, &limits), Some(1450));
        assert_eq!(mtu.lost(1450, now, &limits), None);
        assert_eq!(mtu.known(), Some(1450));
        assert!(mtu.is_searching());
        // A late word about another size changes nothing.
        assert_eq!(mtu.passed(1300, now), None);
        assert_eq!(mtu.passed(1450, now), Some(1450));
    }

    #[test]
    fn what_is_recalled_is_as_old_as_it_was() {
        let (mut mtu, limits) = (PathMtu::new(1450, FLOOR), limits());
        search(&mut mtu, 1350, Duration::from_secs(100));
        let (size, at) = mtu.settled().unwrap();
        let mut later = PathMtu::new(1450, FLOOR);
        later.recall(size, at);
        assert!(later.is_limited());
        assert_eq!(later.wanted(Duration::from_secs(219), &limits), None);
        assert_eq!(later.wanted(Duration::from_secs(220), &limits), Some(1450));
        assert_eq!(later.settled(), None, "in doubt now");
        let mut other = PathMtu::new(1300, FLOOR);
        other.recall(size, at);
        other.recall(FLOOR - 1, at);
        assert_eq!(other.known(), None, "no such packet was ever sent on this path");
    }

    #[test]
    fn another_full_size_is_tried_at_once() {
        let (mut mtu, limits) = (PathMtu::new(1450, FLOOR), limits());
        search(&mut mtu, 1500, Duration::ZERO);
        mtu.set_full(1450);
        assert_eq!(mtu.wanted(Duration::ZERO, &limits), None);
        mtu.set_full(8950);
        assert_eq!((mtu.known(), mtu.wanted(Duration::ZERO, &limits)), (None, Some(8950)));
        mtu.set_full(10);
        assert_eq!(search(&mut mtu, 9000, Duration::ZERO), (FLOOR, 1));
    }

    #[test]
    fn doubt_makes_it_try_again() {
        let (mut mtu, limits) = (PathMtu::new(1450, FLOOR), limits());
        search(&mut mtu, 1500, Duration::ZERO);
        mtu.doubt();
        assert_eq!(mtu.wanted(Duration::ZERO, &limits), Some(1450));
        assert_eq!(mtu.known(), Some(1450));
    }
}
