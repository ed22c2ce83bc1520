//! Asking the daemon of another node, over the underlay and through the tunnel, and pinging it.
//!
//! Everything here is bounded in time.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use minionet_core::trace::{Account, Message, echo, message};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::run::random;

/// Most packets that are read from a socket at once: others get raw packets too.
const MOST: usize = 256;

/// Sockets to speak to other daemons from.
pub struct Channels {
    port: u16,
    underlay: Option<UdpSocket>,
    tunnel: Option<UdpSocket>,
}

/// What the other node said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Over the underlay.
    pub underlay: Option<Account>,
    /// Through the tunnel.
    pub tunnel: Option<Account>,
}

impl Answers {
    /// What it said by whichever channel.
    pub fn any(&self) -> Option<&Account> {
        self.underlay.as_ref().or(self.tunnel.as_ref())
    }
}

impl Channels {
    /// Opens a socket on each of this node's addresses, as far as they are there.
    pub fn open(node: IpAddr, vtep: IpAddr, port: u16) -> Self {
        let bind = |address: IpAddr| {
            let socket = UdpSocket::bind((address, 0)).ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        };
        Channels { port, underlay: bind(node), tunnel: bind(vtep) }
    }

    /// Asks by both channels, as often as `waits` has elements, for each of which it waits so long.
    /// Returns as soon as both have answered.
    pub fn ask(&self, node: IpAddr, vtep: IpAddr, request: &Message, waits: &[Duration]) -> Answers {
        let mut answers = Answers::default();
        for wait in waits {
            if answers.underlay.is_none() {
                send(self.underlay.as_ref(), (node, self.port).into(), request);
            }
            if answers.tunnel.is_none() {
                send(self.tunnel.as_ref(), (vtep, self.port).into(), request);
            }
            let until = Instant::now() + *wait;
            while answers.underlay.is_none() || answers.tunnel.is_none() {
                if !readable(self.underlay.iter().chain(&self.tunnel), until) {
                    break;
                }
                receive(self.underlay.as_ref(), node, request, &mut answers.underlay);
                receive(self.tunnel.as_ref(), vtep, request, &mut answers.tunnel);
            }
            if answers.underlay.is_some() && answers.tunnel.is_some() {
                break;
            }
        }
        answers
    }
}

/// What cannot be sent is not answered, which is what matters.
fn send(socket: Option<&UdpSocket>, to: SocketAddr, request: &Message) {
    if let Some(socket) = socket {
        let _unanswered = socket.send_to(&request.encode(), to);
    }
}

fn receive(socket: Option<&UdpSocket>, from: IpAddr, request: &Message, answer: &mut Option<Account>) {
    let mut buffer = [0; message::SIZE + 1];
    let Some(socket) = socket else { return };
    for _ in 0..MOST {
        match socket.recv_from(&mut buffer) {
            Ok((len, sender)) if sender.ip().to_canonical() == from => {
                if let Ok(message) = Message::decode(&buffer[..len])
                    && (message.kind, message.token) == (request.kind, request.token)
                    && message.reply.is_some()
                {
                    *answer = message.reply;
                }
            }
            Ok(_) => {}
            // What an earlier request met with, as in "connection refused".
            Err(e) if e.kind() != io::ErrorKind::WouldBlock && e.kind() != io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Waits until one of the sockets can be read; false when it is too late.
pub fn readable<'a, S: AsFd + 'a>(sockets: impl Iterator<Item = &'a S>, until: Instant) -> bool {
    let mut fds: Vec<PollFd<'_>> = sockets.map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)).collect();
    let left = until.saturating_duration_since(Instant::now());
    if fds.is_empty() || left.is_zero() {
        return false;
    }
    // Rounded up, so that the last millisecond is not spent in a busy loop.
    let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
    // Interrupted by a signal, there may be something to read; the caller looks.
    poll(&mut fds, timeout) != Ok(0)
}

/// A raw socket for ICMP, from one address to another.
///
/// # Errors
/// Without `CAP_NET_RAW`, or where there is no route.
pub fn icmp(from: IpAddr, to: IpAddr) -> io::Result<Socket> {
    let (domain, protocol) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    Ok(socket)
}

/// Whether a packet that a raw socket for ICMP got is the answer to an echo request with this mark.
pub fn is_answer(packet: &[u8], v4: bool, token: u64) -> bool {
    // Raw sockets of IPv4 get the header of IP, those of IPv6 do not (raw(7), RFC 3542 section 3).
    let header = match packet.first() {
        Some(first) if v4 => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    let reply = if v4 { 0 } else { 129 };
    packet.get(header..).is_some_and(|icmp| {
        icmp.first() == Some(&reply)
            && icmp.get(8..).is_some_and(|data| data.starts_with(&token.to_be_bytes()))
    })
}

/// Whether a node answers an ICMP echo, asked as often as `waits` has elements.
pub fn ping(from: IpAddr, to: IpAddr, waits: &[Duration]) -> bool {
    let token = token();
    let Ok(socket) = icmp(from, to) else { return false };
    for (sequence, wait) in (0u16..).zip(waits) {
        let _unanswered = socket.send(&echo::request(to, token, sequence));
        let until = Instant::now() + *wait;
        while readable(std::iter::once(&socket), until) {
            if received(&socket, to.is_ipv4(), token) > 0 {
                return true;
            }
        }
    }
    false
}

/// How many answers with the mark a raw socket has.
pub fn received(socket: &Socket, v4: bool, token: u64) -> u8 {
    use std::io::Read;
    let mut buffer = [0; 512];
    let mut answers = 0u8;
    for _ in 0..MOST {
        match (&*socket).read(&mut buffer) {
            Ok(len) => answers = answers.saturating_add(u8::from(is_answer(&buffer[..len], v4, token))),
            // What a router or the kernel said about an earlier packet.
            Err(e) if e.kind() != io::ErrorKind::WouldBlock && e.kind() != io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    answers
}

/// A mark that nobody guesses by chance.
pub fn token() -> u64 {
    u64::from(random()) << 32 | u64::from(random())
}
