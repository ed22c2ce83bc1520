//! Links the plugin at a fixed address where it is linked statically anyway, and lays what a call goes
//! through side by side.
//!
//! A program that can lie anywhere mends thousands of its own pointers whenever it starts, which an
//! empty one pays with a sixth of its life; and their list is a twentieth of the plugin. It starts
//! for every pod, and nobody can send it anything but the runtime and the kernel. The daemon, which
//! speaks with the network, stays position-independent. For musl, for which the plugin alone is built,
//! `.cargo/config.toml` says so.
//!
//! The kernel maps a program in pieces of 64 KiB, each when something in it is used first. Left to the
//! linker, the functions of an ADD lie in nearly all of them; side by side they fill a quarter. Their
//! names are in `order.txt`, which `scripts/order` makes; one that is not there any more is passed
//! over, so an old list does no harm but to speed.
//!
//! The floor of the benchmarks uses this file too, to be built alike.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs};

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
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    // The floor has none of its own.
    let own = here.join("order.txt");
    let order = if own.is_file() { own } else { here.join("../../plugin/order.txt") };
    println!("cargo:rerun-if-changed={}", order.display());
    // There the linker is called directly.
    let musl = is("CARGO_CFG_TARGET_ENV", "musl");
    let for_linker = |option: String| if musl { option } else { format!("-Wl,{option}") };
    let options = [format!("--symbol-ordering-file={}", order.display()), QUIETLY.to_owned()].map(for_linker);
    // Debug builds have other names.
    if is("OPT_LEVEL", "s") && order.is_file() && linker_takes(&options) {
        for option in options {
            println!("cargo:rustc-link-arg-bins={option}");
        }
    }
}

/// Nothing is said of names that are not there.
const QUIETLY: &str = "--no-warn-symbol-ordering";

/// Whether the linker has these options. LLD, the compiler's default on most machines, has; another
/// would refuse to link.
fn linker_takes(options: &[String]) -> bool {
    let directory = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let source = directory.join("empty.rs");
    if fs::write(&source, "fn main() {}\n").is_err() {
        return false;
    }
    let mut compiler = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    compiler.arg(&source).arg("-o").arg(directory.join("empty")).stdout(Stdio::null()).stderr(Stdio::null());
    compiler.args(env::var("TARGET").iter().flat_map(|target| ["--target", target]));
    // As cargo hands on what the configuration says of the linker.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    compiler.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        compiler.args(["-C", &format!("linker={linker}")]);
    }
    compiler.args(options.iter().flat_map(|option| ["-C".to_owned(), format!("link-arg={option}")]));
    compiler.status().is_ok_and(|status| status.success())
}
