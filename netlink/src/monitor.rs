//! Notifications: that something of ours was changed, never what it is now.
//!
//! What a notification says may be outdated when it is read, and notifications get lost when
//! the kernel has more of them than the buffer holds (`ENOBUFS`). So they only say *look again*;
//! what to do follows from reading the tables. Notifications that cannot concern us are passed over
//! without another look (other programs' routes and nft tables), or not even sent (pods coming and
//! going).

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use minionet_core::addr::Cidr;
use minionet_core::overlay::object;
use nix::sys::socket::{setsockopt, sockopt};

use crate::decode::{self, attributes, u32_at};
use crate::error::Error;
use crate::filter;
use crate::received::{Messages, Received};

/// Size that is asked of the kernel for the buffer of a socket, in octets.
const KERNEL_BUFFER: usize = 1024 * 1024;

/// Size of one datagram at the most, in octets.
const BUFFER: usize = 64 * 1024;

/// `NETLINK_NETFILTER` of linux/netlink.h.
const NETFILTER: isize = 12;

/// Groups of linux/rtnetlink.h: links, neighbours (forwarding entries among them), addresses and
/// routes of both families, and their kernel settings (`RTNLGRP_IPV4_NETCONF` and
/// `RTNLGRP_IPV6_NETCONF`: forwarding and the filter of sources are among them). The kernel has all
/// of them.
const ROUTE_GROUPS: [u32; 8] = [1, 3, 5, 7, 9, 11, 24, 25];

/// `RTNLGRP_NEXTHOP` of linux/rtnetlink.h: next hop objects. A route goes with its object without a
/// word of its own (`__remove_nexthop_fib` in net/ipv4/nexthop.c).
const NEXTHOP_GROUP: u32 = 32;

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
    /// How the names of devices begin that are in nobody's way: those of pods.
    pub pod_links: String,
    /// Kernel settings that matter and that netlink does not tell of, below `/proc/sys/net`.
    pub settings: Vec<String>,
    /// Set while the kernel refuses anything: where the routes lead that are among it.
    pub refused: Option<BTreeSet<Cidr>>,
}

/// What a look at the waiting notifications found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noticed {
    /// Something that is of interest was changed, or may have been.
    pub changed: bool,
    /// What was in the way of something that is refused may be gone.
    pub way_free: bool,
    /// Notifications were lost.
    pub overrun: bool,
}

/// Which family of notifications a monitor listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Links, addresses, neighbours, routes, next hop objects.
    Route,
    /// nftables.
    Nft,
}

