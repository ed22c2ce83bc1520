//! Neighbours (address to MAC) and forwarding entries of a VXLAN device (MAC to node).

use std::net::IpAddr;

use minionet_core::addr::{Family, MacAddr};
use nix::libc;

use crate::decode::{self, ip_of, mac_of};
use crate::error::Error;
use crate::received::Received;
use crate::request::{CREATE, REPLACE, Request};
use crate::socket::Socket;

/// Permanent: never probed, never aged.
const PERMANENT: u16 = 0x80;

/// `NUD_REACHABLE`: known now.
const REACHABLE: u16 = 0x02;

/// `NUD_NOARP`, which the kernel sets beside `NUD_PERMANENT` on forwarding entries.
const NOARP: u16 = 0x40;

/// `NTF_EXT_LEARNED` of linux/neighbour.h, which `libc` has not for every C library.
const EXT_LEARNED: u8 = 0x10;

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
        let request = begin(libc::RTM_GETNEIGH, 0, decode::family(family), 0, 0, 0);
        let request = request.number(IFINDEX, index);
        self.dump(&request, "read the neighbours", |object| {
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
        let request = begin(libc::RTM_GETNEIGH, 0, BRIDGE, index, 0, 0);
        self.dump(&request, "read the forwarding entries", |object| {
            let entry = Entry::of(object).filter(|entry| entry.index == index);
            Ok(entry.and_then(|entry| Some(FdbEntry { mac: entry.mac?, dst: entry.addr })))
        })
    }
}

/// The request that sets a permanent neighbour, replacing what was there.
pub(crate) fn set(index: u32, addr: IpAddr, mac: MacAddr, protocol: u8) -> Request {
    known(index, addr, mac, protocol, PERMANENT, 0)
}

/// The request that sets a neighbour which is known now, and which the neighbour itself may
/// correct (RFC 826, RFC 4861 section 7.2.6): as with a permanent one, nobody asks for it, and the
/// kernel does not drop it when its table is full (`NTF_EXT_LEARNED`). How long it is believed,
/// [`believe`] says.
pub(crate) fn tell(index: u32, addr: IpAddr, mac: MacAddr, protocol: u8) -> Request {
    known(index, addr, mac, protocol, REACHABLE, EXT_LEARNED)
}

fn known(index: u32, addr: IpAddr, mac: MacAddr, protocol: u8, state: u16, flags: u8) -> Request {
    begin(libc::RTM_NEWNEIGH, CREATE | REPLACE, family_of(addr), index, state, flags)
        .address(DST, addr)
        .octets(LLADDR, &mac.0)
        .octets(PROTOCOL, &[protocol])
}

/// The request to answer on a device for an address that the host has, or can reach, elsewhere.
pub(crate) fn answer_for(index: u32, addr: IpAddr, protocol: u8) -> Request {
    begin(libc::RTM_NEWNEIGH, CREATE, family_of(addr), index, 0, libc::NTF_PROXY)
        .address(DST, addr)
        .octets(PROTOCOL, &[protocol])
}

/// The request to believe what is known of the neighbours on a device for that long, in
/// milliseconds, before they are asked; and to answer for others without a delay.
///
/// The kernel draws the time anew now and then, between half of it and one and a half
/// (`neigh_rand_reach_time` in net/core/neighbour.c), in ticks of which 2³¹ must be more.
pub(crate) fn believe(index: u32, family: Family, milliseconds: u64) -> Request {
    // `arp_tbl` in net/ipv4/arp.c, `nd_tbl` in net/ipv6/ndisc.c
    let name = match family {
        Family::V4 => "arp_cache",
        Family::V6 => "ndisc_cache",
    };
    // `struct ndtmsg`.
    Request::new(SET_TABLE, 0, &[decode::family(family), 0, 0, 0]).text(TABLE_NAME, name).nest(
        TABLE_PARAMETERS,
        |parameters| {
            parameters
                .number(OF_DEVICE, index)
                .octets(BASE_REACHABLE_TIME, &milliseconds.to_ne_bytes())
                .octets(DELAY_PROBE_TIME, &milliseconds.to_ne_bytes())
                .octets(PROXY_DELAY, &0u64.to_ne_bytes())
        },
    )
}

/// The request that removes a neighbour.
pub(crate) fn remove(index: u32, addr: IpAddr) -> Request {
    begin(libc::RTM_DELNEIGH, 0, family_of(addr), index, 0, 0).address(DST, addr)
}

/// The request that sends frames for a MAC to a node, replacing where they went.
pub(crate) fn set_fdb(index: u32, mac: MacAddr, dst: IpAddr) -> Request {
    fdb(libc::RTM_NEWNEIGH, CREATE | REPLACE, index, PERMANENT | NOARP, mac, dst)
}

/// The request that removes a forwarding entry.
pub(crate) fn remove_fdb(index: u32, mac: MacAddr, dst: IpAddr) -> Request {
    fdb(libc::RTM_DELNEIGH, 0, index, 0, mac, dst)
}

fn fdb(kind: u16, flags: u16, index: u32, state: u16, mac: MacAddr, dst: IpAddr) -> Request {
    // NTF_SELF: the device's own table, not that of a bridge it may be a port of.
    begin(kind, flags, BRIDGE, index, state, libc::NTF_SELF).octets(LLADDR, &mac.0).address(DST, dst)
}

fn family_of(addr: IpAddr) -> u8 {
    decode::family(Family::of(addr))
}

/// A request that begins with `struct ndmsg`: family, device, state and flags.
fn begin(kind: u16, flags: u16, family: u8, index: u32, state: u16, own_flags: u8) -> Request {
    let mut begin = [0; HEADER];
    begin[0] = family;
    begin[4..8].copy_from_slice(&index.to_ne_bytes());
    begin[8..10].copy_from_slice(&state.to_ne_bytes());
    begin[10] = own_flags;
    Request::new(kind, flags, &begin)
}

/// `AF_BRIDGE`, of forwarding entries.
const BRIDGE: u8 = libc::AF_BRIDGE as u8;

/// `RTM_SETNEIGHTBL` of linux/rtnetlink.h; `NDTA_NAME` and `NDTA_PARMS` of linux/neighbour.h, and the
/// parameters `NDTPA_IFINDEX`, `NDTPA_BASE_REACHABLE_TIME`, `NDTPA_DELAY_PROBE_TIME` and
/// `NDTPA_PROXY_DELAY`.
const SET_TABLE: u16 = 67;
const TABLE_NAME: u16 = 1;
const TABLE_PARAMETERS: u16 = 6;
const OF_DEVICE: u16 = 1;
const BASE_REACHABLE_TIME: u16 = 4;
const DELAY_PROBE_TIME: u16 = 7;
const PROXY_DELAY: u16 = 13;

/// `NDA_DST`, `NDA_LLADDR`, `NDA_IFINDEX` and `NDA_PROTOCOL` of linux/neighbour.h.
const DST: u16 = 1;
const LLADDR: u16 = 2;
const IFINDEX: u16 = 8;
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
        if object.kind != libc::RTM_NEWNEIGH {
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
