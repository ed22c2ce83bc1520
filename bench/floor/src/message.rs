//! Messages of rtnetlink, written octet by octet: nothing stands between the program and the
//! kernel that could cost anything.

use std::net::IpAddr;

use nix::libc;

/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_EXCL`, `NLM_F_CREATE` of linux/netlink.h.
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
pub const NEW: u16 = 0x200 | 0x400;

/// Octets of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Requests that are sent together.
///
/// Only the last asks for an acknowledgement: the kernel works in order, and what it refuses it
/// reports unasked.
#[derive(Default)]
pub struct Batch {
    octets: Vec<u8>,
    last: usize,
}

impl Batch {
    /// Begins a request with its fixed part.
    pub fn request(&mut self, kind: u16, flags: u16, fixed: &[u8]) -> &mut Self {
        self.last = self.octets.len();
        self.octets.extend(0u32.to_ne_bytes());
        self.octets.extend(kind.to_ne_bytes());
        self.octets.extend((REQUEST | flags).to_ne_bytes());
        self.octets.extend([0; 8]);
        self.octets.extend(fixed);
        self.close()
    }

    /// Appends an attribute to the request.
    pub fn attribute(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        let attribute = attribute(kind, payload);
        self.octets.extend(attribute);
        self.close()
    }

    /// What is to be sent.
    pub fn finish(mut self) -> Vec<u8> {
        let at = self.last + 6;
        let flags = u16::from_ne_bytes([self.octets[at], self.octets[at + 1]]) | ACK;
        self.octets[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        self.octets
    }

    fn close(&mut self) -> &mut Self {
        let length = (self.octets.len() - self.last) as u32;
        self.octets[self.last..self.last + 4].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

/// An attribute, filled up to a multiple of four octets.
pub fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut octets = ((payload.len() + 4) as u16).to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(payload);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

/// A name with the zero at its end.
pub fn name(text: &str) -> Vec<u8> {
    let mut octets = text.as_bytes().to_vec();
    octets.push(0);
    octets
}

/// `struct ifinfomsg`.
pub fn link(index: u32, up: Option<bool>) -> [u8; 16] {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    if let Some(up) = up {
        let flag = libc::IFF_UP as u32;
        fixed[8..12].copy_from_slice(&(if up { flag } else { 0 }).to_ne_bytes());
        fixed[12..16].copy_from_slice(&flag.to_ne_bytes());
    }
    fixed
}

/// The octets of an address, and the number of its family.
pub fn octets(address: IpAddr) -> (Vec<u8>, u8) {
    match address {
        IpAddr::V4(address) => (address.octets().to_vec(), libc::AF_INET as u8),
        IpAddr::V6(address) => (address.octets().to_vec(), libc::AF_INET6 as u8),
    }
}

/// Number and peer of the first link in an answer, if it is one.
pub fn link_of(answer: &[u8]) -> Option<(u32, u32)> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = |octets: &[u8]| Some(u32::from_ne_bytes(octets.try_into().ok()?));
    if kind != libc::RTM_NEWLINK {
        return None;
    }
    let index = number(answer.get(HEADER + 4..HEADER + 8)?)?;
    let mut rest = answer.get(HEADER + 16..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        if kind == libc::IFLA_LINK {
            return Some((index, number(rest.get(4..8)?)?));
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

/// The refusal in an answer, as an error number; zero is an acknowledgement.
pub fn verdict_of(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if i32::from(kind) != libc::NLMSG_ERROR {
        return None;
    }
    Some(-i32::from_ne_bytes(answer.get(HEADER..HEADER + 4)?.try_into().ok()?))
}
