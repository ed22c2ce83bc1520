//! One configured name: the replies about it merged, and how well it is answered.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::sampling::Tracker;
use super::{AddressSet, FailureKind, Now, Outcome, Reply, Thresholds};
use crate::addr::Family;

/// Most resolvers that are remembered for a name; beyond it, the longest silent one goes.
const MAX_RESOLVERS: usize = 16;

/// What is known about one name.
#[derive(Clone, Debug, Default)]
pub(super) struct NameState {
    pub(super) name: String,
    /// The union of all replies of the last round in which anybody gave addresses.
    pub(super) last: Arc<AddressSet>,
    /// When that was.
    pub(super) last_at: Option<Now>,
    /// Whether all records of the underlay's family were there in the last round.
    pub(super) complete: bool,
    /// Whether it ever had an address of the underlay's family, before a restart included. One
    /// that never had may be a role without nodes; it does not keep others from being removed.
    pub(super) ever: bool,
    /// Wall clock of the last answer with an address of the underlay's family.
    pub(super) last_success: Option<u64>,
    pub(super) ttl: Duration,
    /// Rounds in a row in which nobody gave an address of the underlay's family.
    pub(super) failures: u32,
    pub(super) last_failure: Option<Failed>,
    pub(super) resolvers: BTreeMap<String, ResolverState>,
}

/// A failure, with where and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) kind: FailureKind,
    pub(super) text: String,
    pub(super) at: u64,
}

/// What is known about one resolver's replies to one name.
#[derive(Clone, Debug, Default)]
pub(super) struct ResolverState {
    tracker: Tracker,
    /// Whether its reply of the last round was complete.
    complete: bool,
    asked: u64,
    pub(super) last_success: Option<u64>,
    pub(super) last_failure: Option<Failed>,
    pub(super) records: usize,
    /// Records that others gave in the same round and this one did not.
    pub(super) lacking: usize,
}

impl ResolverState {
    pub(super) fn is_sampling(&self) -> bool {
        self.tracker.is_sampling()
    }
}

/// What a round meant for a name.
#[derive(Debug, Default)]
pub(super) struct Absorbed {
    /// Addresses that the name lists now and did not before.
    pub(super) came: Vec<IpAddr>,
    /// Addresses that it does not list any more.
    pub(super) left: Vec<IpAddr>,
    /// When those were last listed, by the wall clock.
    pub(super) left_at: u64,
    /// Whether a complete reply looks like a swap ([`Tracker::feed`]).
    pub(super) swap: bool,
}

impl NameState {
    pub(super) fn new(name: &str) -> Self {
        NameState { name: name.to_owned(), ..NameState::default() }
    }

    /// Merges the replies of one round about this name.
    pub(super) fn absorb(
        &mut self,
        replies: &[&Reply],
        family: Option<Family>,
        now: Now,
        limits: &Thresholds,
    ) -> Absorbed {
        let mut absorbed = Absorbed::default();
        let mut sets: Vec<&Arc<AddressSet>> = Vec::new();
        let mut ttl: Option<Duration> = None;
        let (mut answered, mut failed) = (false, None);
        self.complete = false;
        for resolver in self.resolvers.values_mut() {
            (resolver.complete, resolver.lacking) = (false, 0);
        }
        for reply in replies {
            let resolver = self.resolvers.entry(reply.resolver.clone()).or_default();
            resolver.asked = now.unix;
            let failure = match &reply.outcome {
                Outcome::Answer { addresses, ttl: reply_ttl, complete } => {
                    sets.push(addresses);
                    if let Some(empty) = empty(addresses, family) {
                        Some((FailureKind::Empty, empty))
                    } else {
                        answered = true;
                        ttl = Some(ttl.map_or(*reply_ttl, |t| t.min(*reply_ttl)));
                        resolver.records = addresses.len();
                        resolver.last_success = Some(now.unix);
                        resolver.complete = complete.of(family);
                        if resolver.complete {
                            self.complete = true;
                            absorbed.swap |= resolver.tracker.feed(addresses, limits);
                        }
                        None
                    }
                }
                Outcome::Failure { kind, text } => Some((*kind, text.clone())),
            };
            if let Some((kind, text)) = failure {
                let failure = Failed { kind, text, at: now.unix };
                resolver.last_failure = Some(failure.clone());
                failed = Some(Failed { text: format!("{}: {}", reply.resolver, failure.text), ..failure });
            }
        }
        let union = union(&sets);
        for (resolver, records) in replies.iter().filter_map(|r| match &r.outcome {
            Outcome::Answer { addresses, .. } => Some((&r.resolver, addresses.len())),
            Outcome::Failure { .. } => None,
        }) {
            if let Some(state) = self.resolvers.get_mut(resolver) {
                state.lacking = union.len() - records;
            }
        }
        self.forget_resolvers();
        if answered {
            self.ever = true;
            self.failures = 0;
            self.last_success = Some(now.unix);
            self.ttl = ttl.unwrap_or_default();
        } else {
            self.failures = self.failures.saturating_add(1);
            let text = "the round has no reply for it".to_owned();
            failed = failed.or(Some(Failed { kind: FailureKind::NotAsked, text, at: now.unix }));
        }
        if failed.is_some() {
            self.last_failure = failed;
        }
        if !union.is_empty() {
            self.replace(union, now, &mut absorbed);
        }
        absorbed
    }

    /// Whether removals have to wait for this name.
    pub(super) fn blocks(&self) -> bool {
        self.ever && !self.complete
    }

    /// Whether those whose name is not known have to wait for this name, which may be theirs.
    pub(super) fn is_unknown(&self) -> bool {
        !self.ever && !self.complete
    }

    /// The size of the samples that the complete replies of the last round were, if they were.
    pub(super) fn sample_size(&self) -> Option<usize> {
        let sampled = self.resolvers.values().filter(|r| r.complete && r.is_sampling());
        sampled.map(|r| r.tracker.size()).min()
    }

    fn replace(&mut self, union: Arc<AddressSet>, now: Now, absorbed: &mut Absorbed) {
        if !Arc::ptr_eq(&self.last, &union) && self.last != union {
            absorbed.came = union.difference(&self.last).collect();
            absorbed.left = self.last.difference(&union).collect();
            absorbed.left_at = self.last_at.map_or(now.unix, |at| at.unix);
        }
        self.last = union;
        self.last_at = Some(now);
    }

    fn forget_resolvers(&mut self) {
        while self.resolvers.len() > MAX_RESOLVERS {
            let oldest = self.resolvers.iter().min_by_key(|(_, r)| r.asked).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { return };
            self.resolvers.remove(&oldest);
        }
    }
}

/// Why an answer counts as empty, if it does.
fn empty(addresses: &AddressSet, family: Option<Family>) -> Option<String> {
    match family {
        _ if addresses.is_empty() => Some("the answer holds no address".to_owned()),
        Some(family) if !addresses.iter().any(|a| Family::of(a) == family) => {
            Some(format!("none of the {} addresses in the answer is {family}", addresses.len()))
        }
        _ => None,
    }
}

/// The union, without copying when all sets are the same.
fn union(sets: &[&Arc<AddressSet>]) -> Arc<AddressSet> {
    let Some((first, rest)) = sets.split_first() else { return Arc::default() };
    if rest.iter().all(|set| Arc::ptr_eq(first, set) || first == set) {
        return Arc::clone(first);
    }
    Arc::new(sets.iter().flat_map(|set| set.iter()).collect())
}
