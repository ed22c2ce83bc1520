//! Notifications: that something of ours was changed, never what it is now.
//!
//! What a notification says may be outdated when it is read, and notifications get lost when
//! the kernel has more of them than the buffer holds (`ENOBUFS`). So they only say *look again*;
//! what to do follows from reading the tables. Notifications that cannot concern us (pods coming
//! and going, other programs' routes and nft tables) are passed over without another look.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::socket::{setsockopt, sockopt};

use crate::error::Error;

/// Size that is asked of the kernel for the buffer of a socket, in octets.
const KERNEL_BUFFER: usize = 1024 * 1024;

/// Size of one datagram at the most, in octets.
const BUFFER: usize = 64 * 1024;

/// `NETLINK_NETFILTER` of linux/netlink.h.
const NETFILTER: isize = 12;

/// Groups of linux/rtnetlink.h: links, neighbours (forwarding entries among them), addresses and
/// routes of both families, and their kernel settings (`RTNLGRP_IPV4_NETCONF` and
/// `RTNLGRP_IPV6_NETCONF`: forwarding and the filter of sources are among them).
const ROUTE_GROUPS: [u32; 8] = [1, 3, 5, 7, 9, 11, 24, 25];

/// `NFNLGRP_NFTABLES` of linux/netfilter/nfnetlink.h.
const NFT_GROUP: u32 = 7;

/// What is of interest; everything else is passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Name of the overlay's device.
    pub device: String,
    /// Numbers of the devices whose changes matter: the overlay's and the underlay's.
    pub links: Vec<u32>,
    /// Protocol number of the routes that are ours.
    pub protocol: u8,
    /// Name of the nft table that is ours.
    pub table: String,
    /// Chains of other nft tables whose rules matter, by the names of table and chain.
    pub chains: Vec<(String, String)>,
}

/// What a look at the waiting notifications found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noticed {
    /// Something that is of interest was changed, or may have been.
    pub changed: bool,
    /// Notifications were lost.
    pub overrun: bool,
}

/// Which family of notifications a monitor listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Links, addresses, neighbours, routes.
    Route,
    /// nftables.
    Nft,
}

