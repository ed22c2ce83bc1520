//! Routes of the main table.

use std::net::IpAddr;

use minionet_core::addr::{Cidr, Family};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use crate::decode;
use crate::error::Error;
use crate::received::Received;
use crate::socket::{Request, Socket};

/// A route, as far as ours differ from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// What it leads to.
    pub dst: Cidr,
    /// The next hop; none where the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The device it leaves by; none for a route without one (blackhole) or with several.
    pub device: Option<u32>,
    /// The number of the next hop object that says where it leads. One that is added takes next hop
    /// and device from there; one that is read has them besides, unless the kernel was told to leave
    /// them out (`net.ipv4.nexthop_compat_mode`).
    pub object: Option<u32>,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
    /// Its metric; zero stands for the kernel's default when a route is added.
    pub metric: u32,
    /// Whether it refuses packets with an ICMP error (`RTN_UNREACHABLE`); such a one leads nowhere.
    pub unreachable: bool,
}

/// Where packets to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// They are delivered on this very host.
    pub here: bool,
    /// The next hop, if there is one.
    pub gateway: Option<IpAddr>,
    /// The device that they leave by.
    pub device: Option<u32>,
}

impl Socket {
    /// Reads the routes of the main table, of one family and made by one protocol.
    ///
    /// # Errors
    /// [`Error`] when the kernel cannot be asked.
    pub fn routes(&mut self, family: Family, protocol: u8) -> Result<Vec<Route>, Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = decode::family(family);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::from(protocol);
        let found = self.dump_received(Message::GetRoute(message), "read the routes", |object| {
            Ok(decode(object).filter(|route| route.protocol == protocol))
        });
        match found {
            // The kernel makes the table with its first route ("FIB table does not exist").
            Err(error) if error.errno() == Some(nix::libc::ENOENT) => Ok(Vec::new()),
            other => other,
        }
    }
}

impl Socket {
    /// Whether packets to the address are delivered on this very host.
    ///
    /// # Errors
    /// [`Error`] when the kernel cannot be asked.
    pub fn delivers(&mut self, address: IpAddr) -> Result<bool, Error> {
        Ok(self.leads(address)?.is_some_and(|lead| lead.here))
    }

    /// Where packets to the address go; nowhere without a route.
    ///
    /// # Errors
    /// [`Error`] when the kernel cannot be asked.
    pub fn leads(&mut self, address: IpAddr) -> Result<Option<Lead>, Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = decode::family(Family::of(address));
        message.header.destination_prefix_length = Family::of(address).bits();
        message.attributes = vec![RouteAttribute::Destination(RouteAddress::from(address))];
        let operation = "look up a route";
        let found = self.get(Message::GetRoute(message), operation, |answer| answer.object(operation));
        match found {
            Ok(Some(Message::NewRoute(route))) => {
                let (_, gateway, device) = ends(&route);
                Ok(Some(Lead { here: route.header.kind == RouteType::Local, gateway, device }))
            }
            Ok(_) => Ok(None),
            // No route at all, or one that says so.
            Err(error) if matches!(error.errno(), Some(nix::libc::ENETUNREACH | nix::libc::EHOSTUNREACH)) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes exactly this route; says whether it was there.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses.
    pub fn remove_route(&mut self, route: &Route) -> Result<bool, Error> {
        match self.execute(remove(route), || format!("remove the route to {}", route.dst)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A route that leaves by a given device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The first address that it leads to; none for a default route.
    pub(crate) dst: Option<IpAddr>,
    /// The next hop.
    pub(crate) gateway: Option<IpAddr>,
    /// The table that it lies in.
    pub(crate) table: u32,
}

impl Socket {
    /// The routes of one family that leave by a device, of all tables and protocols.
    pub(crate) fn ways(&mut self, family: Family, index: u32) -> Result<Vec<Way>, Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = decode::family(family);
        self.dump(Message::GetRoute(message), "read the routes of a device", |m| match m {
            Message::NewRoute(route) if route.header.kind == RouteType::Unicast => {
                let (dst, gateway, device) = ends(&route);
                (device == Some(index)).then_some(Way { dst, gateway, table: table(&route) })
            }
            _ => None,
        })
    }
}

/// The request that adds a route; refused with `EEXIST` when the destination has one already,
/// so that nobody else's route is ever replaced.
pub(crate) fn add(route: &Route) -> Request {
    Request::new(Message::NewRoute(encode(route)), NLM_F_CREATE | NLM_F_EXCL)
}

/// The request that adds a route before one to the same destination: an IPv4 route takes effect
/// at once, an IPv6 route shares the packets with the other one until that goes.
pub(crate) fn add_before(route: &Route) -> Request {
    // Without NLM_F_EXCL, NLM_F_REPLACE and NLM_F_APPEND, as `ip route prepend` does it.
    Request::new(Message::NewRoute(encode(route)), NLM_F_CREATE)
}

/// The request that removes exactly this route: next hop and device, or the object in their place, and
/// protocol must match.
pub(crate) fn remove(route: &Route) -> Request {
    Request::new(Message::DelRoute(encode(route)), 0)
}

fn encode(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = decode::family(route.dst.family());
    message.header.destination_prefix_length = route.dst.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(route.protocol);
    message.header.kind = if route.unreachable { RouteType::Unreachable } else { RouteType::Unicast };
    let anywhere = route.unreachable || route.gateway.is_some() || route.object.is_some();
    message.header.scope = if anywhere { RouteScope::Universe } else { RouteScope::Link };
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::from(route.dst.network()))];
    if route.metric != 0 {
        message.attributes.push(RouteAttribute::Priority(route.metric));
    }
    if let Some(object) = route.object {
        // The kernel refuses what the object says already.
        message.attributes.push(RouteAttribute::NhId(object));
        return message;
    }
    if let Some(gateway) = route.gateway {
        // The next hop's address is inside the destination itself: only "on link" makes the
        // kernel believe that it is a neighbour.
        message.header.flags = RouteFlags::Onlink;
        message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
    }
    message.attributes.extend(route.device.map(RouteAttribute::Oif));
    message
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(addr) => Some(IpAddr::V4(*addr)),
        RouteAddress::Inet6(addr) => Some(IpAddr::V6(*addr)),
        _ => None,
    }
}

