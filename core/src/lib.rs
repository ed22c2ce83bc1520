//! The decisions of minionet.
//!
//! Everything here is a pure function over own types: no input or output, no clock, no async.
//! Time comes in as an argument, the kernel's state comes in as data, and what must be done
//! goes out as data. The crates `minionet-netlink`, `minionet-daemon` and `minionet-plugin`
//! do what is decided here.
//!
//! The flow, from left to right:
//!
//! ```text
//! config ─┐
//! answers ┴► membership ─► plan ─► desired state ─┐
//!                                                 ├─► diff ─► changes
//! kernel dump ─────────────────► observed state ──┘
//! ```
#![forbid(unsafe_code)]

pub mod addr;
pub mod cleanup;
pub mod cni;
pub mod config;
pub mod constants;
pub mod doctor;
pub mod forward;
pub mod handoff;
pub mod health;
pub mod histogram;
pub mod identity;
pub mod install;
pub mod membership;
pub mod metrics;
pub mod nft;
pub mod overlay;
pub mod plan;
pub mod probe;
pub mod register;
pub mod state;
pub mod status;
pub mod trace;
pub mod tuning;
pub mod words;
