//! Packets: streams, requests with their answers, and small packets.

use std::time::Duration;

use anyhow::{Context, Result};
use netns_testbed::traffic::Ping;
use serde_json::Value;

use super::Bench;
use crate::echo::Echo;
use crate::finding::{Finding, Findings, Target};
use crate::measure::{interleaved, until};
use crate::pair::{Pair, Shape};
use crate::stats::ratios;
use crate::streams;

/// Ours, and what it is compared with.
const TUNNELLED: [Shape; 5] =
    [Shape::Minionet, Shape::RoutedTracked, Shape::Bridge, Shape::Routed, Shape::RoutedTracked];
/// The same for streams, and what the least guard makes of the rival that tracks.
const TUNNELLED_STREAMS: [Shape; 6] = [
    Shape::Minionet,
    Shape::RoutedTracked,
    Shape::RoutedGuarded,
    Shape::Bridge,
    Shape::Routed,
    Shape::RoutedTracked,
];
const PLAIN_STREAMS: [Shape; 6] = [
    Shape::MinionetPlain,
    Shape::DirectTracked,
    Shape::DirectGuarded,
    Shape::Nodes,
    Shape::Direct,
    Shape::DirectTracked,
];
/// How often pairs are made anew: two that were made alike can differ by themselves, however often
/// they are measured, and other pairs differ in other ways.
const SETS: usize = 4;
/// How often each pair of a set carries streams: short and often, since what disturbs a sample lasts
/// longer than one.
const STREAM_ROUNDS: usize = 10;
/// How often each pair of a set carries requests, and for how long.
const REQUEST_ROUNDS: usize = 7;
const REQUESTS: Duration = Duration::from_millis(300);
/// How often each pair of a set carries small packets, and how many: half a second.
const SMALL_ROUNDS: usize = 4;
const SMALL_PACKETS: &str = "40000";

/// Pairs that carry packets.
fn pairs(bench: &Bench, shapes: &[Shape]) -> Result<Vec<Pair>> {
    let pairs = shapes.iter().map(|shape| Pair::new(*shape, &bench.programs)).collect::<Result<Vec<_>>>()?;
    for pair in &pairs {
        // What is learned of a way in one connection would be believed in the next: a loss once, and
        // that pair alone starts slowly from then on.
        for end in &pair.ends {
            end.sysctl([("net.ipv4.tcp_no_metrics_save", "1")])?;
        }
        until("the pair to carry packets", Duration::from_secs(10), || {
            Ok(Ping::to(pair.target).send(&pair.ends[0], Duration::from_millis(200)).is_ok())
        })?;
    }
    Ok(pairs)
}

/// Pairs on which iperf3 listens as well.
fn with_iperf(bench: &Bench, shapes: &[Shape]) -> Result<Vec<Pair>> {
    let mut pairs = pairs(bench, shapes)?;
    for pair in &mut pairs {
        pair.serve(1, &["iperf3", "-s"])?;
        until("iperf3 to listen", Duration::from_secs(10), || Ok(iperf(pair, &["-n", "1K"]).is_ok()))?;
    }
    Ok(pairs)
}

/// What iperf3 reports of a run from the first end to the second.
fn iperf(pair: &Pair, words: &[&str]) -> Result<Value> {
    let target = pair.target.to_string();
    let all = ["iperf3", "-J", "-c", &target].into_iter().chain(words.iter().copied());
    let text = pair.ends[0].exec(all)?;
    Ok(serde_json::from_str(&text)?)
}

/// Thousands of 64-byte packets a second that arrived.
fn packets(pair: &Pair) -> Result<f64> {
    let report = iperf(pair, &["-u", "-l", "64", "-b", "0", "-k", SMALL_PACKETS])?;
    let sum = &report["end"]["sum"];
    let figure = |key: &str| sum[key].as_f64().with_context(|| format!("iperf3 reports no {key}: {report}"));
    Ok((figure("packets")? - figure("lost_packets")?) / figure("seconds")? / 1e3)
}

/// Samples of several pairs, of which the first is ours and the last a second one of a rival's. It
/// is further from its like than that is from ours, as what is measured at another time differs more.
struct Sides<'a> {
    shapes: &'a [Shape],
    unit: &'static str,
    samples: Vec<Vec<f64>>,
}

impl Sides<'_> {
    /// Ours against another's.
    fn against(&self, what: &str, target: Target, other: Shape) -> Finding {
        let side = |shape: Shape| (shape.name(), self.of(shape));
        let what = format!("{what} against {}", other.name());
        Finding::ratio(&what, target, self.unit, side(self.shapes[0]), side(other)).with_alike(&self.alike())
    }

    /// The same, and beside it what floors reach against the other, each after one with less in it.
    fn with_floors(&self, what: &str, target: Target, other: Shape, floors: [Shape; 2]) -> Finding {
        floors.into_iter().fold(self.against(what, target, other), |finding, floor| {
            finding.with_floor(floor.name(), &ratios(self.of(floor), self.of(other)))
        })
    }

    /// The second one of a rival's pairs against the first.
    fn alike(&self) -> Vec<f64> {
        match (self.shapes, &self.samples[..]) {
            ([.., shape], [.., second]) => ratios(second, self.of(*shape)),
            _ => Vec::new(),
        }
    }

    /// The samples of the first of this shape.
    fn of(&self, shape: Shape) -> &[f64] {
        let position = self.shapes.iter().position(|it| *it == shape);
        position.map_or(&[], |position| &self.samples[position])
    }
}