/// Destination, next hop and device.
fn ends(message: &RouteMessage) -> (Option<IpAddr>, Option<IpAddr>, Option<u32>) {
    let (mut dst, mut gateway, mut device) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => dst = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(index) => device = Some(*index),
            _ => {}
        }
    }
    (dst, gateway, device)
}

/// Octets of `struct rtmsg` of linux/rtnetlink.h: the length of the prefix is at 1, the protocol at 5
/// and the type at 7.
const HEADER: usize = 12;

/// `RTM_NEWROUTE`, `RTN_UNREACHABLE`, `RTA_DST`, `RTA_OIF`, `RTA_GATEWAY`, `RTA_PRIORITY` and
/// `RTA_NH_ID` of linux/rtnetlink.h.
const NEW_ROUTE: u16 = 24;
const UNREACHABLE: u8 = 7;
const DST: u16 = 1;
const OIF: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const NH_ID: u16 = 30;

/// A route out of a dump, without an allocation: there are thousands.
fn decode(object: &Received<'_>) -> Option<Route> {
    if object.kind != NEW_ROUTE {
        return None;
    }
    let body = object.body();
    let (prefix_len, protocol, kind) = (*body.get(1)?, *body.get(5)?, *body.get(7)?);
    let (mut dst, mut gateway, mut device, mut metric, mut object) = (None, None, None, 0, None);
    for (kind, value) in decode::attributes(body, HEADER) {
        match kind {
            DST => dst = decode::ip_of(value),
            OIF => device = decode::u32_at(value, 0),
            GATEWAY => gateway = decode::ip_of(value),
            PRIORITY => metric = decode::u32_at(value, 0)?,
            NH_ID => object = decode::u32_at(value, 0),
            _ => {}
        }
    }
    // A default route has no destination, and is never one of ours.
    let dst = Cidr::containing(dst?, prefix_len).ok()?;
    let unreachable = kind == UNREACHABLE;
    // IPv6 binds such a route to the loopback interface.
    let device = device.filter(|_| !unreachable);
    Some(Route { dst, gateway, device, object, protocol, metric, unreachable })
}

/// The number of a route's table; those above 255 do not fit the header.
fn table(message: &RouteMessage) -> u32 {
    let big = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(number) => Some(*number),
        _ => None,
    });
    big.unwrap_or(message.header.table.into())
}
