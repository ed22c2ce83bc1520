//! Small translations between the library's types and ours, and the frame of the kernel's messages,
//! shared by the object modules.

use std::net::IpAddr;

use minionet_core::addr::{Family, MacAddr};
use netlink_packet_route::AddressFamily;

/// Octets of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// What of the header of a message is of use (`struct nlmsghdr` of linux/netlink.h).
pub(crate) struct Header {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
}

/// A message: its type, and what follows the netlink header.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) body: &'a [u8],
}

/// The first message of what is left of a datagram, its header included.
///
/// # Errors
/// Says how long the message should be where it is cut off.
pub(crate) fn message(rest: &[u8]) -> Result<(Header, &[u8]), String> {
    let cut_off = |length: usize| format!("a message of {length} octets in {} octets", rest.len());
    let fields = || Some((u32_at(rest, 0)? as usize, u16_at(rest, 4)?, u16_at(rest, 6)?, u32_at(rest, 8)?));
    let (length, kind, flags, sequence) = fields().ok_or_else(|| cut_off(HEADER))?;
    let message = rest.get(..length).filter(|message| message.len() >= HEADER);
    Ok((Header { kind, flags, sequence }, message.ok_or_else(|| cut_off(length))?))
}

/// The attributes from an offset on: kinds without their flags, and values. What is cut off ends
/// the sequence.
pub(crate) fn attributes(body: &[u8], start: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(start..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        // The two highest bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
        let kind = u16_at(rest, 2)? & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The number at an offset.
pub(crate) fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

/// The number at an offset.
pub(crate) fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

/// The signed number at an offset.
pub(crate) fn i32_at(octets: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

/// The kernel's number for an address family.
pub(crate) fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// An address out of its octets. The library cannot always tell the family, and then hands the
/// octets over (forwarding table entries above all); their number says which it is.
pub(crate) fn ip_of(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// An Ethernet address out of its octets.
pub(crate) fn mac_of(octets: &[u8]) -> Option<MacAddr> {
    <[u8; 6]>::try_from(octets).ok().map(MacAddr)
}
