//! Addresses on devices.

use std::net::IpAddr;

use minionet_core::addr::Family;
use nix::libc;

use crate::decode::{self, ip_of, u32_at};
use crate::error::Error;
use crate::received::Received;
use crate::request::{CREATE, EXCLUSIVE, Request};
use crate::socket::Socket;

/// Octets of `struct ifaddrmsg` of linux/if_addr.h: family, length of the prefix, flags, scope, and
/// the device's number at 4.
const HEADER: usize = 8;

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
        let [a, b, c, d] = index.unwrap_or(0).to_ne_bytes();
        let request = Request::new(libc::RTM_GETADDR, 0, &[0, 0, 0, 0, a, b, c, d]);
        self.dump(&request, "read the addresses", |object| Ok(decode(object)))
    }
}

/// The request that puts an address on a device, usable at once: no duplicate address detection.
pub(crate) fn add(index: u32, addr: IpAddr, prefix_len: u8) -> Request {
    let request = encode(libc::RTM_NEWADDR, CREATE | EXCLUSIVE, index, addr, prefix_len);
    if addr.is_ipv6() { request.number(libc::IFA_FLAGS, libc::IFA_F_NODAD) } else { request }
}

/// The request that takes an address off a device.
pub(crate) fn remove(index: u32, addr: IpAddr, prefix_len: u8) -> Request {
    encode(libc::RTM_DELADDR, 0, index, addr, prefix_len)
}

fn encode(kind: u16, flags: u16, index: u32, addr: IpAddr, prefix_len: u8) -> Request {
    let [a, b, c, d] = index.to_ne_bytes();
    let family = decode::family(Family::of(addr));
    Request::new(kind, flags, &[family, prefix_len, 0, libc::RT_SCOPE_UNIVERSE, a, b, c, d])
        .address(libc::IFA_LOCAL, addr)
        .address(libc::IFA_ADDRESS, addr)
}

fn decode(object: &Received<'_>) -> Option<Address> {
    if object.kind != libc::RTM_NEWADDR {
        return None;
    }
    let body = object.body();
    let (prefix_len, scope, index) = (*body.get(1)?, *body.get(3)?, u32_at(body, 4)?);
    let (mut local, mut plain, mut flags) = (None, None, 0);
    for (number, value) in decode::attributes(body, HEADER) {
        match number {
            libc::IFA_LOCAL => local = ip_of(value),
            libc::IFA_ADDRESS => plain = ip_of(value),
            libc::IFA_FLAGS => flags = u32_at(value, 0)?,
            _ => {}
        }
    }
    let has = |flag: u32| flags & flag != 0;
    Some(Address {
        index,
        // IFA_LOCAL is the address; IFA_ADDRESS is the other end of a point-to-point link, and the
        // address itself where there is no IFA_LOCAL (IPv6).
        addr: local.or(plain)?,
        prefix_len,
        tentative: has(libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED),
        deprecated: has(libc::IFA_F_DEPRECATED),
        secondary: has(libc::IFA_F_SECONDARY),
        global: matches!(scope, libc::RT_SCOPE_UNIVERSE | libc::RT_SCOPE_SITE),
    })
}
