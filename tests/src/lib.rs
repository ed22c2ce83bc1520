//! Helpers shared by the integration tests.

mod at_once;
pub mod cri;
mod harness;
mod print;
mod programs;
mod seed;
pub mod systemd;

pub use at_once::at_once;
pub use harness::{CNI_PLUGINS, Need, Trial, is_real_root, trial};
pub use print::print;
pub use programs::{Installed, copy_program, previous_programs};
pub use seed::Seed;
