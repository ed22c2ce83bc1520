//! Metrics in Prometheus' text format.

use minionet_core::cni::ipam::Space;
use minionet_core::constants::RUN_DIR;
use minionet_core::metrics::{Facts, Family, Kind, Sample, Value, families};
use minionet_core::state::State;
use minionet_pods::Store;
use minionet_pods::collector::Tally;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::question::Answer;
use crate::firewall;
use crate::node::Node;

/// All metrics, of the daemon's process too.
pub fn answer(state: &State, node: &Node, collected: &Tally, every_peer: bool) -> Answer {
    let pods = Store::new(RUN_DIR).recorded();
    let rules = firewall::tally();
    let facts = Facts {
        meters: node.journal().meters(),
        times: node.times(),
        // A state directory that cannot be read is no reason to have no metrics; the plugin says so.
        pods: pods.map_or(0, |ids| ids.len()),
        pods_most: state.node.as_ref().map_or(0, |node| Space::new(&node.place.blocks).pool().len()),
        collected: &collected.removed,
        collect_failures: collected.failed,
        rules: rules.as_ref(),
        every_peer,
    };
    let mut all: Vec<MetricFamily> = families(state, &facts).into_iter().map(encode).collect();
    all.extend(ProcessCollector::for_self().collect());
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&all, &mut text) {
        Ok(()) => Answer {
            good: true,
            media: prometheus::TEXT_FORMAT,
            // The encoder writes text.
            body: String::from_utf8_lossy(&text).into_owned(),
        },
        Err(error) => Answer::text(false, format!("the metrics cannot be written: {error}\n")),
    }
}

fn encode(family: Family) -> MetricFamily {
    let mut encoded = MetricFamily::default();
    encoded.set_name(family.name.to_owned());
    encoded.set_help(family.help.to_owned());
    encoded.set_field_type(match family.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    encoded.set_metric(family.samples.into_iter().map(|sample| metric(family.kind, sample)).collect());
    encoded
}

fn metric(kind: Kind, sample: Sample) -> Metric {
    let labels = sample.labels.into_iter().map(|(name, value)| {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value);
        label
    });
    let mut metric = Metric::from_label(labels.collect());
    match sample.value {
        Value::Number(value) if kind == Kind::Counter => {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        Value::Number(value) => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        Value::Buckets { buckets, count, sum } => {
            let mut histogram = Histogram::default();
            histogram.set_sample_count(count);
            histogram.set_sample_sum(sum);
            histogram.set_bucket(buckets.into_iter().map(bucket).collect());
            metric.set_histogram(histogram);
        }
    }
    metric
}

fn bucket((bound, count): (f64, u64)) -> Bucket {
    let mut bucket = Bucket::default();
    bucket.set_upper_bound(bound);
    bucket.set_cumulative_count(count);
    bucket
}
