//! When a change is tried again that the kernel refused.
//!
//! What is refused for a lasting reason would be refused with every look at the tables again, and
//! there is one with each notification: so a refused change waits, twice as long each time. A wait
//! ends early when what stood in the way may have changed: when the device or the interface below
//! it is not what it was, or when the caller heard of it ([`Patience::hurry`]).
//!
//! Architecture invariants:
//! * Only what differs waits: a change that is not wanted any more is forgotten, with its delay.
//!   So no more is remembered than the last difference had changes.
//! * A change that waits is a trouble that is shown: [`Patience::refused`] has it until it was
//!   carried out, or is not wanted any more.
//! * One thing that is refused keeps nothing else from being tried, but for the device, on which
//!   everything lies.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Change, ObservedDevice};

/// How long a refused change waits at first. Each further refusal for the same reason doubles it.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// How long a refused change waits at most.
pub const LONGEST: Duration = Duration::from_secs(5 * 60);

/// How often a change is tried again at once that the kernel refused for a passing reason, such as
/// a lack of memory; then it waits like any other.
pub const AT_ONCE: u32 = 2;

/// What the kernel said to a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it refused.
    pub change: Change,
    /// Its error number; none where the refusal has none.
    pub errno: Option<i32>,
    /// Whether the same may succeed without anybody changing anything.
    pub temporary: bool,
    /// The same for people.
    pub text: String,
}

/// What all refused changes may depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ground {
    /// The device with our name.
    pub device: Option<ObservedDevice>,
    /// The number of the interface below it, and whether it is up.
    pub underlay: Option<(u32, bool)>,
}

/// Who waits for what, and until when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    waiting: BTreeMap<Change, Wait>,
    ground: Ground,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Wait {
    /// When it is tried again.
    until: Duration,
    /// How long it waits; nothing while it is tried again at once.
    delay: Duration,
    /// How often it is still tried again at once.
    at_once: u32,
    errno: Option<i32>,
    text: String,
}

impl Patience {
    /// Which of these changes, the whole difference, are tried now; in their order.
    ///
    /// While a change of the device waits, nothing is.
    pub fn due(&mut self, changes: Vec<Change>, ground: Ground, now: Duration) -> Vec<Change> {
        if self.ground != ground {
            self.ground = ground;
            self.hurry();
        }
        if !self.waiting.is_empty() {
            let wanted: BTreeSet<&Change> = changes.iter().collect();
            self.waiting.retain(|change, _| wanted.contains(change));
        }
        let waits = |change: &Change| self.waiting.get(change).is_some_and(|wait| wait.until > now);
        if changes.iter().any(|change| change.object() == DEVICE && waits(change)) {
            return Vec::new();
        }
        changes.into_iter().filter(|change| !waits(change)).collect()
    }

    /// Takes in what became of changes that were tried: those without a refusal were carried out,
    /// or not tried after all where the device was refused.
    pub fn tried(&mut self, changes: &[Change], refusals: Vec<Refusal>, now: Duration) {
        let refused: BTreeSet<&Change> = refusals.iter().map(|refusal| &refusal.change).collect();
        let all_tried = !refused.iter().any(|change| change.object() == DEVICE);
        for change in changes.iter().filter(|change| !refused.contains(change)) {
            if all_tried || change.object() == DEVICE {
                self.waiting.remove(change);
            }
        }
        for refusal in refusals {
            self.refuse(refusal, now);
        }
    }

    fn refuse(&mut self, refusal: Refusal, now: Duration) {
        let Refusal { change, errno, temporary, text } = refusal;
        let known = self.waiting.remove(&change).filter(|wait| wait.errno == errno);
        let at_once = known.as_ref().map_or(AT_ONCE, |wait| wait.at_once);
        let delay = match known {
            _ if temporary && at_once > 0 => Duration::ZERO,
            Some(wait) => (wait.delay * 2).clamp(SHORTEST, LONGEST),
            None => SHORTEST,
        };
        let until = now.saturating_add(delay);
        let at_once = at_once.saturating_sub(1);
        self.waiting.insert(change, Wait { until, delay, at_once, errno, text });
    }

    /// Lets everything be tried at the next opportunity: what stood in the way may be gone. If it
    /// is not, the next wait is twice as long as the last one all the same.
    pub fn hurry(&mut self) {
        self.waiting.values_mut().for_each(|wait| wait.until = Duration::ZERO);
    }

    /// When the first wait ends.
    pub fn next(&self) -> Option<Duration> {
        self.waiting.values().map(|wait| wait.until).min()
    }

    /// What the kernel refused and is still wanted, and what it said.
    pub fn refused(&self) -> impl Iterator<Item = (&Change, &str)> {
        self.waiting.iter().map(|(change, wait)| (change, wait.text.as_str()))
    }
}

/// What [`Change::object`] calls a change of the device.
const DEVICE: &str = "device";
