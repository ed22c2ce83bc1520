//! The heap: it grows while thousands of peers are compared, and is to shrink again afterwards.
//!
//! The allocator of glibc returns what is free at the end of its heap only, and what is small and lives
//! long lies there. What other allocators do is theirs: then nothing is done here.

/// What is as large as this is taken from the kernel by itself, and given back as soon as it is free, in
/// octets. Left to itself, glibc raises the limit with each of them (mallopt(3)).
#[cfg(target_env = "gnu")]
const LARGE: i32 = 64 * 1024;

/// Sets the allocator up. To be called before any thread is started.
pub fn set_up() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: the calls change numbers of the allocator, and there is one thread. Where one of them is
    // refused, it stays as it was.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE);
        // What threads beside the loop allocate is little.
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
    }
}

/// Gives the kernel back what is free. Worth it after what takes megabytes for a moment.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: malloc_trim(3) touches nothing that is in use, and may be called at any time.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
