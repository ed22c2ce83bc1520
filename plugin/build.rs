//! Links the plugin at a fixed address where it is linked statically anyway.
//!
//! A program that can lie anywhere mends thousands of its own pointers whenever it starts, which an
//! empty one pays with a sixth of its life; and their list is a twentieth of the plugin. It starts
//! for every pod, and nobody can send it anything but the runtime and the kernel. The daemon, which
//! speaks with the network, stays position-independent.
//!
//! The floor of the benchmarks uses this file too, to be built alike.

use std::env;

fn main() {
    // This file itself is followed in any case.
    println!("cargo:rerun-if-changed=Cargo.toml");
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|v| v.split(',').any(|v| v == wanted));
    let gnu = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if gnu && is("CARGO_CFG_TARGET_FEATURE", "crt-static") {
        // The last of such options counts for the compiler's driver; the first stands for what the
        // second takes back of the `-static-pie` before them.
        println!("cargo:rustc-link-arg-bins=-static");
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