/// A socket that listens for notifications, in the namespace that its maker was in.
pub struct Monitor {
    socket: netlink_sys::Socket,
    source: Source,
    /// Those whose settings the kernel tells of.
    links: Vec<u32>,
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
            if source == Source::Route {
                filter::attach(&socket, &filter::but_pods(&[]));
            }
            for group in groups {
                socket.add_membership(*group)?;
            }
            if source == Source::Route {
                // Refused by a kernel without such objects, where there is nothing to hear.
                let _refused = socket.add_membership(NEXTHOP_GROUP);
            }
            Ok(socket)
        };
        let socket =
            open().map_err(|source| Error::Socket { operation: "listen for changes".into(), source })?;
        Ok(Monitor { socket, source, links: Vec::new(), buffer: Vec::with_capacity(BUFFER) })
    }

    /// Reads all notifications that wait; never blocks.
    ///
    /// # Errors
    /// [`Error::Socket`] when the socket is of no use any more.
    pub fn drain(&mut self, interest: &Interest) -> Result<Noticed, Error> {
        let mut noticed = Noticed::default();
        if self.source == Source::Route && self.links != interest.links {
            self.links.clone_from(&interest.links);
            filter::attach(&self.socket, &filter::but_pods(&self.links));
        }
        loop {
            self.buffer.clear();
            self.buffer.reserve(BUFFER);
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {
                    for message in messages(&self.buffer) {
                        noticed.changed |= concerns(self.source, &message, interest);
                        noticed.way_free |= self.source == Source::Route && frees(&message, interest);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(noticed),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                    noticed = Noticed { changed: true, way_free: true, overrun: true };
                }
                Err(source) => return Err(Error::Socket { operation: "hear of changes".into(), source }),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The messages of a datagram; what is cut off or mangled ends the sequence.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Received<'_>> {
    Messages::new(datagram, "hear of changes").map_while(Result::ok)
}

fn concerns(source: Source, message: &Received<'_>, interest: &Interest) -> bool {
    match source {
        Source::Route => route_concerns(message, interest),
        Source::Nft => nft_concerns(message, interest),
    }
}

/// struct nfgenmsg has four octets; the first attribute of every kind of object is the name of its
/// table (`NFTA_*_TABLE` and `NFTA_TABLE_NAME` are all 1).
fn nft_concerns(message: &Received<'_>, interest: &Interest) -> bool {
    let Some(table) = text_attribute(message.body(), 4, 1) else { return false };
    let watched = |chain: Option<&[u8]>| {
        let mut chains = interest.chains.iter();
        chains.any(|(t, c)| t.as_bytes() == table && chain == Some(c.as_bytes()))
    };
    // The lower octet of the type is the kind of message (enum nf_tables_msg_types).
    table == interest.table.as_bytes()
        || match message.kind & 0xff {
            // NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN: NFTA_CHAIN_NAME is 3. A new chain at a hook
            // (NFTA_CHAIN_HOOK, 4) may drop what is forwarded.
            3 | 5 => {
                attribute(message.body(), 4, 4).is_some() || watched(text_attribute(message.body(), 4, 3))
            }
            // NFT_MSG_NEWRULE, NFT_MSG_DELRULE: NFTA_RULE_CHAIN is 2.
            6 | 8 => watched(text_attribute(message.body(), 4, 2)),
            _ => false,
        }
}

/// Message types are those of linux/rtnetlink.h. What cannot be understood is of interest.
fn route_concerns(message: &Received<'_>, interest: &Interest) -> bool {
    let ours = |index: Option<u32>| index.is_none_or(|i| interest.links.contains(&i));
    match message.kind {
        // RTM_NEWLINK, RTM_DELLINK: struct ifinfomsg has the index at 4, and attributes at 16;
        // IFLA_IFNAME is 3. A new device has our name before we know its index.
        16 | 17 => {
            ours(u32_at(message.body(), 4))
                || text_attribute(message.body(), 16, 3).is_some_and(|n| n == interest.device.as_bytes())
        }
        // RTM_NEWADDR, RTM_DELADDR: struct ifaddrmsg has the index at 4. Any address can become
        // this node's own.
        20 | 21 => true,
        // RTM_NEWROUTE, RTM_DELROUTE: struct rtmsg has the protocol at 5.
        24 | 25 => message.body().get(5).is_none_or(|p| *p == interest.protocol),
        // RTM_NEWNEIGH, RTM_DELNEIGH: struct ndmsg has the index at 4.
        28 | 29 => ours(u32_at(message.body(), 4)),
        // RTM_NEWNEXTHOP, RTM_DELNEXTHOP: struct nhmsg has the protocol at 2, and attributes at 8. A
        // stranger's may have taken the place of one of ours, by its number (NHA_ID is 1).
        104 | 105 => {
            let number = attribute(message.body(), 8, 1).and_then(|value| u32_at(value, 0));
            message.body().get(2).is_none_or(|p| *p == interest.protocol)
                || number.is_none_or(object::could_be_ours)
        }
        // RTM_NEWNETCONF: struct netconfmsg has one octet, padded to four. NETCONFA_IFINDEX is 1,
        // and all ones stands for the settings of all interfaces (NETCONFA_IFINDEX_ALL).
        80 => {
            let index = attribute(message.body(), 4, 1).and_then(|value| u32_at(value, 0));
            index == Some(u32::MAX) || ours(index)
        }
        _ => false,
    }
}

/// Whether something is gone that may have been in the way of what is refused: somebody else's
/// route to the same place, or a device with all that was on it. With a device that is set down
/// IPv4 routes go without a word of their own (`fib_table_flush` in net/ipv4/fib_trie.c).
fn frees(message: &Received<'_>, interest: &Interest) -> bool {
    let Some(refused) = &interest.refused else { return false };
    match message.kind {
        // RTM_DELROUTE: struct rtmsg has the length of the prefix at 1 and the protocol at 5, and
        // attributes at 12; RTA_DST is 1.
        25 => {
            let dst = attribute(message.body(), 12, 1).and_then(decode::ip_of);
            let len = message.body().get(1).copied();
            let cidr = dst.zip(len).and_then(|(dst, len)| Cidr::containing(dst, len).ok());
            message.body().get(5) != Some(&interest.protocol)
                && cidr.is_some_and(|cidr| refused.contains(&cidr))
        }
        // RTM_DELNEXTHOP: routes went with it, and it does not say which.
        105 => true,
        // RTM_NEWLINK, RTM_DELLINK: struct ifinfomsg has the flags at 8, IFF_UP is 1.
        16 | 17 => {
            let down = u32_at(message.body(), 8).is_some_and(|flags| flags & 1 == 0);
            let name = text_attribute(message.body(), 16, 3).unwrap_or_default();
            (message.kind == 17 || down) && !name.starts_with(interest.pod_links.as_bytes())
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
    attributes(body, start).find(|(number, _)| *number == wanted).map(|(_, value)| value)
}
