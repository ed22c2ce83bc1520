//! Namespaces and commands for the tests.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs a test in a new network namespace, on a thread that ends with it; the namespace is gone
/// when its last socket is.
///
/// # Panics
/// If the namespace is refused, or the test panics.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect(
            "these tests need a network namespace of their own: run them as root, or under \
             `unshare -rn`",
        );
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a command line in the calling thread's namespace and returns what it printed.
///
/// # Panics
/// If it fails.
pub fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("sh is missing");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}
