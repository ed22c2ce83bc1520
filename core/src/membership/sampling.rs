//! Recognises a resolver that answers with random samples.
//!
//! Such answers have a constant size, smaller than the set behind them: eight records at a time
//! out of a hundred, or 29 out of 30. Every one is complete as far as DNS can tell. What gives
//! them away is that records *come back*, or that the answer is replaced over and over, while
//! its size stays the same. A node that was replaced by another keeps the size too, but does
//! not come back.
//!
//! A rolling restart that takes one record out at a time looks the same as a sample of all but
//! one; treating it as one is harmless, it only delays removals until the answers are quiet.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::{AddressSet, Thresholds};

/// Follows the complete answers of one resolver about one name.
///
/// Memory: the latest answer (shared), and the records that left during the window.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracker {
    answers: u64,
    last: Arc<AddressSet>,
    window: VecDeque<Sample>,
    /// Records that left during the window, with the number of the first answer without them.
    left: BTreeMap<IpAddr, u64>,
    /// Answers since the last sign of sampling, while sampling.
    quiet: Option<u32>,
}

/// What one answer was like, compared with the one before.
#[derive(Clone, Copy, Debug)]
struct Sample {
    size: usize,
    arrivals: usize,
    returns: usize,
}

impl Tracker {
    /// Takes an answer in. Returns whether it looks like a swap: as large as the one before,
    /// with some records replaced by others.
    pub(super) fn feed(&mut self, answer: &Arc<AddressSet>, limits: &Thresholds) -> bool {
        let first = self.answers == 0;
        self.answers += 1;
        let window = limits.sampling_answers;
        let mut sample = Sample { size: answer.len(), arrivals: 0, returns: 0 };
        let same = Arc::ptr_eq(&self.last, answer) || self.last == *answer;
        let swap = !first && !same && self.last.len() == answer.len();
        if !same && !first {
            for addr in answer.difference(&self.last) {
                sample.arrivals += 1;
                sample.returns += usize::from(self.left.remove(&addr).is_some());
            }
            for addr in self.last.difference(answer) {
                self.left.insert(addr, self.answers);
            }
        }
        self.left.retain(|_, at| *at + u64::from(window) > self.answers);
        self.last = Arc::clone(answer);
        self.window.push_back(sample);
        while self.window.len() > window as usize {
            self.window.pop_front();
        }
        self.judge(sample, limits.sampling_exit);
        swap
    }

    /// Whether the resolver is taken for a sampling one.
    pub(super) fn is_sampling(&self) -> bool {
        self.quiet.is_some()
    }

    /// How many records the latest complete answer had.
    pub(super) fn size(&self) -> usize {
        self.last.len()
    }

    fn judge(&mut self, sample: Sample, exit: u32) {
        if self.looks_sampled() {
            self.quiet = Some(0);
        } else if let Some(quiet) = self.quiet {
            let turbulent = sample.returns > 0 || sample.arrivals * 2 >= sample.size.max(1);
            let quiet = if turbulent { 0 } else { quiet + 1 };
            self.quiet = (quiet < exit).then_some(quiet);
        }
    }

    fn looks_sampled(&self) -> bool {
        let Some(Sample { size, .. }) = self.window.back().copied() else { return false };
        // The sizes before a change of the cluster's size say nothing about the answers after it.
        let recent = self.window.iter().rev().take_while(|s| s.size == size);
        let (mut answers, mut arrivals, mut returns) = (0, 0, 0);
        for sample in recent {
            answers += 1;
            arrivals += sample.arrivals;
            returns += usize::from(sample.returns > 0);
        }
        // The first arrivals of the run belong to the change that began it; two complete
        // replacements cannot come from one.
        answers >= 3 && (returns >= 2 || arrivals >= 2 * size.max(1) + size / 2)
    }
}
