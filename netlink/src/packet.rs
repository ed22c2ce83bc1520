//! Packets with a mark, watched on all interfaces of the namespace: a packet socket (packet(7)) with
//! a filter in the kernel.
//!
//! Incoming packets are seen before every filter of the host, outgoing ones after it.

use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;

use minionet_core::trace::filter::Instruction;
use nix::libc;
use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};

use crate::error::Error;

/// As much of a packet as is kept, in octets.
const KEPT: usize = 512;

/// A packet, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The number of the interface.
    pub interface: u32,
    /// Whether it left by it; otherwise it came in.
    pub outgoing: bool,
    /// Its first octets, from the header of IP.
    pub packet: Vec<u8>,
}

/// A watch on all interfaces. What it caught waits to be taken, as far as the socket's buffer
/// reaches.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// Begins to watch for what the filter lets pass.
    ///
    /// # Errors
    /// [`Error::Io`]: `PermissionDenied` without `CAP_NET_RAW`; `EAFNOSUPPORT` where the kernel has no
    /// packet sockets, or systemd's `RestrictAddressFamilies=` forbids them.
    pub fn open(filter: &[Instruction]) -> Result<Self, Error> {
        let failed = |source| Error::Io { operation: "watch the interfaces".to_owned(), source };
        Self::open_here(filter).map_err(failed)
    }

    fn open_here(filter: &[Instruction]) -> io::Result<Self> {
        // Without a protocol nothing is received before the filter is in place.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None::<Protocol>)?;
        socket.set_nonblocking(true)?;
        let program: Vec<SockFilter> =
            filter.iter().map(|i| SockFilter::new(i.code, i.jt, i.jf, i.k)).collect();
        socket.attach_filter(&program)?;
        socket.bind(&every_interface())?;
        Ok(Watch { socket })
    }

    /// What was caught since the last call, at most `most` packets.
    pub fn take(&self, most: usize) -> Vec<Captured> {
        let mut buffer = [0; KEPT];
        let mut captured = Vec::new();
        while captured.len() < most {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((len, Some(from))) => captured.push(Captured {
                    // The kernel's own type for the number is int, and it is positive.
                    interface: from.ifindex() as u32,
                    outgoing: from.pkttype() == libc::PACKET_OUTGOING,
                    packet: buffer[..len.min(KEPT)].to_vec(),
                }),
                // An interface that went down is an error that is told once.
                Ok((_, None)) | Err(nix::errno::Errno::EINTR | nix::errno::Errno::ENETDOWN) => {}
                Err(_) => break,
            }
        }
        captured
    }
}

/// The address "every protocol on every interface".
#[allow(unsafe_code)]
fn every_interface() -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the storage is large and aligned enough for every socket address, zeroed, and
    // sockaddr_ll consists of integers only.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: the storage holds a sockaddr_ll, of which the length is given.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32) }
}
