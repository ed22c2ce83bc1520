//! What a container runtime needs of the machine, and what is missing.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Programs with the Debian package that brings each.
const PROGRAMS: [(&str, &str); 8] = [
    ("containerd", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("ctr", "containerd"),
    ("crun", "crun"),
    ("busybox", "busybox-static"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("flock", "util-linux"),
];

/// Directories of programs, searched in this order beside `PATH`.
const DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Inode number of the first user namespace (`PROC_USER_INIT_INO`, include/linux/proc_ns.h).
const FIRST_USER_NAMESPACE: &str = "user:[4026531837]";

/// Whether a container runtime can be run here.
///
/// # Errors
/// Everything that is missing and how to get it, in one sentence, as a reason for not
/// running a test.
pub fn available() -> Result<(), String> {
    let mut missing = Vec::new();
    if let Err(reason) = real_root() {
        missing.push(reason);
    }
    let absent: Vec<_> = PROGRAMS.iter().filter(|(program, _)| find(program).is_none()).collect();
    if !absent.is_empty() {
        let programs: Vec<_> = absent.iter().map(|(program, _)| *program).collect();
        let mut packages: Vec<_> = absent.iter().map(|(_, package)| *package).collect();
        packages.dedup();
        missing.push(format!(
            "{} not found (Debian: apt-get install {})",
            programs.join(", "),
            packages.join(" "),
        ));
    }
    if let Some(busybox) = find("busybox")
        && !fs::read(&busybox).is_ok_and(|elf| is_static(&elf))
    {
        let path = busybox.display();
        missing.push(format!("{path} is not statically linked (Debian: busybox-static)"));
    }
    if missing.is_empty() { Ok(()) } else { Err(missing.join("; ")) }
}

/// Root of a user namespace may not mount cgroups nor make devices.
fn real_root() -> Result<(), String> {
    if !geteuid().is_root() {
        return Err("needs root (run with sudo)".to_owned());
    }
    let namespace = fs::read_link("/proc/self/ns/user")
        .map_err(|error| format!("needs /proc to tell real root: {error}"))?;
    if namespace != Path::new(FIRST_USER_NAMESPACE) {
        return Err("needs real root, not root of a user namespace (run with sudo)".to_owned());
    }
    Ok(())
}

/// The path of a program.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(DIRECTORIES.iter().map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// Whether an ELF program of this machine's byte order and of 64 bits asks for no dynamic
/// loader (`PT_INTERP`); anything else counts as dynamic. Offsets are those of elf(5).
fn is_static(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let header = || {
        let offset = usize::try_from(u64::from_ne_bytes(chunk(elf, 32)?)).ok()?;
        let size = usize::from(u16::from_ne_bytes(chunk(elf, 54)?));
        let count = usize::from(u16::from_ne_bytes(chunk(elf, 56)?));
        Some((offset, size, count))
    };
    if !elf.starts_with(b"\x7fELF\x02") {
        return false;
    }
    let Some((offset, size, count)) = header() else {
        return false;
    };
    (0..count).all(|index| {
        let at = index.checked_mul(size).and_then(|distance| distance.checked_add(offset));
        at.and_then(|at| chunk(elf, at)).is_some_and(|kind| u32::from_ne_bytes(kind) != PT_INTERP)
    })
}

/// `N` bytes at an offset, if there are as many.
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_or_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }

    #[test]
    fn linkage_is_told_from_the_program_headers() {
        let shell = fs::read(find("sh").unwrap()).unwrap();
        assert!(!is_static(&shell), "Debian's shell is dynamic");
        assert!(!is_static(b"#!/bin/sh"));
        // One program header, of type PT_LOAD, right behind the ELF header.
        let mut elf = vec![0; 64 + 56];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        elf[32..40].copy_from_slice(&64u64.to_ne_bytes());
        elf[54..56].copy_from_slice(&56u16.to_ne_bytes());
        elf[56..58].copy_from_slice(&1u16.to_ne_bytes());
        elf[64..68].copy_from_slice(&1u32.to_ne_bytes());
        assert!(is_static(&elf));
        elf[64..68].copy_from_slice(&3u32.to_ne_bytes());
        assert!(!is_static(&elf));
        assert!(!is_static(&elf[..70]) && !is_static(&elf[..60]));
    }
}
