//! Which boot this is.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use crate::files;

/// The number of this boot, or nothing where the kernel does not tell; a record of another boot
/// tells of nothing that exists.
pub fn current() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        // Without it, nothing is lost as long as the state lies on a tmpfs.
        let text = files::read(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default();
        text.trim_end().to_owned()
    })
}

/// Seconds since the boot, time asleep included: a clock that all processes share and nobody
/// sets. Zero where `/proc` is not there.
pub fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}
