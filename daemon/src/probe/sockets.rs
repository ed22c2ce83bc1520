//! The sockets of the probe.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};
use minionet_core::constants::DEVICE;
use minionet_core::probe::hello;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::BindToDevice;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::notices::listen;

mod option {
    //! Path MTU discovery, ip(7) and ipv6(7), which `nix` does not name.

    use nix::{libc, setsockopt_impl, sockopt_impl};

    sockopt_impl!(
        /// `IP_MTU_DISCOVER`
        Discovery4,
        SetOnly,
        libc::IPPROTO_IP,
        libc::IP_MTU_DISCOVER,
        libc::c_int
    );
    sockopt_impl!(
        /// `IPV6_MTU_DISCOVER`
        Discovery6,
        SetOnly,
        libc::IPPROTO_IPV6,
        libc::IPV6_MTU_DISCOVER,
        libc::c_int
    );
}

/// Where the sockets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address of this node's VTEP.
    pub vtep: IpAddr,
    /// The address of this node on the underlay.
    pub node: IpAddr,
    /// The port of the probe.
    pub port: u16,
}

/// The sockets, all of which neither block nor queue.
pub struct Sockets {
    place: Place,
    /// The kernel's number for the overlay's device.
    device: u32,
    /// For requests and replies: bound to the address of the VTEP, and no part of what it sends
    /// is fragmented.
    tunnel: AsyncFd<UdpSocket>,
    /// Takes hellos, from the overlay's device only: what is sent to all on the underlay is
    /// nobody's but a stranger's.
    hellos: AsyncFd<UdpSocket>,
    /// Sends hellos.
    underlay: UdpSocket,
}

impl Sockets {
    /// Opens the sockets. The overlay has to exist.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(place: Place) -> Result<Self> {
        let device = overlay_device().with_context(|| format!("the probe waits for the device {DEVICE}"))?;
        let tunnel = unfragmented((place.vtep, place.port).into())?;
        let hellos = bind((hello::ADDRESS, place.port).into(), "hellos")?;
        setsockopt(&hellos, BindToDevice, &DEVICE.into())
            .with_context(|| format!("cannot listen for hellos on {DEVICE} only"))?;
        let underlay = bind((place.node, 0).into(), "sending hellos")?;
        Ok(Sockets {
            place,
            device,
            // For reading only: that there is room again in a socket's buffer, which is so after
            // every packet that was sent, is no reason to wake up.
            tunnel: listen(tunnel)?,
            hellos: listen(hellos)?,
            underlay,
        })
    }

    /// Whether they are of use at this place: a device that was made anew has another number,
    /// and what was bound to the old one hears nothing any more.
    pub fn are_at(&self, place: Place) -> bool {
        self.place == place && overlay_device().is_ok_and(|device| device == self.device)
    }

    /// Waits until something can be read.
    pub async fn readable(&self) -> io::Result<()> {
        tokio::select! {
            ready = self.tunnel.readable() => ready.map(drop),
            ready = self.hellos.readable() => ready.map(drop),
        }
    }

    /// A datagram that came through the tunnel, if there is one.
    pub fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        take(|| self.tunnel.try_io(Interest::READABLE, |socket| socket.recv_from(buffer)))
    }

    /// A hello, if there is one.
    pub fn receive_hello(&self, buffer: &mut [u8]) -> Option<usize> {
        take(|| self.hellos.try_io(Interest::READABLE, |socket| socket.recv_from(buffer))).map(|(len, _)| len)
    }

    /// Sends a datagram through the tunnel.
    ///
    /// # Errors
    /// When it cannot be sent now.
    pub fn send(&self, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        self.tunnel.get_ref().send_to(payload, to).map(drop)
    }

    /// Sends a frame to a peer's port of VXLAN.
    ///
    /// # Errors
    /// When it cannot be sent now.
    pub fn send_frame(&self, to: SocketAddr, frame: &[u8]) -> io::Result<()> {
        self.underlay.send_to(frame, to).map(drop)
    }
}

/// What is there to be read. An error of the socket is one that an earlier packet met with (ip(7),
/// "error handling"); reading it clears it, so that what is behind it is next.
fn take<T>(mut read: impl FnMut() -> io::Result<T>) -> Option<T> {
    /// More errors than the kernel reports at once.
    const TRIES: usize = 8;
    for _ in 0..TRIES {
        match read() {
            Ok(got) => return Some(got),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => {}
        }
    }
    None
}

fn overlay_device() -> nix::Result<u32> {
    if_nametoindex(DEVICE)
}

/// A socket for probes, of which no packet is fragmented.
///
/// # Errors
/// When the kernel refuses.
pub fn unfragmented(address: SocketAddr) -> Result<UdpSocket> {
    let socket = bind(address, "the probe")?;
    // The option "probe" sets the bit "do not fragment" and disregards what was learned about
    // the path: the very thing that is to be found out.
    match address {
        SocketAddr::V4(_) => setsockopt(&socket, option::Discovery4, &libc::IP_PMTUDISC_PROBE),
        SocketAddr::V6(_) => setsockopt(&socket, option::Discovery6, &libc::IPV6_PMTUDISC_PROBE),
    }
    .context("cannot keep the packets of the probe from being fragmented")?;
    Ok(socket)
}

fn bind(address: SocketAddr, purpose: &str) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address).with_context(|| format!("cannot open {address} for {purpose}"))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
