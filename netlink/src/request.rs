//! Requests of rtnetlink, written octet by octet.
//!
//! A request is what its kind begins with (`struct ifinfomsg` for links, and so on), and attributes
//! behind it (linux/netlink.h, linux/rtnetlink.h): four octets of length and number each, filled up to
//! a multiple of four. A list of typed attributes, as a library would have it, would be made and
//! written for every request of every ADD, which costs a quarter of its own instructions.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::attribute;

/// `NLM_F_REPLACE`, `NLM_F_EXCL` and `NLM_F_CREATE` of linux/netlink.h: what is there is replaced; is
/// in the way; is made if it is not there.
pub(crate) const REPLACE: u16 = 0x100;
/// See [`REPLACE`].
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// See [`REPLACE`].
pub(crate) const CREATE: u16 = 0x400;

/// Room for most requests, in octets; longer ones grow.
const USUAL: usize = 128;

/// One request: what it is and what it says, without the header that its socket gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it is (`RTM_*`).
    pub(crate) kind: u16,
    /// [`CREATE`] and the like.
    pub(crate) flags: u16,
    /// What stands behind the header.
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A request out of its kind, its flags and what it begins with, which is a multiple of four
    /// octets long.
    pub(crate) fn new(kind: u16, flags: u16, begin: &[u8]) -> Self {
        let mut body = Vec::with_capacity(USUAL);
        body.extend_from_slice(begin);
        Request { kind, flags, body }
    }

    /// With an attribute, of far less than 64 KiB.
    pub(crate) fn octets(self, number: u16, value: &[u8]) -> Self {
        self.attribute(number, |body| body.extend_from_slice(value))
    }

    /// With a number as an attribute.
    pub(crate) fn number(self, number: u16, value: u32) -> Self {
        self.octets(number, &value.to_ne_bytes())
    }

    /// With a text and the zero at its end.
    pub(crate) fn text(self, number: u16, value: &str) -> Self {
        self.attribute(number, |body| {
            body.extend_from_slice(value.as_bytes());
            body.push(0);
        })
    }

    /// With an address.
    pub(crate) fn address(self, number: u16, value: IpAddr) -> Self {
        match value {
            IpAddr::V4(value) => self.octets(number, &value.octets()),
            IpAddr::V6(value) => self.octets(number, &value.octets()),
        }
    }

    /// With an attribute that consists of whatever `fill` adds.
    pub(crate) fn nest(mut self, number: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.begin(number);
        self = fill(self);
        self.end(start);
        self
    }

    /// With some octets of zero, such as an empty `struct ifinfomsg` inside of an attribute.
    pub(crate) fn nothing(mut self, octets: usize) -> Self {
        self.body.resize(self.body.len() + octets, 0);
        self
    }

    fn attribute(mut self, number: u16, fill: impl FnOnce(&mut Vec<u8>)) -> Self {
        let start = self.begin(number);
        fill(&mut self.body);
        self.end(start);
        self
    }

    fn begin(&mut self, number: u16) -> usize {
        attribute::begin(&mut self.body, number)
    }

    fn end(&mut self, start: usize) {
        let fits = attribute::end(&mut self.body, start);
        debug_assert!(fits, "attributes of rtnetlink are names, numbers and addresses");
    }
}
