//! Routes of the main table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use minionet_core::addr::{Cidr, Family};
use nix::libc;

use crate::decode;
use crate::error::Error;
use crate::received::Received;
use crate::request::{CREATE, EXCLUSIVE, Request};
use crate::socket::Socket;

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
        let wanted = Header { table: libc::RT_TABLE_MAIN, protocol, ..Header::of(family) };
        let found = self.dump(&wanted.begin(libc::RTM_GETROUTE, 0), "read the routes", |object| {
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
        let family = Family::of(address);
        let wanted = Header { prefix_len: family.bits(), ..Header::of(family) };
        let request = wanted.begin(libc::RTM_GETROUTE, 0).address(libc::RTA_DST, address);
        let lead = |answer: &Received<'_>| {
            let found = Found::of(answer)?;
            Some(Lead { here: found.kind == libc::RTN_LOCAL, gateway: found.gateway, device: found.device })
        };
        match self.get(&request, "look up a route", |answer| Ok(lead(answer))) {
            // No route at all, or one that says so.
            Err(error) if matches!(error.errno(), Some(nix::libc::ENETUNREACH | nix::libc::EHOSTUNREACH)) => {
                Ok(None)
            }
            other => other,
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
        let request = Header::of(family).begin(libc::RTM_GETROUTE, 0);
        self.dump(&request, "read the routes of a device", |object| {
            let found = Found::of(object).filter(|found| found.kind == libc::RTN_UNICAST);
            let found = found.filter(|found| found.device == Some(index));
            Ok(found.map(|Found { dst, gateway, table, .. }| Way { dst, gateway, table }))
        })
    }
}

/// The request that adds a route; refused with `EEXIST` when the destination has one already,
/// so that nobody else's route is ever replaced.
pub(crate) fn add(route: &Route) -> Request {
    encode(libc::RTM_NEWROUTE, CREATE | EXCLUSIVE, route)
}

/// The request that adds a route before one to the same destination: an IPv4 route takes effect
/// at once, an IPv6 route shares the packets with the other one until that goes.
pub(crate) fn add_before(route: &Route) -> Request {
    // Without NLM_F_EXCL, NLM_F_REPLACE and NLM_F_APPEND, as `ip route prepend` does it.
    encode(libc::RTM_NEWROUTE, CREATE, route)
}

/// The request that removes exactly this route: next hop and device, or the object in their place, and
/// protocol must match.
pub(crate) fn remove(route: &Route) -> Request {
    encode(libc::RTM_DELROUTE, 0, route)
}

