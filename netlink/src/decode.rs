//! Small translations between the library's types and ours, shared by the object modules.

use std::net::IpAddr;

use minionet_core::addr::{Family, MacAddr};
use netlink_packet_route::AddressFamily;

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
