//! A small generator, so that a seed says everything about a run.

use super::*;

/// splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[derive(Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; the bias is far below what a test could notice.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.bits() % (most - least + 1)
    }

    pub(super) fn pick(&mut self, from: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        if from.is_empty() { None } else { from.iter().nth(self.below(from.len())).copied() }
    }

    pub(super) fn sample(&mut self, from: &[IpAddr], size: usize) -> Vec<IpAddr> {
        let mut rest = from.to_vec();
        (0..size.min(from.len())).map(|_| rest.swap_remove(self.below(rest.len()))).collect()
    }
}
