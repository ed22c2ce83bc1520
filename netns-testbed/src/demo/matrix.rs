//! Who reaches whom: real packets from every pod to every other.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use minionet_core::addr::Family;
use netns_testbed::{Pod, eventually};

use super::all_at_once;
use super::report::Pair;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_millis(500);
/// How long a pod goes on asking those that do not answer, all together.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lets every source ping every address of every target but itself.
///
/// Twice: first all sources at once, as often as it takes, for whether there is an answer; then
/// one after the other, for a round-trip time that is not the time spent waiting for a processor.
pub fn measure(sources: &[&Pod], targets: &[&Pod]) -> Vec<Pair> {
    let reached: BTreeSet<(&str, IpAddr)> =
        all_at_once(sources.to_vec(), |source| reachable(source, targets)).into_iter().flatten().collect();
    let pairs = sources.iter().flat_map(|source| pairs_of(source, targets).map(move |pair| (source, pair)));
    pairs
        .map(|(source, (target, address))| {
            let answered = reached.contains(&(source.name(), address));
            let ping = || eventually("an answer", PATIENCE, || source.ping(address, ANSWER)).ok();
            let rtt = answered.then(ping).flatten();
            Pair {
                from: source.name().to_owned(),
                to: target.name().to_owned(),
                family: Family::of(address),
                address,
                // Less than a microsecond is not zero.
                rtt_us: rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1)),
            }
        })
        .collect()
}

fn pairs_of<'a>(source: &'a Pod, targets: &'a [&'a Pod]) -> impl Iterator<Item = (&'a Pod, IpAddr)> {
    let others = targets.iter().filter(|target| target.name() != source.name());
    others.flat_map(|target| target.addresses().into_iter().map(move |address| (*target, address)))
}

/// The addresses that answered a pod.
fn reachable<'a>(source: &'a Pod, targets: &[&Pod]) -> Vec<(&'a str, IpAddr)> {
    let deadline = Instant::now() + PATIENCE;
    pairs_of(source, targets)
        .filter(|(_, address)| {
            let left = deadline.saturating_duration_since(Instant::now());
            eventually("an answer", left, || source.ping(*address, ANSWER)).is_ok()
        })
        .map(|(_, address)| (source.name(), address))
        .collect()
}
