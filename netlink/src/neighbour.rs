//! Neighbours (address to MAC) and forwarding entries of a VXLAN device (MAC to node).

use std::net::IpAddr;

use minionet_core::addr::{Family, MacAddr};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::neighbour_table::{
    NeighbourTableAttribute, NeighbourTableMessage, NeighbourTableParameter,
};
use netlink_packet_route::route::RouteProtocol;

use crate::decode::{self, ip_of, mac_of};
use crate::error::Error;
use crate::received::Received;
use crate::socket::{Request, Socket};

/// Permanent: never probed, never aged.
const PERMANENT: u16 = 0x80;

/// `NUD_NOARP`, which the kernel sets beside `NUD_PERMANENT` on forwarding entries.
const NOARP: u16 = 0x40;

/// A neighbour on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub addr: IpAddr,
    /// Its MAC; none while the kernel is still asking for it, or has asked in vain.
    pub mac: Option<MacAddr>,
    /// Whether it was set for good, not learnt.
    pub permanent: bool,
    /// Who set it (`NDA_PROTOCOL`); 0 when nobody said.
    pub protocol: u8,
}

/// A forwarding entry of a VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbEntry {
    /// The MAC that frames are sent to.
    pub mac: MacAddr,
    /// The node that they are sent to inside UDP; none for an entry without a destination.
    pub dst: Option<IpAddr>,
}

impl Socket {
    /// Reads the neighbours of one family on a device.
    ///
    /// # Errors
    /// [`Error`] when the kernel cannot be asked.
    pub fn neighbours(&mut self, index: u32, family: Family) -> Result<Vec<Neighbour>, Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = decode::family(family);
        message.attributes.push(NeighbourAttribute::IfIndex(index));
        self.dump_received(Message::GetNeighbour(message), "read the neighbours", |object| {
            Ok(Entry::of(object).filter(|entry| entry.index == index).and_then(Entry::neighbour))
        })
    }

    /// Reads the forwarding entries of a VXLAN device.
    ///
    /// The kernel never says that such a dump was overtaken by changes, so one reading is a
    /// hint; whoever acts on it reads again afterwards.
    ///
    /// # Errors
    /// [`Error`] when the kernel cannot be asked.
    pub fn fdb(&mut self, index: u32) -> Result<Vec<FdbEntry>, Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        self.dump_received(Message::GetNeighbour(message), "read the forwarding entries", |object| {
            let entry = Entry::of(object).filter(|entry| entry.index == index);
            Ok(entry.and_then(|entry| Some(FdbEntry { mac: entry.mac?, dst: entry.addr })))
        })
    }
}

/// The request that sets a permanent neighbour, replacing what was there.
pub(crate) fn set(index: u32, addr: IpAddr, mac: MacAddr, protocol: u8) -> Request {
    let mut message = encode(index, addr);
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::from(protocol)));
    Request::new(Message::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
}

/// The request that sets a neighbour which is known now, and which the neighbour itself may
/// correct (RFC 826, RFC 4861 section 7.2.6): as with a permanent one, nobody asks for it, and the
/// kernel does not drop it when its table is full (`NTF_EXT_LEARNED`). How long it is believed,
/// [`believe`] says.
pub(crate) fn tell(index: u32, addr: IpAddr, mac: MacAddr, protocol: u8) -> Request {
    let mut request = set(index, addr, mac, protocol);
    if let Some(Message::NewNeighbour(message)) = request.known() {
        message.header.state = NeighbourState::Reachable;
        message.header.flags = NeighbourFlags::ExtLearned;
    }
    request
}

/// The request to answer on a device for an address that the host has, or can reach, elsewhere.
pub(crate) fn answer_for(index: u32, addr: IpAddr, protocol: u8) -> Request {
    let mut message = encode(index, addr);
    message.header.flags = NeighbourFlags::Proxy;
    message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::from(protocol)));
    Request::new(Message::NewNeighbour(message), NLM_F_CREATE)
}