/// A socket that listens for notifications, in the namespace that its maker was in.
pub struct Monitor {
    socket: netlink_sys::Socket,
    source: Source,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Starts to listen. What happens from now on is noticed; read the tables afterwards.
    ///
    /// # Errors
    /// [`Error::Socket`] when the kernel refuses.
    pub fn open(source: Source) -> Result<Self, Error> {
        let open = || -> io::Result<netlink_sys::Socket> {
            let (protocol, groups) = match source {
                Source::Route => (netlink_sys::protocols::NETLINK_ROUTE, &ROUTE_GROUPS[..]),
                Source::Nft => (NETFILTER, &[NFT_GROUP][..]),
            };
            let mut socket = netlink_sys::Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            // Needs a right that a user namespace does not give; the default does as well, with
            // more overruns.
            let _refused = setsockopt(&socket, sockopt::RcvBufForce, &KERNEL_BUFFER);
            for group in groups {
                socket.add_membership(*group)?;
            }
            Ok(socket)
        };
        let socket =
            open().map_err(|source| Error::Socket { operation: "listen for changes".into(), source })?;
        Ok(Monitor { socket, source, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Reads all notifications that wait; never blocks.
    ///
    /// # Errors
    /// [`Error::Socket`] when the socket is of no use any more.
    pub fn drain(&mut self, interest: &Interest) -> Result<Noticed, Error> {
        let mut noticed = Noticed::default();
        loop {
            self.buffer.clear();
            self.buffer.reserve(BUFFER);
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {
                    noticed.changed |= messages(&self.buffer).any(|m| concerns(self.source, &m, interest));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(noticed),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                    noticed = Noticed { changed: true, overrun: true };
                }
                Err(source) => return Err(Error::Socket { operation: "hear of changes".into(), source }),
            }
        }
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A message: its type, and what follows the netlink header.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram; what is cut off or mangled ends the sequence.
pub(crate) fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(rest, 0)? as usize;
        let message = Message { kind: u16_at(rest, 4)?, body: rest.get(16..length)? };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

fn concerns(source: Source, message: &Message<'_>, interest: &Interest) -> bool {
    match source {
        Source::Route => route_concerns(message, interest),
        Source::Nft => nft_concerns(message, interest),
    }
}

/// struct nfgenmsg has four octets; the first attribute of every kind of object is the name of its
/// table (`NFTA_*_TABLE` and `NFTA_TABLE_NAME` are all 1).
fn nft_concerns(message: &Message<'_>, interest: &Interest) -> bool {
    let Some(table) = text_attribute(message.body, 4, 1) else { return false };
    let watched = |chain: Option<&[u8]>| {
        let mut chains = interest.chains.iter();
        chains.any(|(t, c)| t.as_bytes() == table && chain == Some(c.as_bytes()))
    };
    // The lower octet of the type is the kind of message (enum nf_tables_msg_types).
    table == interest.table.as_bytes()
        || match message.kind & 0xff {
            // NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN: NFTA_CHAIN_NAME is 3. A new chain at a hook
            // (NFTA_CHAIN_HOOK, 4) may drop what is forwarded.
            3 | 5 => attribute(message.body, 4, 4).is_some() || watched(text_attribute(message.body, 4, 3)),
            // NFT_MSG_NEWRULE, NFT_MSG_DELRULE: NFTA_RULE_CHAIN is 2.
            6 | 8 => watched(text_attribute(message.body, 4, 2)),
            _ => false,
        }
}

/// Message types are those of linux/rtnetlink.h. What cannot be understood is of interest.
fn route_concerns(message: &Message<'_>, interest: &Interest) -> bool {
    let ours = |index: Option<u32>| index.is_none_or(|i| interest.links.contains(&i));
    match message.kind {
        // RTM_NEWLINK, RTM_DELLINK: struct ifinfomsg has the index at 4, and attributes at 16;
        // IFLA_IFNAME is 3. A new device has our name before we know its index.
        16 | 17 => {
            ours(u32_at(message.body, 4))
                || text_attribute(message.body, 16, 3).is_some_and(|n| n == interest.device.as_bytes())
        }
        // RTM_NEWADDR, RTM_DELADDR: struct ifaddrmsg has the index at 4. Any address can become
        // this node's own.
        20 | 21 => true,
        // RTM_NEWROUTE, RTM_DELROUTE: struct rtmsg has the protocol at 5.
        24 | 25 => message.body.get(5).is_none_or(|p| *p == interest.protocol),
        // RTM_NEWNEIGH, RTM_DELNEIGH: struct ndmsg has the index at 4.
        28 | 29 => ours(u32_at(message.body, 4)),
        // RTM_NEWNETCONF: struct netconfmsg has one octet, padded to four. NETCONFA_IFINDEX is 1,
        // and all ones stands for the settings of all interfaces (NETCONFA_IFINDEX_ALL).
        80 => {
            let index = attribute(message.body, 4, 1).and_then(|value| u32_at(value, 0));
            index == Some(u32::MAX) || ours(index)
        }
        _ => false,
    }
}

/// The text of an attribute, without the zero that ends it.
pub(crate) fn text_attribute(body: &[u8], start: usize, wanted: u16) -> Option<&[u8]> {
    attribute(body, start, wanted).map(|value| value.strip_suffix(&[0]).unwrap_or(value))
}

/// The octets of an attribute.
pub(crate) fn attribute(body: &[u8], start: usize, wanted: u16) -> Option<&[u8]> {
    let mut rest = body.get(start..)?;
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..length)?;
        // The two highest bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
        if u16_at(rest, 2)? & 0x3fff == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest() -> Interest {
        Interest {
            device: "minionet".into(),
            links: vec![7],
            protocol: 109,
            table: "minionet".into(),
            chains: vec![("filter".into(), "FORWARD".into())],
        }
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        octets.extend((16 + body.len() as u32).to_ne_bytes());
        octets.extend(kind.to_ne_bytes());
        octets.resize(16, 0);
        octets.extend(body);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    fn noticed(source: Source, datagram: &[u8]) -> bool {
        messages(datagram).any(|m| concerns(source, &m, &interest()))
    }

    fn link(index: u32, name: &str) -> Vec<u8> {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body.extend((5 + name.len() as u16).to_ne_bytes());
        body.extend(3u16.to_ne_bytes());
        body.extend(name.as_bytes());
        body.push(0);
        message(16, &body)
    }

    #[test]
    fn only_what_may_concern_us_is_noticed() {
        assert!(noticed(Source::Route, &link(7, "eth0")));
        assert!(noticed(Source::Route, &link(99, "minionet")), "a device that was made anew");
        assert!(!noticed(Source::Route, &link(99, "veth0")));
        assert!(noticed(Source::Route, &message(25, &[2, 24, 0, 0, 254, 109, 0, 1])));
        assert!(!noticed(Source::Route, &message(25, &[2, 24, 0, 0, 254, 110, 0, 1])), "a pod's route");
        let setting = |index: u32| {
            let mut body = vec![2, 0, 0, 0, 8, 0, 1, 0];
            body.extend(index.to_ne_bytes());
            message(80, &body)
        };
        assert!(noticed(Source::Route, &setting(7)) && noticed(Source::Route, &setting(u32::MAX)));
        assert!(!noticed(Source::Route, &setting(99)), "settings of a pod's interface");
        assert!(!noticed(Source::Route, &setting(u32::MAX - 1)), "those of interfaces to come");
        let both = [link(99, "veth0"), message(29, &[2, 0, 0, 0, 7, 0, 0, 0])].concat();
        assert!(noticed(Source::Route, &both), "the second message of a datagram");
    }

    #[test]
    fn nft_changes_are_known_by_their_table() {
        let table = |name: &str| {
            let mut body = vec![1, 0, 0, 0];
            body.extend((5 + name.len() as u16).to_ne_bytes());
            body.extend(1u16.to_ne_bytes());
            body.extend(name.as_bytes());
            body.push(0);
            message(0x0a02, &body)
        };
        assert!(noticed(Source::Nft, &table("minionet")));
        assert!(!noticed(Source::Nft, &table("kube-proxy")));
        let object = |kind: u16, names: &[(u16, &str)]| {
            let mut body = vec![2, 0, 0, 0];
            for (attribute, name) in names {
                body.extend((5 + name.len() as u16).to_ne_bytes());
                body.extend(attribute.to_ne_bytes());
                body.extend(name.as_bytes());
                body.push(0);
                body.resize(body.len().next_multiple_of(4), 0);
            }
            message(0x0a00 | kind, &body)
        };
        assert!(noticed(Source::Nft, &object(3, &[(1, "other"), (3, "c"), (4, "a hook")])));
        assert!(!noticed(Source::Nft, &object(3, &[(1, "other"), (3, "c")])), "a chain at no hook");
        assert!(noticed(Source::Nft, &object(6, &[(1, "filter"), (2, "FORWARD")])));
        assert!(noticed(Source::Nft, &object(5, &[(1, "filter"), (3, "FORWARD")])));
        assert!(!noticed(Source::Nft, &object(6, &[(1, "filter"), (2, "INPUT")])));
    }

    #[test]
    fn mangled_notifications_do_no_harm() {
        for octets in [&[][..], &[1], &[0; 16], &[255; 40]] {
            noticed(Source::Route, octets);
            noticed(Source::Nft, octets);
        }
        assert!(noticed(Source::Route, &message(28, &[])), "what is not understood is looked at");
    }
}