/// The request that adds a default route by a gateway, which must be reachable on the device.
pub(crate) fn add_default(index: u32, gateway: IpAddr, protocol: u8) -> Request {
    let everything: IpAddr = match gateway {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let header = Header {
        table: libc::RT_TABLE_MAIN,
        protocol,
        kind: libc::RTN_UNICAST,
        ..Header::of(Family::of(gateway))
    };
    header
        .begin(libc::RTM_NEWROUTE, CREATE | EXCLUSIVE)
        .address(libc::RTA_DST, everything)
        .address(libc::RTA_GATEWAY, gateway)
        .number(libc::RTA_OIF, index)
}

/// A request that adds a route, for a table whose number need not fit the header.
pub(crate) fn in_table(mut request: Request, table: u32) -> Request {
    request.body[4] = libc::RT_TABLE_UNSPEC;
    request.number(libc::RTA_TABLE, table)
}

/// A request that adds a route, for one with a metric.
pub(crate) fn with_metric(request: Request, metric: u32) -> Request {
    request.number(libc::RTA_PRIORITY, metric)
}

fn encode(kind: u16, flags: u16, route: &Route) -> Request {
    let anywhere = route.unreachable || route.gateway.is_some() || route.object.is_some();
    let header = Header {
        prefix_len: route.dst.prefix_len(),
        table: libc::RT_TABLE_MAIN,
        protocol: route.protocol,
        scope: if anywhere { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK },
        kind: if route.unreachable { libc::RTN_UNREACHABLE } else { libc::RTN_UNICAST },
        // The next hop's address is inside the destination itself: only "on link" makes the
        // kernel believe that it is a neighbour.
        flags: if route.gateway.is_some() && route.object.is_none() { ONLINK } else { 0 },
        ..Header::of(route.dst.family())
    };
    let mut request = header.begin(kind, flags).address(libc::RTA_DST, route.dst.network());
    if route.metric != 0 {
        request = request.number(libc::RTA_PRIORITY, route.metric);
    }
    if let Some(object) = route.object {
        // The kernel refuses what the object says already.
        return request.number(NH_ID, object);
    }
    if let Some(gateway) = route.gateway {
        request = request.address(libc::RTA_GATEWAY, gateway);
    }
    match route.device {
        Some(device) => request.number(libc::RTA_OIF, device),
        None => request,
    }
}

/// Octets of `struct rtmsg` of linux/rtnetlink.h: the length of the prefix is at 1, the table at 4, the
/// protocol at 5 and the type at 7.
const HEADER: usize = 12;

/// `RTNH_F_ONLINK` and `RTA_NH_ID` of linux/rtnetlink.h.
const ONLINK: u32 = 4;
const NH_ID: u16 = 30;

/// What `struct rtmsg` says in a request.
#[derive(Clone, Copy, Debug)]
struct Header {
    family: Family,
    prefix_len: u8,
    table: u8,
    protocol: u8,
    scope: u8,
    kind: u8,
    flags: u32,
}

impl Header {
    /// Nothing but a family.
    fn of(family: Family) -> Self {
        Header { family, prefix_len: 0, table: 0, protocol: 0, scope: 0, kind: 0, flags: 0 }
    }

    fn begin(self, kind: u16, flags: u16) -> Request {
        let [a, b, c, d] = self.flags.to_ne_bytes();
        let family = decode::family(self.family);
        let begin: [u8; HEADER] =
            [family, self.prefix_len, 0, 0, self.table, self.protocol, self.scope, self.kind, a, b, c, d];
        Request::new(kind, flags, &begin)
    }
}

/// A route as the kernel tells it, without an allocation: there are thousands.
struct Found {
    prefix_len: u8,
    table: u32,
    protocol: u8,
    kind: u8,
    dst: Option<IpAddr>,
    gateway: Option<IpAddr>,
    device: Option<u32>,
    metric: u32,
    object: Option<u32>,
}

impl Found {
    fn of(object: &Received<'_>) -> Option<Self> {
        if object.kind != libc::RTM_NEWROUTE {
            return None;
        }
        let body = object.body();
        let mut found = Found {
            prefix_len: *body.get(1)?,
            table: u32::from(*body.get(4)?),
            protocol: *body.get(5)?,
            kind: *body.get(7)?,
            dst: None,
            gateway: None,
            device: None,
            metric: 0,
            object: None,
        };
        for (number, value) in decode::attributes(body, HEADER) {
            match number {
                libc::RTA_DST => found.dst = decode::ip_of(value),
                libc::RTA_OIF => found.device = decode::u32_at(value, 0),
                libc::RTA_GATEWAY => found.gateway = decode::ip_of(value),
                libc::RTA_PRIORITY => found.metric = decode::u32_at(value, 0)?,
                // Those above 255 do not fit the header.
                libc::RTA_TABLE => found.table = decode::u32_at(value, 0)?,
                NH_ID => found.object = decode::u32_at(value, 0),
                _ => {}
            }
        }
        Some(found)
    }
}

/// One of ours; a default route has no destination, and is never one.
fn decode(object: &Received<'_>) -> Option<Route> {
    let Found { prefix_len, protocol, kind, dst, gateway, device, metric, object, .. } = Found::of(object)?;
    let dst = Cidr::containing(dst?, prefix_len).ok()?;
    let unreachable = kind == libc::RTN_UNREACHABLE;
    // IPv6 binds such a route to the loopback interface.
    let device = device.filter(|_| !unreachable);
    Some(Route { dst, gateway, device, object, protocol, metric, unreachable })
}