/// The request to believe what is known of the neighbours on a device for that long, in
/// milliseconds, before they are asked; and to answer for others without a delay.
///
/// The kernel draws the time anew now and then, between half of it and one and a half
/// (`neigh_rand_reach_time` in net/core/neighbour.c), in ticks of which 2³¹ must be more.
pub(crate) fn believe(index: u32, family: Family, milliseconds: u64) -> Request {
    let mut message = NeighbourTableMessage::default();
    message.header.family = decode::family(family);
    // `arp_tbl` in net/ipv4/arp.c, `nd_tbl` in net/ipv6/ndisc.c
    let name = match family {
        Family::V4 => "arp_cache",
        Family::V6 => "ndisc_cache",
    };
    message.attributes = vec![
        NeighbourTableAttribute::Name(name.to_owned()),
        NeighbourTableAttribute::Parms(vec![
            NeighbourTableParameter::Ifindex(index),
            NeighbourTableParameter::BaseReachableTime(milliseconds),
            NeighbourTableParameter::DelayProbeTime(milliseconds),
            NeighbourTableParameter::ProxyDelay(0),
        ]),
    ];
    Request::new(Message::SetNeighbourTable(message), 0)
}

/// The request that removes a neighbour.
pub(crate) fn remove(index: u32, addr: IpAddr) -> Request {
    Request::new(Message::DelNeighbour(encode(index, addr)), 0)
}

/// The request that sends frames for a MAC to a node, replacing where they went.
pub(crate) fn set_fdb(index: u32, mac: MacAddr, dst: IpAddr) -> Request {
    let mut message = encode_fdb(index, mac, dst);
    message.header.state = NeighbourState::Other(PERMANENT | NOARP);
    Request::new(Message::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
}

/// The request that removes a forwarding entry.
pub(crate) fn remove_fdb(index: u32, mac: MacAddr, dst: IpAddr) -> Request {
    Request::new(Message::DelNeighbour(encode_fdb(index, mac, dst)), 0)
}

fn address(addr: IpAddr) -> NeighbourAddress {
    match addr {
        IpAddr::V4(addr) => NeighbourAddress::Inet(addr),
        IpAddr::V6(addr) => NeighbourAddress::Inet6(addr),
    }
}

fn encode(index: u32, addr: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = decode::family(Family::of(addr));
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(address(addr))];
    message
}

fn encode_fdb(index: u32, mac: MacAddr, dst: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    // NTF_SELF: the device's own table, not that of a bridge it may be a port of.
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        NeighbourAttribute::Destination(address(dst)),
    ];
    message
}

/// `RTM_NEWNEIGH` of linux/rtnetlink.h, `NDA_DST`, `NDA_LLADDR` and `NDA_PROTOCOL` of
/// linux/neighbour.h.
const NEW_NEIGHBOUR: u16 = 28;
const DST: u16 = 1;
const LLADDR: u16 = 2;
const PROTOCOL: u16 = 12;

/// Octets of `struct ndmsg` of linux/neighbour.h: the device is at 4 and the state at 8.
const HEADER: usize = 12;

/// What a dump says of a neighbour or a forwarding entry, without an allocation: there are
/// thousands.
struct Entry {
    index: u32,
    state: u16,
    addr: Option<IpAddr>,
    mac: Option<MacAddr>,
    protocol: u8,
}

impl Entry {
    fn of(object: &Received<'_>) -> Option<Self> {
        if object.kind != NEW_NEIGHBOUR {
            return None;
        }
        let body = object.body();
        let (index, state) = (decode::u32_at(body, 4)?, decode::u16_at(body, 8)?);
        let mut entry = Entry { index, state, addr: None, mac: None, protocol: 0 };
        for (kind, value) in decode::attributes(body, HEADER) {
            match kind {
                DST => entry.addr = ip_of(value),
                LLADDR => entry.mac = mac_of(value),
                PROTOCOL => entry.protocol = value.first().copied().unwrap_or(0),
                _ => {}
            }
        }
        Some(entry)
    }

    fn neighbour(self) -> Option<Neighbour> {
        let Entry { state, addr, mac, protocol, .. } = self;
        // Multicast and the like are kept as NOARP by the kernel itself and are nobody's neighbours.
        if state & NOARP != 0 && state & PERMANENT == 0 {
            return None;
        }
        Some(Neighbour { addr: addr?, mac, permanent: state & PERMANENT != 0, protocol })
    }
}