/// So many streams at once over pairs of each shape.
fn of_streams<'a>(bench: &Bench, shapes: &'a [Shape], count: usize) -> Result<Sides<'a>> {
    let mut all = vec![Vec::new(); shapes.len()];
    for _ in 0..bench.rounds(SETS) {
        let mut pairs = pairs(bench, shapes)?;
        let samples = interleaved(bench.rounds(STREAM_ROUNDS), &mut pairs, |pair, _| {
            streams::carry(&pair.ends, pair.target, count)
        })?;
        all.iter_mut().zip(samples).for_each(|(all, samples)| all.extend(samples));
    }
    Ok(Sides { shapes, unit: "Gbit/s", samples: all })
}

/// The row of one stream.
pub fn one(bench: &Bench) -> Result<Findings> {
    tunnelled(bench, "one stream", 1)
}

/// The row of eight streams.
pub fn eight(bench: &Bench) -> Result<Findings> {
    tunnelled(bench, "eight streams", 8)
}

/// The row of one stream in the mode without encapsulation.
pub fn plain_one(bench: &Bench) -> Result<Findings> {
    plain(bench, "one stream", 1)
}

/// The row of eight streams in the mode without encapsulation.
pub fn plain_eight(bench: &Bench) -> Result<Findings> {
    plain(bench, "eight streams", 8)
}

fn tunnelled(bench: &Bench, name: &str, count: usize) -> Result<Findings> {
    let sides = of_streams(bench, &TUNNELLED_STREAMS, count)?;
    let close = Target::AtLeast(0.98);
    Ok(vec![
        sides.against(name, Target::AtLeast(1.0), Shape::Bridge),
        sides.with_floors(name, close, Shape::Routed, [Shape::RoutedTracked, Shape::RoutedGuarded]),
        sides.against(name, Target::None, Shape::RoutedTracked),
        // As what tracks and guards costs everybody, this is where a target can tell of us.
        sides.against(name, close, Shape::RoutedGuarded),
    ]
    .into())
}

fn plain(bench: &Bench, name: &str, count: usize) -> Result<Findings> {
    let sides = of_streams(bench, &PLAIN_STREAMS, count)?;
    Ok(vec![
        sides.with_floors(name, Target::AtLeast(0.95), Shape::Nodes, [Shape::Direct, Shape::DirectGuarded]),
        sides.against(name, Target::None, Shape::DirectTracked),
        sides.against(name, Target::AtLeast(0.98), Shape::DirectGuarded),
    ]
    .into())
}

/// The row of requests and answers.
pub fn requests(bench: &Bench) -> Result<Findings> {
    let [mut medians, mut tails] = [(); 2].map(|()| vec![Vec::new(); TUNNELLED.len()]);
    for _ in 0..bench.rounds(SETS) {
        let pairs = pairs(bench, &TUNNELLED)?;
        let connections = pairs.iter().map(|pair| Echo::between(&pair.ends, pair.target));
        let connections = connections.collect::<Result<Vec<_>>>()?;
        let mut subjects: Vec<_> = connections.into_iter().enumerate().collect();
        let samples = interleaved(bench.rounds(REQUEST_ROUNDS), &mut subjects, |(position, echo), round| {
            let [p50, p99] = echo.ask(REQUESTS)?;
            if round > 0 {
                tails[*position].push(p99);
            }
            Ok(p50)
        })?;
        medians.iter_mut().zip(samples).for_each(|(all, samples)| all.extend(samples));
    }
    let mut findings = Vec::new();
    for (name, samples) in [("p50", medians), ("p99", tails)] {
        let sides = Sides { shapes: &TUNNELLED, unit: "µs", samples };
        findings.push(sides.against(name, Target::AtMost(1.0), Shape::Bridge));
        findings.push(sides.against(name, Target::None, Shape::Routed));
        findings.push(sides.against(name, Target::None, Shape::RoutedTracked));
    }
    Ok(findings.into())
}

/// The row of small packets.
pub fn small(bench: &Bench) -> Result<Findings> {
    let mut all = vec![Vec::new(); TUNNELLED.len()];
    for _ in 0..bench.rounds(SETS) {
        let mut pairs = with_iperf(bench, &TUNNELLED)?;
        let samples = interleaved(bench.rounds(SMALL_ROUNDS), &mut pairs, |pair, _| packets(pair))?;
        all.iter_mut().zip(samples).for_each(|(all, samples)| all.extend(samples));
    }
    let sides = Sides { shapes: &TUNNELLED, unit: "kpps", samples: all };
    Ok(vec![
        sides.against("64 bytes", Target::AtLeast(1.0), Shape::Bridge),
        sides.against("64 bytes", Target::None, Shape::Routed),
        sides.against("64 bytes", Target::None, Shape::RoutedTracked),
    ]
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pair_is_the_control() {
        let samples = vec![vec![8.0, 9.0], vec![10.0, 10.0], vec![11.0, 12.0]];
        let shapes = [Shape::Minionet, Shape::Routed, Shape::Routed];
        let sides = Sides { shapes: &shapes, unit: "Gbit/s", samples };
        assert_eq!(sides.alike(), [1.1, 1.2]);
        assert_eq!(sides.of(Shape::Routed), [10.0, 10.0]);
        for shapes in [&TUNNELLED[..], &TUNNELLED_STREAMS, &PLAIN_STREAMS] {
            let (last, others) = shapes.split_last().unwrap();
            assert!(others[1..].contains(last), "{shapes:?}");
        }
    }
}
