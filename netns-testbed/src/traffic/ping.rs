//! ICMP and ICMPv6 echo over raw sockets (which root of the namespace may open).

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{During, Error, Result};
use crate::namespace::Namespace;

/// Bytes of an ICMP or ICMPv6 echo header: RFC 792, RFC 4443 section 4.1.
const HEADER: usize = 8;
/// The largest reply: an IP packet.
const LARGEST: usize = 65_535;
/// Octets of queued packets: several seconds of a fast ping, at 768 octets each in the kernel.
const BUFFER: usize = 8 << 20;

/// An echo request to be sent.
#[derive(Clone, Debug)]
pub struct Ping {
    target: IpAddr,
    source: Option<IpAddr>,
    payload: usize,
    fragment: bool,
}

impl Ping {
    /// A request to an address, with the 56 bytes of payload that ping(8) sends.
    pub fn to(target: IpAddr) -> Self {
        Self { target, source: None, payload: 56, fragment: true }
    }

    /// Sends from this address of the namespace.
    pub fn from_address(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// Sends so many bytes after the ICMP header.
    pub fn payload(mut self, bytes: usize) -> Self {
        self.payload = bytes;
        self
    }

    /// Forbids fragments, so that a packet larger than the path's MTU gets no reply.
    pub fn dont_fragment(mut self) -> Self {
        self.fragment = false;
        self
    }

    /// Sends one request from a namespace and waits for its reply: the round-trip time.
    ///
    /// # Errors
    /// [`Error::Timeout`] when no reply came in time; the time is not scaled, as silence may be
    /// what is expected. [`Error::Io`] when the kernel refused to send, as without a route.
    pub fn send(&self, namespace: &Namespace, timeout: Duration) -> Result<Duration> {
        let what = || format!("ping {} from {}", self.target, namespace.name());
        let socket = self.open(namespace)?;
        socket.send(1).during(what)?;
        let deadline = Instant::now() + timeout;
        while let Some(reply) = socket.receive(deadline).during(what)? {
            if reply.sequence == 1 {
                return Ok(reply.round_trip);
            }
        }
        Err(Error::Timeout {
            what: format!("{}: a reply", what()),
            seconds: timeout.as_secs_f64(),
            last: "silence".into(),
        })
    }

    /// A socket for many requests.
    pub(super) fn open(&self, namespace: &Namespace) -> Result<PingSocket> {
        namespace
            .run(|| self.open_here())?
            .during(|| format!("open a socket to ping {} from {}", self.target, namespace.name()))
    }

    fn open_here(&self) -> io::Result<PingSocket> {
        // The kernel hands every echo reply to every raw socket: the number tells whose it is.
        static IDENTIFIERS: AtomicU16 = AtomicU16::new(1);
        let (domain, protocol) = match self.target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        // Beyond net.core.rmem_max only for real root; an ordinary user gets what the limit allows.
        // A receiver that has to wait for its turn must not count as a loss of the network's.
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &BUFFER)?;
        }
        if !self.fragment {
            match self.target {
                IpAddr::V4(_) => setsockopt(&socket, PathMtuV4, &libc::IP_PMTUDISC_DO)?,
                IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6DontFrag, &true)?,
            }
        }
        if let Some(source) = self.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        Ok(PingSocket {
            socket,
            target: self.target,
            identifier: IDENTIFIERS.fetch_add(1, Ordering::Relaxed),
            payload: self.payload,
            start: Instant::now(),
        })
    }
}

/// Whether packets may be fragmented: ip(7), IP_MTU_DISCOVER.
#[derive(Clone)]
struct PathMtuV4;
nix::setsockopt_impl!(
    PathMtuV4,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int,
    sockopt::SetStruct<'_, libc::c_int>
);

/// An open raw socket to one target.
pub(super) struct PingSocket {
    socket: Socket,
    target: IpAddr,
    identifier: u16,
    payload: usize,
    /// The zero of the times in the requests.
    start: Instant,
}

/// A reply to one of our requests.
pub(super) struct EchoReply {
    pub(super) sequence: u16,
    pub(super) round_trip: Duration,
}

impl PingSocket {
    /// Sends one request. The time goes with it where the payload has room.
    pub(super) fn send(&self, sequence: u16) -> io::Result<()> {
        let mut payload: Vec<u8> = (0..self.payload).map(|index| index as u8).collect();
        let sent = self.start.elapsed().as_nanos() as u64;
        if let Some(room) = payload.first_chunk_mut() {
            *room = sent.to_be_bytes();
        }
        let echo = IcmpEchoHeader { id: self.identifier, seq: sequence };
        let mut packet = match self.target {
            IpAddr::V4(_) => {
                let kind = Icmpv4Type::EchoRequest(echo);
                Icmpv4Header::with_checksum(kind, &payload).to_bytes().to_vec()
            }
            // The kernel fills in the checksum of ICMPv6: RFC 3542, section 3.1.
            IpAddr::V6(_) => Icmpv6Header::new(Icmpv6Type::EchoRequest(echo)).to_bytes().to_vec(),
        };
        packet.extend(payload);
        self.socket.send_to(&packet, &SocketAddr::new(self.target, 0).into()).map(drop)
    }

    /// The next reply to this socket, or `None` at the deadline.
    pub(super) fn receive(&self, deadline: Instant) -> io::Result<Option<EchoReply>> {
        let mut buffer = vec![0; LARGEST];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // A timeout of zero would mean none at all.
            self.socket.set_read_timeout(Some(left.max(Duration::from_micros(1))))?;
            match (&self.socket).read(&mut buffer) {
                Ok(length) => {
                    if let Some(reply) = self.parse(&buffer[..length]) {
                        return Ok(Some(reply));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Recognises a reply to one of our requests, with everything that was sent.
    fn parse(&self, packet: &[u8]) -> Option<EchoReply> {
        let icmp = match self.target {
            // Raw IPv4 sockets see the IP header, raw IPv6 sockets do not: raw(7), RFC 3542.
            IpAddr::V4(_) => packet.get(usize::from(packet.first()? & 0x0f) * 4..)?,
            IpAddr::V6(_) => packet,
        };
        let echo = match self.target {
            IpAddr::V4(_) => match Icmpv4Header::from_slice(icmp).ok()?.0.icmp_type {
                Icmpv4Type::EchoReply(echo) => echo,
                _ => return None,
            },
            IpAddr::V6(_) => match Icmpv6Header::from_slice(icmp).ok()?.0.icmp_type {
                Icmpv6Type::EchoReply(echo) => echo,
                _ => return None,
            },
        };
        let payload = icmp.get(HEADER..)?;
        if echo.id != self.identifier || payload.len() != self.payload {
            return None;
        }
        let sent = payload.first_chunk().map(|bytes| Duration::from_nanos(u64::from_be_bytes(*bytes)));
        let round_trip = self.start.elapsed().saturating_sub(sent.unwrap_or_default());
        Some(EchoReply { sequence: echo.seq, round_trip })
    }
}
