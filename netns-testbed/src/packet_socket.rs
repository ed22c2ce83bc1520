//! AF_PACKET sockets (packet(7)): whole Ethernet frames of one interface.

use std::io::{self, Read, Write};
use std::mem::size_of;
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::error::{During, Result};
use crate::namespace::Namespace;

/// Frames carry the offload state of the sender (partial checksums, oversized TCP segments) in a
/// `struct virtio_net_hdr` before them, so that a relay can hand it on unharmed.
#[derive(Clone)]
struct PacketVnetHdr;
nix::setsockopt_impl!(PacketVnetHdr, libc::SOL_PACKET, libc::PACKET_VNET_HDR, bool, sockopt::SetBool);

/// What this host itself sends on the interface is not received.
#[derive(Clone)]
struct PacketIgnoreOutgoing;
nix::setsockopt_impl!(
    PacketIgnoreOutgoing,
    libc::SOL_PACKET,
    libc::PACKET_IGNORE_OUTGOING,
    bool,
    sockopt::SetBool
);

/// Bytes of queued frames; a burst of a few thousand full frames.
const BUFFER: usize = 8 << 20;

/// What a packet socket is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Sees both directions, as plain frames.
    Capture,
    /// Sees what arrives, with a `virtio_net_hdr` before each frame; sends the same form.
    Relay,
}

/// A non-blocking socket bound to one interface.
pub(crate) struct PacketSocket {
    socket: Socket,
}

impl PacketSocket {
    /// Opens and binds the socket; frames are queued from then on.
    pub(crate) fn open(namespace: &Namespace, interface: &str, purpose: Purpose) -> Result<Self> {
        namespace
            .run(|| Self::open_here(interface, purpose))?
            .during(|| format!("open a packet socket on {interface} of {}", namespace.name()))
    }

    fn open_here(interface: &str, purpose: Purpose) -> io::Result<Self> {
        let index = if_nametoindex(interface)?;
        // Without a protocol nothing is received before the socket is bound to its interface.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None::<Protocol>)?;
        socket.set_nonblocking(true)?;
        // Beyond net.core.rmem_max only for real root; an ordinary user gets what the limit allows.
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
            socket.set_recv_buffer_size(BUFFER)?;
        }
        if purpose == Purpose::Relay {
            setsockopt(&socket, PacketVnetHdr, &true)?;
            setsockopt(&socket, PacketIgnoreOutgoing, &true)?;
        }
        socket.bind(&link_address(index))?;
        Ok(Self { socket })
    }

    /// The next queued frame, or `None` when there is none (also while the interface is down).
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match (&self.socket).read(buffer) {
            Ok(length) => Ok(Some(&buffer[..length])),
            Err(error) if is_momentary(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a frame; one that the interface cannot take now is lost, as on a cable.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        match (&self.socket).write(frame) {
            Ok(_) => Ok(()),
            Err(error) if is_momentary(&error) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOBUFS | libc::EMSGSIZE | libc::EINVAL) => Ok(()),
                _ => Err(error),
            },
        }
    }
}

impl Namespace {
    /// Sends a whole Ethernet frame out of an interface, whatever its addresses say.
    ///
    /// # Errors
    /// When there is no such interface, or it refuses the frame.
    pub fn send_frame(&self, interface: &str, frame: &[u8]) -> Result<()> {
        let socket = PacketSocket::open(self, interface, Purpose::Capture)?;
        socket.send(frame).during(|| format!("send a frame out of {interface} of {}", self.name()))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Conditions that pass: nothing queued, or the interface is down at the moment.
fn is_momentary(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.kind() == io::ErrorKind::Interrupted
        || error.raw_os_error() == Some(libc::ENETDOWN)
}

/// The address "every protocol on this interface".
#[allow(unsafe_code)]
fn link_address(index: u32) -> SockAddr {
    let mut storage = socket2::SockAddrStorage::zeroed();
    // SAFETY: the storage is large and aligned enough for every socket address, zeroed, and
    // sockaddr_ll consists of integers only.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    // The kernel's own type for interface indexes is int.
    address.sll_ifindex = index as i32;
    // SAFETY: the storage holds a sockaddr_ll, of which the length is given.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as u32) }
}
