//! Helpers shared by the integration tests.

pub mod cri;
mod harness;

pub use harness::{CNI_PLUGINS, Need, Trial, is_real_root, trial};
