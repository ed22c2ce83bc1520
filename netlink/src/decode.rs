//! Small translations between the kernel's numbers and our types, and the attributes of its messages,
//! shared by the object modules.

use std::net::IpAddr;

use minionet_core::addr::{Family, MacAddr};
use nix::libc;

/// The kernel's number for an address family.
pub(crate) fn family(family: Family) -> u8 {
    let number = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    // 2 and 10.
    number as u8
}

/// An address out of its octets. What the message is about does not always tell the family (forwarding
/// entries above all); their number does.
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

/// The attributes of a message, of which the fixed part has `start` octets: number and octets of
/// each, up to the first that is not whole.
pub(crate) fn attributes(octets: &[u8], start: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = octets.get(start..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..length)?;
        // The two highest bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
        let number = u16_at(rest, 2)? & 0x3fff;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((number, value))
    })
}

/// A number of two octets in the machine's order.
pub(crate) fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

/// A number of four octets in the machine's order.
pub(crate) fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

/// A text without the zero at its end.
pub(crate) fn text_of(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets.strip_suffix(&[0]).unwrap_or(octets)).into_owned()
}
