//! Helpers shared by the integration tests.

pub mod cri;
mod harness;

pub use harness::{Need, Trial, is_real_root, trial};
