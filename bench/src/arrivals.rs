//! The moment at which an answer of DNS has reached a host: with its last octet.
//!
//! Between that and the moment at which the server begins to send it lies the way, which grows with the
//! answer: a segment of TCP for every 1448 octets, and as many acknowledgements.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use netns_testbed::Namespace;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{SockFilter, SockRef};

// Instructions of linux/bpf_common.h.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_AT_X: u16 = 0x48;
const LOAD_BYTE_AT_X: u16 = 0x50;
const LOAD_X_HEADER_LENGTH: u16 = 0xb1;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Where the protocol stands in an IPv4 header, and the flags in one of TCP.
const PROTOCOL: u32 = 9;
const FLAGS: u32 = 13;
/// `PSH`, which the kernel sets on the last segment of what a program writes (`tcp_push` in
/// net/ipv4/tcp.c).
const PUSH: u32 = 0x08;
/// The port of DNS.
const DNS: u32 = 53;

/// What lets through the ends of what DNS servers say over TCP and IPv4, one octet of each.
const ENDS: [(u16, u8, u8, u32); 9] = [
    (LOAD_BYTE, 0, 0, PROTOCOL),
    (JUMP_IF_EQUAL, 0, 6, nix::libc::IPPROTO_TCP as u32),
    (LOAD_X_HEADER_LENGTH, 0, 0, 0),
    (LOAD_HALF_AT_X, 0, 0, 0),
    (JUMP_IF_EQUAL, 0, 3, DNS),
    (LOAD_BYTE_AT_X, 0, 0, FLAGS),
    (JUMP_IF_SET, 0, 1, PUSH),
    (RETURN, 0, 0, 1),
    (RETURN, 0, 0, 0),
];

/// Sees answers of DNS arrive at a host, over TCP and IPv4.
pub struct Arrivals {
    socket: OwnedFd,
}

impl Arrivals {
    /// Looks from now on. The kernel notes the moment of each arrival by itself (`SO_TIMESTAMPNS`), so
    /// looking costs the host no wake-up.
    pub fn watch(host: &Namespace) -> Result<Self> {
        let open = || -> Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthIp)?;
            let filter = ENDS.map(|(code, jt, jf, k)| SockFilter::new(code, jt, jf, k));
            SockRef::from(&socket).attach_filter(&filter)?;
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
            Ok(socket)
        };
        Ok(Arrivals { socket: host.run(open)?.context("watch answers of DNS arrive")? })
    }

    /// The latest arrival before a moment, among those that were not asked for yet.
    pub fn last_before(&mut self, moment: Instant) -> Result<Instant> {
        let mut last = None;
        while let Some(arrived) = self.next()? {
            if arrived <= moment {
                last = Some(arrived);
            }
        }
        last.context("no answer of DNS was seen to arrive")
    }

    fn next(&mut self) -> Result<Option<Instant>> {
        let mut octet = [0];
        let mut parts = [IoSliceMut::new(&mut octet)];
        let mut space = nix::cmsg_space!(TimeSpec);
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = match recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Ok(message) => message,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let arrived = message.cmsgs()?.find_map(|told| match told {
            ControlMessageOwned::ScmTimestampns(at) => Some(at),
            _ => None,
        });
        let arrived = SystemTime::UNIX_EPOCH + Duration::from(arrived.context("no moment of arrival")?);
        // By the clock of the program, which the kernel does not use.
        Ok(Some(Instant::now() - SystemTime::now().duration_since(arrived).unwrap_or_default()))
    }
}
