//! What the kernel's answers cost without anybody who understands them, and the moment at which
//! it tells of a route.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use minionet_core::constants::ROUTE_PROTOCOL_PEER;
use netns_testbed::Namespace;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};

/// Octets of `struct nlmsghdr`, and of `struct rtmsg` behind it.
const HEADER: usize = 16;
const ROUTE: usize = HEADER + 12;
/// `NLM_F_REQUEST | NLM_F_DUMP` of linux/netlink.h.
const DUMP: u16 = 0x1 | 0x300;
/// `NETLINK_GET_STRICT_CHK` of linux/netlink.h.
const STRICT: libc::c_int = 12;
/// `RTMGRP_IPV4_ROUTE` of linux/rtnetlink.h.
const IPV4_ROUTES: u32 = 0x40;

/// `NLM_F_REQUEST`, `NLM_F_ACK`, and `NLM_F_CREATE` with `NLM_F_REPLACE` or `NLM_F_EXCL`.
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const REPLACE: u16 = 0x400 | 0x100;
const EXCLUSIVE: u16 = 0x400 | 0x200;
/// `RTNH_F_ONLINK` and attributes of linux/rtnetlink.h.
const RTNH_F_ONLINK: u32 = 4;
const RTA_DST: u16 = 1;
const RTA_NH_ID: u16 = 30;
/// Messages of linux/rtnetlink.h and attributes of linux/nexthop.h.
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;
const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
/// Attributes and a flag of linux/neighbour.h.
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;
const NTF_SELF: u8 = 2;

/// Most requests in a datagram, as the daemon sends them.
const BATCH: usize = 128;

/// What leads to a peer.
pub struct Peer {
    /// Its address on the underlay.
    pub node: Ipv4Addr,
    /// The MAC of its VTEP.
    pub mac: [u8; 6],
    /// The address of its VTEP.
    pub gateway: Ipv4Addr,
    /// The network of its pods.
    pub pods: (Ipv4Addr, u8),
}

/// A socket of rtnetlink that only counts.
pub struct Raw {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Raw {
    /// Opens it in a namespace.
    pub fn open(host: &Namespace) -> Result<Self> {
        Ok(Raw { socket: host.run(|| rtnetlink(0))??, buffer: vec![0; 64 * 1024] })
    }

    /// Reads the tables that the overlay's audit reads, with the same filters: how many octets.
    pub fn dumps(&mut self, device: u32) -> Result<usize> {
        // `struct nhmsg`.
        let mut octets = self.dump(RTM_GETNEXTHOP, &[0; 8], &[])?;
        for family in [libc::AF_INET, libc::AF_INET6] {
            // `struct rtmsg` with the protocol, and the main table.
            let mut fixed = [0; 12];
            (fixed[0], fixed[4], fixed[5]) = (family as u8, libc::RT_TABLE_MAIN, ROUTE_PROTOCOL_PEER);
            octets += self.dump(libc::RTM_GETROUTE, &fixed, &[])?;
        }
        for family in [libc::AF_UNSPEC, libc::AF_INET, libc::AF_INET6] {
            if family == libc::AF_UNSPEC {
                // `struct ifaddrmsg`.
                let mut fixed = [0; 8];
                fixed[4..].copy_from_slice(&device.to_ne_bytes());
                octets += self.dump(libc::RTM_GETADDR, &fixed, &[])?;
                continue;
            }
            octets += self.dump(libc::RTM_GETNEIGH, &neighbours(family), &attribute(NDA_IFINDEX, device))?;
        }
        // The forwarding table wants the device in its header.
        let mut fixed = neighbours(libc::AF_BRIDGE);
        fixed[4..8].copy_from_slice(&device.to_ne_bytes());
        octets += self.dump(libc::RTM_GETNEIGH, &fixed, &[])?;
        Ok(octets)
    }

    /// Sends a datagram of messages of which the last asks for an acknowledgement, and waits for that.
    pub fn send(&mut self, datagram: &[u8]) -> Result<()> {
        send(self.socket.as_raw_fd(), datagram, MsgFlags::empty())?;
        let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
        let error = self.buffer[..length].get(HEADER..HEADER + 4).map(|octets| octets.to_vec());
        ensure!(error == Some(vec![0; 4]), "the kernel refuses a peer: {error:?}");
        Ok(())
    }

    fn dump(&mut self, kind: u16, fixed: &[u8], attributes: &[u8]) -> Result<usize> {
        let length = HEADER + fixed.len() + attributes.len();
        let mut request = (length as u32).to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend(DUMP.to_ne_bytes());
        request.extend([0; 8]);
        request.extend(fixed);
        request.extend(attributes);
        send(self.socket.as_raw_fd(), &request, MsgFlags::empty())?;
        let mut octets = 0;
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            octets += length;
            match last(&self.buffer[..length]) {
                kind if kind == libc::NLMSG_DONE as u16 => return Ok(octets),
                kind if kind == libc::NLMSG_ERROR as u16 => bail!("the kernel refuses the dump {kind}"),
                _ => {}
            }
        }
    }
}

/// What adds to a VXLAN device what leads to peers, in datagrams: neighbours, forwarding entries, next
/// hop objects and routes, in this order and so many in one, as the daemon sends them.
pub fn datagrams(device: u32, peers: &[Peer]) -> Vec<Vec<u8>> {
    let messages: Vec<[Message; 4]> = peers.iter().map(|peer| messages(device, peer)).collect();
    let in_order: Vec<&Message> = (0..4).flat_map(|kind| messages.iter().map(move |m| &m[kind])).collect();
    in_order.chunks(BATCH).map(datagram).collect()
}

/// A request: its type, its flags, and what stands behind the header.
type Message = (u16, u16, Vec<u8>);

