//! Packets: streams, requests with their answers, and small packets.

use std::time::Duration;

use anyhow::{Context, Result};
use netns_testbed::traffic::Ping;
use serde_json::Value;

use super::Bench;
use crate::finding::{Finding, Findings, Target};
use crate::measure::{interleaved, until};
use crate::pair::{Pair, Shape};

/// How often each pair carries traffic, and for how many seconds each time.
const ROUNDS: usize = 7;
const SECONDS: &str = "1";
/// Where sockperf listens.
const PORT: &str = "11111";

/// Pairs on which both programs listen.
fn pairs(bench: &Bench, shapes: &[Shape]) -> Result<Vec<Pair>> {
    let mut pairs =
        shapes.iter().map(|shape| Pair::new(*shape, &bench.programs)).collect::<Result<Vec<_>>>()?;
    for pair in &mut pairs {
        let target = pair.target.to_string();
        pair.serve(1, &["iperf3", "-s"])?;
        pair.serve(1, &["sockperf", "server", "--tcp", "-i", &target, "-p", PORT])?;
        until("the pair to carry packets", Duration::from_secs(10), || {
            Ok(Ping::to(pair.target).send(&pair.ends[0], Duration::from_millis(200)).is_ok())
        })?;
        until("iperf3 to listen", Duration::from_secs(10), || Ok(gigabits(pair, &["-n", "1K"]).is_ok()))?;
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

/// Gigabits a second that arrived.
fn gigabits(pair: &Pair, words: &[&str]) -> Result<f64> {
    let report = iperf(pair, words)?;
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.with_context(|| format!("iperf3 reports no rate: {report}"))? / 1e9)
}

/// Thousands of 64-byte packets a second that arrived.
fn packets(pair: &Pair) -> Result<f64> {
    let report = iperf(pair, &["-u", "-l", "64", "-b", "0", "-t", SECONDS])?;
    let sum = &report["end"]["sum"];
    let figure = |key: &str| sum[key].as_f64().with_context(|| format!("iperf3 reports no {key}: {report}"));
    Ok((figure("packets")? - figure("lost_packets")?) / figure("seconds")? / 1e3)
}

/// Microseconds of a round trip, at two percentiles.
fn latency(pair: &Pair) -> Result<[f64; 2]> {
    let target = pair.target.to_string();
    let text = pair.ends[0].exec([
        "sockperf",
        "ping-pong",
        "--tcp",
        "--full-rtt",
        "-m",
        "64",
        "-t",
        SECONDS,
        "-i",
        &target,
        "-p",
        PORT,
    ])?;
    let at = |percentile: &str| -> Result<f64> {
        let line = text.lines().find(|line| line.contains(&format!("percentile {percentile}")));
        let value = line.and_then(|line| line.rsplit('=').next());
        Ok(value
            .with_context(|| format!("sockperf reports no percentile {percentile}: {text}"))?
            .trim()
            .parse()?)
    };
    Ok([at("50.000")?, at("99.000")?])
}

/// The first pair's samples against another's.
fn against(
    what: &str,
    target: Target,
    unit: &'static str,
    pairs: &[Pair],
    samples: &[Vec<f64>],
    other: usize,
) -> Finding {
    let side = |position: usize| (pairs[position].shape.name(), samples[position].as_slice());
    let what = format!("{what} against {}", pairs[other].shape.name());
    Finding::ratio(&what, target, unit, side(0), side(other))
}

/// The row of streams.
pub fn streams(bench: &Bench) -> Result<Findings> {
    let mut pairs = pairs(bench, &[Shape::Minionet, Shape::Bridge, Shape::Routed])?;
    let mut findings = Vec::new();
    for (name, count) in [("one stream", "1"), ("eight streams", "8")] {
        let samples = interleaved(bench.rounds(ROUNDS), &mut pairs, |pair, _| {
            gigabits(pair, &["-t", SECONDS, "-P", count])
        })?;
        findings.push(against(name, Target::AtLeast(1.0), "Gbit/s", &pairs, &samples, 1));
        findings.push(against(name, Target::AtLeast(0.98), "Gbit/s", &pairs, &samples, 2));
    }
    Ok(findings.into())
}

/// The row of requests and answers.
pub fn requests(bench: &Bench) -> Result<Findings> {
    let mut pairs = pairs(bench, &[Shape::Minionet, Shape::Bridge, Shape::Routed])?;
    let mut tails = vec![Vec::new(); pairs.len()];
    let mut position = (0..pairs.len()).collect::<Vec<_>>();
    let medians = interleaved(bench.rounds(ROUNDS), &mut position, |position, round| {
        let [p50, p99] = latency(&pairs[*position])?;
        if round > 0 {
            tails[*position].push(p99);
        }
        Ok(p50)
    })?;
    let mut findings = Vec::new();
    for (name, samples) in [("p50", &medians), ("p99", &tails)] {
        findings.push(against(name, Target::AtMost(1.0), "µs", &pairs, samples, 1));
        findings.push(against(name, Target::None, "µs", &pairs, samples, 2));
    }
    pairs.clear();
    Ok(findings.into())
}

/// The row of the mode without encapsulation.
pub fn plain(bench: &Bench) -> Result<Findings> {
    let mut pairs = pairs(bench, &[Shape::MinionetPlain, Shape::Nodes])?;
    let mut findings = Vec::new();
    for (name, count) in [("one stream", "1"), ("eight streams", "8")] {
        let samples = interleaved(bench.rounds(ROUNDS), &mut pairs, |pair, _| {
            gigabits(pair, &["-t", SECONDS, "-P", count])
        })?;
        findings.push(against(name, Target::AtLeast(0.95), "Gbit/s", &pairs, &samples, 1));
    }
    Ok(findings.into())
}

/// The row of small packets.
pub fn small(bench: &Bench) -> Result<Findings> {
    let mut pairs = pairs(bench, &[Shape::Minionet, Shape::Bridge, Shape::Routed])?;
    let samples = interleaved(bench.rounds(ROUNDS), &mut pairs, |pair, _| packets(pair))?;
    Ok(vec![
        against("64 bytes", Target::AtLeast(1.0), "kpps", &pairs, &samples, 1),
        against("64 bytes", Target::None, "kpps", &pairs, &samples, 2),
    ]
    .into())
}
