//! minionet, the CNI plugin.
//!
//! Called by a container runtime for every pod: reads the environment and standard input, acts,
//! writes one JSON document to standard output, ends. It starts no other program, waits for no
//! other program, and works while `minionetd` is down.

// The tests have a start of their own.
#![cfg_attr(not(test), no_main)]

mod add;
mod check;
mod del;
mod facts;
mod gc;
mod netns;
mod node;
mod status;
mod stdio;

use std::panic::{AssertUnwindSafe, catch_unwind};

use minionet_core::cni::args::{ArgsError, Invocation, Verb};
use minionet_core::cni::conf::NetConf;
use minionet_core::cni::{Code, Failure, Version, version};

use nix::libc::c_int;

use crate::facts::Directories;

/// The heap of musl takes half of the instructions of an ADD, and twenty system calls.
#[cfg(target_env = "musl")]
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Where the C library begins the program.
///
/// The standard library's own start finds out where the stack ends, by reading `/proc/self/maps`, to
/// tell an overflow of the stack from other faults: a fortieth of an ADD. What else it does,
/// [`stdio::prepare`] does.
// SAFETY: nothing else in the program has this name.
#[allow(unsafe_code)]
#[cfg_attr(not(test), unsafe(export_name = "main"))]
#[cfg_attr(test, allow(dead_code))]
extern "C" fn start() -> c_int {
    // A panic cannot leave this function; those of verbs do not come so far.
    c_int::from(!catch_unwind(call).unwrap_or(false))
}

/// Carries out a call; says whether it succeeded.
fn call() -> bool {
    stdio::prepare();
    let invocation = match Invocation::from_env(|name| std::env::var_os(name)) {
        Ok(invocation) => invocation,
        Err(ArgsError::NoCommand) => return about(),
        Err(error) => return refuse(&error.into(), Version::LATEST),
    };
    if invocation.verb == Verb::Version {
        // Whether anybody can read the answer is for the caller to notice.
        return stdio::write(&version::report(&stdio::read_some())).is_ok();
    }
    let stdin = match stdio::read() {
        Ok(stdin) => stdin,
        Err(error) => return refuse(&error.into(), Version::LATEST),
    };
    match guarded(|| run(&invocation, &stdin)) {
        Ok(()) => true,
        Err(failure) => refuse(&failure, NetConf::answer_version(&stdin)),
    }
}

fn run(invocation: &Invocation, stdin: &[u8]) -> Result<(), Failure> {
    let conf = NetConf::parse(stdin)?;
    let dirs = Directories::default();
    match invocation.verb {
        Verb::Add => add::add(invocation, &conf, &dirs),
        Verb::Del => del::del(invocation, &conf, &dirs),
        Verb::Status => status::status(&conf, &dirs),
        Verb::Check => check::check(invocation, &conf, &dirs),
        Verb::Gc => gc::gc(&conf, &dirs),
        // Answered before anything is read.
        Verb::Version => Ok(()),
    }
}

/// What a person sees who starts the plugin by hand; as the reference plugins do.
fn about() -> bool {
    let versions: Vec<_> = Version::ALL.iter().map(|v| v.as_str()).collect();
    let name = concat!("CNI minionet plugin v", env!("CARGO_PKG_VERSION"));
    let text = format!("{name}\nCNI protocol versions supported: {}\n", versions.join(", "));
    stdio::explain(&text).is_ok()
}

fn refuse(failure: &Failure, version: Version) -> bool {
    // The exit status says that it failed, even if nobody can read why.
    let _unheard = stdio::write(&failure.to_json(version));
    false
}

/// Refuses a verb that the caller's version does not have.
fn require_version(conf: &NetConf, least: Version, verb: &str) -> Result<(), Failure> {
    if conf.version >= least {
        return Ok(());
    }
    Err(Failure {
        code: Code::IncompatibleVersion,
        message: format!("config version does not allow {verb}"),
        details: Some(format!("config is {}, {verb} came with {least}", conf.version)),
    })
}

/// Makes a panic a failure like any other; its own text goes to standard error.
fn guarded(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let panicked = |_| Failure {
        code: Code::Internal,
        message: "the plugin has a defect and gave up; please report what it wrote to standard error".into(),
        details: None,
    };
    catch_unwind(AssertUnwindSafe(work)).map_err(panicked)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_like_any_other() {
        let failure = guarded(|| panic!("of a test")).unwrap_err();
        assert_eq!(failure.code, Code::Internal);
        assert_eq!(failure.to_json(Version::LATEST)["code"], 100);
        assert_eq!(guarded(|| Ok(())), Ok(()));
    }
}
