//! Addresses on devices.

use std::net::IpAddr;

use minionet_core::addr::Family;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};

use crate::decode;
use crate::error::Error;
use crate::socket::{Request, Socket};

/// An address on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The device's number.
    pub index: u32,
    /// The address.
    pub addr: IpAddr,
    /// Length of the subnet's prefix in bits.
    pub prefix_len: u8,
    /// Not proved unique yet, or proved not to be (`IFA_F_TENTATIVE`, `IFA_F_DADFAILED`).
    pub tentative: bool,
    /// Not to be used for anything new (`IFA_F_DEPRECATED`).
    pub deprecated: bool,
    /// Not the first of its subnet, or a temporary one (`IFA_F_SECONDARY`).
    pub secondary: bool,
    /// Whether it is valid beyond its link (scope `global`, or IPv6 `site`).
    pub global: bool,
}

impl Socket {
    /// Reads the addresses of one device, or of all.
    ///
    /// # Errors
    /// [`Error`] when the kernel cannot be asked.
    pub fn addresses(&mut self, index: Option<u32>) -> Result<Vec<Address>, Error> {
        let mut message = AddressMessage::default();
        message.header.index = index.unwrap_or(0);
        self.dump(Message::GetAddress(message), "read the addresses", |m| match m {
            Message::NewAddress(address) => decode(address),
            _ => None,
        })
    }
}

/// The request that puts an address on a device, usable at once: no duplicate address detection.
pub(crate) fn add(index: u32, addr: IpAddr, prefix_len: u8) -> Request {
    let mut message = encode(index, addr, prefix_len);
    if addr.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    Request::new(Message::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// The request that takes an address off a device.
pub(crate) fn remove(index: u32, addr: IpAddr, prefix_len: u8) -> Request {
    Request::new(Message::DelAddress(encode(index, addr, prefix_len)), 0)
}

fn encode(index: u32, addr: IpAddr, prefix_len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.family = decode::family(Family::of(addr));
    message.header.prefix_len = prefix_len;
    message.header.scope = AddressScope::Universe;
    message.attributes = vec![AddressAttribute::Local(addr), AddressAttribute::Address(addr)];
    message
}

fn decode(message: AddressMessage) -> Option<Address> {
    // IFA_LOCAL is the address; IFA_ADDRESS is the other end of a point-to-point link, and the
    // address itself where there is no IFA_LOCAL (IPv6).
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(addr) => Some(*addr),
        _ => None,
    });
    let plain = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(addr) => Some(*addr),
        _ => None,
    });
    let flags = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    let flags = flags.unwrap_or(AddressFlags::empty());
    Some(Address {
        index: message.header.index,
        addr: local.or(plain)?,
        prefix_len: message.header.prefix_len,
        tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
        deprecated: flags.contains(AddressFlags::Deprecated),
        secondary: flags.contains(AddressFlags::Secondary),
        global: matches!(message.header.scope, AddressScope::Universe | AddressScope::Site),
    })
}
