//! What happens in a month: episodes of a few hours, each with one kind of trouble, and a calm
//! after it in which everything must become exact.
//!
//! What DNS says wrongly with all voices for longer than a threshold is believed, by design. So
//! the lies of all resolvers of a site at once end before: those about many after eight minutes
//! (`mass_hold` is ten), those about a few after 20 seconds (`hold_down` is 30). Lies of one
//! resolver beside one that tells the truth, and failures of any kind, last for hours.

use crate::minion::Start;
use crate::random::Random;
use crate::simulation::{Action, Simulation};
use crate::world::{Fault, Kind, LAG, RESOLVERS, SITES, Seconds};

/// Longer than the longest hold after the end of samples, and than removed peers are remembered.
const CALM: Seconds = 2 * 3600;

/// The kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// Several failures at once, each of some resolvers, names and sites.
    Failures,
    /// All resolvers lie about many.
    MassLie,
    Samples,
    Flapping,
    /// One resolver lies beside others that do not.
    Liar,
    /// Many nodes do not reach DNS, at different times.
    Partitions,
    /// More than a third of the cluster leaves at once, and returns.
    Resize,
    /// The resolvers in resolv.conf are exchanged, again and again, by others or by none.
    Resolvers,
}

pub const TROUBLES: [Trouble; 9] = [
    Trouble::None,
    Trouble::Failures,
    Trouble::MassLie,
    Trouble::Samples,
    Trouble::Flapping,
    Trouble::Liar,
    Trouble::Partitions,
    Trouble::Resize,
    Trouble::Resolvers,
];

impl Simulation {
    /// One episode from now on: everything that will happen in it, and then that.
    pub fn episode(&mut self, trouble: Trouble) {
        let begin = self.world.now;
        let end = begin + self.random.between(3600, 3 * 3600);
        match trouble {
            Trouble::None => self.bounces(begin, end),
            Trouble::Failures => self.failures(begin, end),
            Trouble::MassLie => self.mass_lies(begin, end),
            Trouble::Samples => self.fault(begin + 600, begin + 2400, Kind::Eight, |_, _| {}),
            Trouble::Flapping => self.fault(begin + 600, begin + 3000, Kind::Flapping, |_, _| {}),
            Trouble::Liar => self.liar(begin + 60, end),
            Trouble::Partitions => self.partitions(begin, end),
            Trouble::Resolvers => self.exchanges(begin, end),
            Trouble::Resize => {
                let count = self.wanted * 2 / 5;
                self.at(begin + 300, Action::Leave(count));
                self.at(end - 600, Action::Join(count));
            }
        }
        self.background(begin, end);
        self.at(end + CALM, Action::Check);
        self.run();
    }

    /// What happens whatever else is wrong.
    fn background(&mut self, begin: Seconds, end: Seconds) {
        let mut when = begin;
        loop {
            when += self.random.between(1, 2400);
            if when >= end {
                break;
            }
            let few = self.random.between(1, 5) as usize;
            let action = match self.random.below(8) {
                0 | 1 => Action::Join(few),
                2 | 3 => Action::Leave(few),
                4 => Action::Renumber(few),
                5 => Action::Damage,
                _ => {
                    let most = [5, 100, usize::MAX >> 1][self.random.below(3)];
                    let found =
                        Start { snapshot: self.random.below(3) > 0, tables: self.random.below(3) > 0 };
                    Action::Restart(most, found)
                }
            };
            self.at(when, action);
        }
    }

    fn fault(&mut self, begin: Seconds, end: Seconds, kind: Kind, scope: impl Fn(&mut Fault, &mut Random)) {
        let (id, middle) = (self.unique(), self.random.between(begin, end));
        let mut fault = Fault::new(id, kind);
        scope(&mut fault, &mut self.random);
        self.at(begin, Action::Begin(fault));
        // A daemon that starts in the middle of it knows only what was left to it.
        let found = Start { snapshot: self.random.below(2) == 0, tables: true };
        self.at(middle, Action::Restart(20, found));
        self.at(end, Action::End(id));
    }

    fn bounces(&mut self, begin: Seconds, end: Seconds) {
        for _ in 0..5 {
            let (when, seconds) = (self.random.between(begin, end), self.random.between(1, 20));
            self.at(when, Action::Bounce(seconds));
        }
    }

    fn failures(&mut self, begin: Seconds, end: Seconds) {
        for _ in 0..self.random.between(1, 6) {
            let kind = [Kind::Failing, Kind::Failing, Kind::Truncated, Kind::NoV6, Kind::Slow(9)]
                [self.random.below(5)];
            let from = self.random.between(begin, end);
            let until = self.random.between(from, end);
            self.fault(from, until, kind, |fault, random| {
                // None stands for all.
                let mut any = |which: &mut [bool]| {
                    let some: Vec<bool> = which.iter().map(|_| random.below(2) == 0).collect();
                    if some.contains(&true) {
                        which.copy_from_slice(&some);
                    }
                };
                any(&mut fault.resolvers);
                any(&mut fault.names);
                any(&mut fault.sites);
            });
        }
    }

    /// Each site asks others for a while: one, all, none, or the same in another order.
    fn exchanges(&mut self, begin: Seconds, end: Seconds) {
        for (site, [first, second]) in SITES.into_iter().enumerate() {
            for _ in 0..self.random.between(1, 6) {
                let when = self.random.between(begin, end);
                let others =
                    [vec![second], vec![0, 1, 2], Vec::new(), vec![second, first], vec![3 - first - second]];
                let resolvers = others[self.random.below(others.len())].clone();
                self.at(when, Action::Ask(site, resolvers));
            }
            self.at(end, Action::Ask(site, vec![first, second]));
        }
    }

    /// Lies of all, with an hour between them.
    fn mass_lies(&mut self, begin: Seconds, end: Seconds) {
        let mut from = begin + 300;
        while from + 480 < end {
            let lasts = self.random.between(60, 480);
            let kind = match self.random.below(4) {
                0 => Kind::Replaced(300),
                1 => Kind::Replaced(3000),
                _ => Kind::Lacking(self.random.between(45, 95)),
            };
            // The resolvers do not all begin and end at the same moment.
            for liar in 0..RESOLVERS.len() {
                let begin = from + self.random.between(0, LAG);
                self.fault(begin, from + lasts, kind, |fault, _| {
                    (fault.salt, fault.resolvers) = (from, [0, 1, 2].map(|n| n == liar));
                });
            }
            // A lie about few, which the guard against removals en masse does not notice.
            let (percent, later) = (self.random.between(1, 25), from + 1800);
            self.fault(later, later + 20, Kind::Lacking(percent), |_, _| {});
            from += 3600;
        }
    }

    fn liar(&mut self, begin: Seconds, end: Seconds) {
        let kinds = [
            Kind::Lacking(50),
            Kind::Lacking(5),
            Kind::Replaced(300),
            Kind::Eight,
            Kind::Stale,
            Kind::Flapping,
        ];
        let (kind, liar) = (kinds[self.random.below(kinds.len())], self.random.below(3));
        self.fault(begin, end, kind, |fault, _| fault.resolvers = [0, 1, 2].map(|n| n == liar));
    }

    fn partitions(&mut self, begin: Seconds, end: Seconds) {
        for _ in 0..self.random.between(2, 8) {
            let when = self.random.between(begin, end);
            let lasts = self.random.between(1, end - when);
            let most = [10, 1000, usize::MAX >> 1][self.random.below(3)];
            self.at(when, Action::Cut(most, lasts));
        }
    }
}