/// The requests that lead to a peer.
fn messages(device: u32, peer: &Peer) -> [Message; 4] {
    let neighbour = |family: i32, flags: u8| {
        // `struct ndmsg`: NUD_PERMANENT, for a forwarding entry also NUD_NOARP.
        let mut fixed = neighbours(family);
        fixed[4..8].copy_from_slice(&device.to_ne_bytes());
        fixed[8] = if family == libc::AF_BRIDGE { 0xc0 } else { 0x80 };
        fixed[10] = flags;
        fixed.to_vec()
    };
    // `struct nhmsg`: the protocol, and that the next hop is on link.
    let mut object = vec![libc::AF_INET as u8, 0, ROUTE_PROTOCOL_PEER, 0];
    object.extend(RTNH_F_ONLINK.to_ne_bytes());
    let number = u32::from(peer.gateway);
    // `struct rtmsg`: a unicast route of the main table.
    let mut route = vec![0; 12];
    (route[0], route[1]) = (libc::AF_INET as u8, peer.pods.1);
    (route[4], route[5], route[7]) = (libc::RT_TABLE_MAIN, ROUTE_PROTOCOL_PEER, libc::RTN_UNICAST);
    let (mac, gateway) = (peer.mac, peer.gateway.octets());
    let protocol = octets(NDA_PROTOCOL, &[ROUTE_PROTOCOL_PEER]);
    [
        (libc::RTM_NEWNEIGH, REPLACE, {
            let fixed = neighbour(libc::AF_INET, 0);
            [fixed, octets(NDA_DST, &gateway), octets(NDA_LLADDR, &mac), protocol].concat()
        }),
        (libc::RTM_NEWNEIGH, REPLACE, {
            let fixed = neighbour(libc::AF_BRIDGE, NTF_SELF);
            [fixed, octets(NDA_LLADDR, &mac), octets(NDA_DST, &peer.node.octets())].concat()
        }),
        (RTM_NEWNEXTHOP, EXCLUSIVE, {
            let (number, device) = (attribute(NHA_ID, number), attribute(NHA_OIF, device));
            [object, number, device, octets(NHA_GATEWAY, &gateway)].concat()
        }),
        (libc::RTM_NEWROUTE, EXCLUSIVE, {
            [route, octets(RTA_DST, &peer.pods.0.octets()), attribute(RTA_NH_ID, number)].concat()
        }),
    ]
}

/// Requests in one datagram, of which the last asks for an acknowledgement.
fn datagram(messages: &[&Message]) -> Vec<u8> {
    let mut datagram = Vec::new();
    for (position, (kind, flags, body)) in messages.iter().enumerate() {
        let acknowledge = if position + 1 == messages.len() { ACK } else { 0 };
        datagram.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        datagram.extend(kind.to_ne_bytes());
        datagram.extend((flags | acknowledge | REQUEST).to_ne_bytes());
        datagram.extend([0; 8]);
        datagram.extend(body);
    }
    datagram
}

/// `NDA_IFINDEX` of linux/neighbour.h.
const NDA_IFINDEX: u16 = 8;

/// `struct ndmsg`.
fn neighbours(family: i32) -> [u8; 12] {
    let mut fixed = [0; 12];
    fixed[0] = family as u8;
    fixed
}

fn attribute(kind: u16, value: u32) -> Vec<u8> {
    octets(kind, &value.to_ne_bytes())
}

fn octets(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = (4 + value.len() as u16).to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// The kind of the last message of a datagram.
fn last(datagram: &[u8]) -> u16 {
    let mut rest = datagram;
    let mut kind = 0;
    while let Some((header, _)) = rest.split_at_checked(HEADER) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        kind = u16::from_ne_bytes([header[4], header[5]]);
        rest = rest.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
    }
    kind
}

#[allow(unsafe_code)]
fn rtnetlink(groups: u32) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).ok();
    let on: libc::c_int = 1;
    // SAFETY: the option takes an integer, which lives across the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            STRICT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    Errno::result(result)?;
    Ok(socket)
}

/// Hears when routes to peers are made.
pub struct Routes {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Routes {
    /// Listens from now on.
    pub fn listen(host: &Namespace) -> Result<Self> {
        Ok(Routes { socket: host.run(|| rtnetlink(IPV4_ROUTES))??, buffer: vec![0; 64 * 1024] })
    }

    /// The moment at which a route to a peer appears: to this network, or any.
    pub fn appears(&mut self, network: Option<Ipv4Addr>, limit: Duration) -> Result<Instant> {
        let start = Instant::now();
        loop {
            let left = limit.saturating_sub(start.elapsed());
            let mut events = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            if poll(&mut events, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO))? == 0 {
                bail!("no route appeared within {} s", limit.as_secs());
            }
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::ENOBUFS) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if is_new_peer(&self.buffer[..length], network) {
                return Ok(Instant::now());
            }
        }
    }
}

/// Whether a notification tells of a route to a peer; each comes in a datagram of its own.
fn is_new_peer(message: &[u8], network: Option<Ipv4Addr>) -> bool {
    let kind = message.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]));
    // What leads nowhere is refused on purpose, and is no peer.
    let leads = message.get(HEADER + 7) == Some(&libc::RTN_UNICAST);
    let ours = message.get(HEADER + 5) == Some(&ROUTE_PROTOCOL_PEER) && leads;
    // The destination is the attribute that comes second, after the table.
    let leads_to = |network: Ipv4Addr| {
        message.get(ROUTE..).is_some_and(|rest| rest.windows(4).any(|octets| octets == network.octets()))
    };
    kind == Some(libc::RTM_NEWROUTE) && ours && network.is_none_or(leads_to)
}
