//! Next hop objects: where routes lead, said once, by a number that routes refer to.
//!
//! The kernel has had them since version 5.3 (linux/nexthop.h).

use std::net::{IpAddr, Ipv4Addr};

use nix::libc::AF_INET;

use crate::decode::{attributes, ip_of, u32_at};
use crate::error::Error;
use crate::received::Received;
use crate::request::{CREATE, EXCLUSIVE, REPLACE, Request};
use crate::socket::Socket;

/// `RTM_NEWNEXTHOP`, `RTM_DELNEXTHOP` and `RTM_GETNEXTHOP` of linux/rtnetlink.h.
const NEW: u16 = 104;
const DELETE: u16 = 105;
const GET: u16 = 106;

/// Octets of `struct nhmsg`: family, scope, protocol, one that is reserved, and flags.
const HEADER: usize = 8;

/// `NHA_*` of linux/nexthop.h.
const ID: u16 = 1;
const GROUP: u16 = 2;
const OIF: u16 = 5;
const GATEWAY: u16 = 6;

/// `RTNH_F_ONLINK` of linux/rtnetlink.h: the next hop is a neighbour, whatever the routes say.
const ONLINK: u32 = 4;

/// A next hop object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHopObject {
    /// Its number, never zero.
    pub number: u32,
    /// Who made it (`nh_protocol`).
    pub protocol: u8,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The device it is reached by.
    pub device: Option<u32>,
    /// Whether it is a group of others.
    pub group: bool,
    /// Whether it says more than next hop and device, or something else (a group, a black hole, an
    /// encapsulation, that the next hop is no neighbour by itself).
    pub special: bool,
}

impl Socket {
    /// Reads all next hop objects; `None` where the kernel knows no such thing, or lets us have none.
    ///
    /// # Errors
    /// [`Error`] when the kernel cannot be asked.
    pub fn next_hop_objects(&mut self) -> Result<Option<Vec<NextHopObject>>, Error> {
        let all = Request::new(GET, 0, &[0; HEADER]);
        match self.dump(&all, "read the next hop objects", |object| Ok(decode(object))) {
            Err(error) if error.is_unsupported() => Ok(None),
            read => read.map(Some),
        }
    }

    /// Removes a next hop object, and with it the routes that still refer to it; says whether it was
    /// there.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses.
    pub fn remove_next_hop_object(&mut self, number: u32) -> Result<bool, Error> {
        match self.execute(remove(number), || format!("remove the next hop object {number}")) {
            Ok(()) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The request that makes an object; refused with `EEXIST` when there is one with its number.
pub(crate) fn add(number: u32, gateway: Ipv4Addr, device: u32, protocol: u8) -> Request {
    encode(number, gateway, device, protocol, CREATE | EXCLUSIVE)
}

/// The request that changes an object in place; the routes that refer to it follow.
pub(crate) fn replace(number: u32, gateway: Ipv4Addr, device: u32, protocol: u8) -> Request {
    encode(number, gateway, device, protocol, CREATE | REPLACE)
}

/// The request that removes an object.
pub(crate) fn remove(number: u32) -> Request {
    // The kernel refuses every other attribute.
    Request::new(DELETE, 0, &[0; HEADER]).number(ID, number)
}

fn encode(number: u32, gateway: Ipv4Addr, device: u32, protocol: u8, flags: u16) -> Request {
    let [a, b, c, d] = ONLINK.to_ne_bytes();
    Request::new(NEW, flags, &[AF_INET as u8, 0, protocol, 0, a, b, c, d])
        .number(ID, number)
        .number(OIF, device)
        .octets(GATEWAY, &gateway.octets())
}

fn decode(object: &Received<'_>) -> Option<NextHopObject> {
    if object.kind != NEW {
        return None;
    }
    let body = object.body();
    let (protocol, flags) = (*body.get(2)?, u32_at(body, 4)?);
    let (mut number, mut gateway, mut device) = (None, None, None);
    let (mut group, mut special) = (false, flags & ONLINK == 0);
    for (kind, value) in attributes(body, HEADER) {
        match kind {
            ID => number = u32_at(value, 0),
            OIF => device = u32_at(value, 0),
            GATEWAY => gateway = ip_of(value),
            kind => {
                group |= kind == GROUP;
                special = true;
            }
        }
    }
    Some(NextHopObject { number: number?, protocol, gateway, device, group, special })
}
