//! Random choices that can be made again.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

use anyhow::{Context, Result};
use proptest::test_runner::{RngAlgorithm, TestRng};

/// The variable that names a seed, to repeat what failed.
const SEED: &str = "MINIONET_TEST_SEED";

/// Where random choices begin. A test prints it, and takes the same again from `MINIONET_TEST_SEED`.
#[derive(Clone, Copy, Debug)]
pub struct Seed(u64);

impl Seed {
    /// The seed of the environment, or another one every time.
    ///
    /// # Errors
    /// When the environment has one that is no number.
    pub fn choose() -> Result<Self> {
        match std::env::var(SEED) {
            Ok(text) => text.parse().map(Self).with_context(|| format!("{SEED}={text} is no number")),
            // The standard library's own random keys.
            Err(_) => Ok(Self(RandomState::new().hash_one(SEED))),
        }
    }

    /// The generator of one of several workers.
    pub fn generator(self, worker: u64) -> TestRng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.0.to_le_bytes());
        seed[8..16].copy_from_slice(&worker.to_le_bytes());
        TestRng::from_seed(RngAlgorithm::ChaCha, &seed)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SEED}={}", self.0)
    }
}
