//! The kernel's older packet filter (`iptables-legacy`), read and never changed.
//!
//! It has no netlink interface: a table comes as one block of memory by getsockopt(2), in the
//! format of linux/netfilter_ipv4/ip_tables.h and linux/netfilter_ipv6/ip6_tables.h.

mod blob;

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use minionet_core::addr::Family;
use minionet_core::forward::Table;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::error::Error;

/// The table that filters.
const FILTER: &str = "filter";
/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; ip6_tables.h has the same numbers.
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
/// Octets of `struct ipt_getinfo`: the name, the hooks, two arrays of five, two numbers.
const INFO: usize = 32 + 4 + 20 + 20 + 4 + 4;
/// Octets of `struct ipt_get_entries` before the entries: the name, their size, padding.
const ENTRIES: usize = 40;
/// How often a table is read that changes between the two questions.
const TRIES: usize = 20;
/// Most octets of a table that are read.
const MOST: usize = 256 << 20;

/// The table `filter` of one family; none where it is not in use in this namespace.
///
/// # Errors
/// [`Error`] when the kernel cannot be asked, or its answer is not understood.
pub fn filter(family: Family) -> Result<Option<Table>, Error> {
    let operation = || format!("read the {family} rules of iptables-legacy");
    let failed = |source| Error::Io { operation: operation(), source };
    // To ask for a table makes it, so it is not asked for where nobody has made it.
    if !is_in_use(family).map_err(failed)? {
        return Ok(None);
    }
    let domain = if family == Family::V4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(domain, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(SockProtocol::Raw));
    let socket = socket.map_err(|errno| failed(errno.into()))?;
    for _ in 0..TRIES {
        let mut info = [0; INFO];
        info[..FILTER.len()].copy_from_slice(FILTER.as_bytes());
        ask(&socket, family, GET_INFO, &mut info).map_err(failed)?;
        let size = blob::size(&info).filter(|size| *size <= MOST);
        let decode = |problem: &str| Error::Decode { operation: operation(), problem: problem.to_owned() };
        let size = size.ok_or_else(|| decode("the table is too large"))?;
        let mut entries = vec![0; ENTRIES + size];
        entries[..FILTER.len()].copy_from_slice(FILTER.as_bytes());
        entries[32..36].copy_from_slice(&(size as u32).to_ne_bytes());
        match ask(&socket, family, GET_ENTRIES, &mut entries) {
            // Somebody has replaced it meanwhile: its size is another one.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(error) => return Err(failed(error)),
            Ok(()) => {
                return blob::table(family, &info, &entries[ENTRIES..]).map(Some).map_err(|p| decode(&p));
            }
        }
    }
    Err(Error::Interrupted { operation: operation(), tries: TRIES as u32 })
}

/// Whether the table is there already.
fn is_in_use(family: Family) -> io::Result<bool> {
    let file = if family == Family::V4 { "ip_tables_names" } else { "ip6_tables_names" };
    match fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
        Ok(names) => Ok(names.lines().any(|name| name == FILTER)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Asks for an option whose value is as long as the buffer.
fn ask(socket: &OwnedFd, family: Family, option: i32, buffer: &mut [u8]) -> io::Result<()> {
    let level = if family == Family::V4 { libc::SOL_IP } else { libc::SOL_IPV6 };
    let mut length = buffer.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets to the buffer, which is as long, and
    // the new length to `length`; both outlive the call.
    #[allow(unsafe_code)]
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &mut length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
