//! Network devices: found, described, made, changed and deleted.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use minionet_core::addr::MacAddr;
use minionet_core::overlay::Device;
use nix::libc;

use crate::decode::{attributes, ip_of, mac_of, text_of, u32_at};
use crate::error::Error;
use crate::received::Received;
use crate::request::{CREATE, EXCLUSIVE, Request};
use crate::socket::Socket;

/// A network device as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What `ip -d link` calls its type: `vxlan`, `veth`, nothing for hardware.
    pub kind: Option<String>,
    /// Its Ethernet address, if it is an Ethernet device.
    pub mac: Option<MacAddr>,
    /// Its MTU in octets.
    pub mtu: u32,
    /// Whether it is set up (`IFF_UP`).
    pub up: bool,
    /// Whether it can send: up, and the kernel has noticed its carrier (`IFF_RUNNING`).
    pub running: bool,
    /// Whether it is the loopback device.
    pub loopback: bool,
    /// The free text attached to it (`IFLA_IFALIAS`).
    pub alias: Option<String>,
    /// The group it belongs to; 0 if to none.
    pub group: u32,
    /// The device below or, for a veth pair, its other end (`IFLA_LINK`).
    pub lower: Option<u32>,
    /// The bridge, bond or VRF that it belongs to (`IFLA_MASTER`).
    pub master: Option<u32>,
    /// What makes it a VXLAN device.
    pub vxlan: Option<Vxlan>,
}

/// The attributes of a VXLAN device.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Vxlan {
    /// The network identifier.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
    /// The source address of its packets.
    pub local: Option<IpAddr>,
    /// Whether it learns addresses from packets.
    pub learning: bool,
    /// The device it is bound to, if it is.
    pub bound_to: Option<u32>,
    /// Whether it takes its tunnel from routes instead of its own attributes (`external`).
    pub external: bool,
}

/// Which device is meant.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// The one with this number.
    Index(u32),
    /// The one with this name.
    Name(&'a str),
}

impl Socket {
    /// Reads one device, or nothing when there is none.
    ///
    /// # Errors
    /// [`Error`] when the kernel cannot be asked.
    pub fn link(&mut self, which: Which<'_>) -> Result<Option<Link>, Error> {
        let request = match which {
            Which::Index(index) => begin(libc::RTM_GETLINK, 0, index, 0, 0),
            Which::Name(name) => begin(libc::RTM_GETLINK, 0, 0, 0, 0).text(libc::IFLA_IFNAME, name),
        };
        let operation = "read a network device";
        self.get(&skipping_statistics(request), operation, |answer| decode(answer, operation).map(Some))
    }

    /// Reads all devices.
    ///
    /// # Errors
    /// [`Error`] when the kernel cannot be asked.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let request = skipping_statistics(begin(libc::RTM_GETLINK, 0, 0, 0, 0));
        let operation = "read the network devices";
        self.dump(&request, operation, |link| decode(link, operation).map(Some))
    }

    /// Makes the VTEP, not bound to any device, not learning, and still down.
    ///
    /// The MAC is part of the request, so that the kernel notes it as set by us and udev leaves
    /// it alone (`NET_ADDR_SET`, see systemd.link(5) under `MACAddressPolicy`).
    ///
    /// # Errors
    /// [`Error::Refused`]: among others `EEXIST` when the name is taken, or when another device
    /// has the same VNI and port.
    pub fn create_vtep(&mut self, device: &Device) -> Result<(), Error> {
        let request = create_vtep(device);
        self.execute(request, || {
            format!("make the VXLAN device {} (VNI {}, port {})", device.name, device.vni, device.port)
        })
    }

    /// Changes the source address of the VTEP's packets, in place: nothing on it is lost.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses.
    pub fn set_vtep_local(&mut self, index: u32, device: &Device) -> Result<(), Error> {
        let request = begin(libc::RTM_NEWLINK, 0, index, 0, 0).nest(libc::IFLA_LINKINFO, |info| {
            let info = info.text(libc::IFLA_INFO_KIND, "vxlan");
            info.nest(libc::IFLA_INFO_DATA, |data| local(data, device.local))
        });
        self.execute(request, || format!("set the local address of {} to {}", device.name, device.local))
    }

    /// Changes MAC, MTU or state of a device.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses.
    pub fn set_link(&mut self, index: u32, name: &str, change: &LinkChange) -> Result<(), Error> {
        // RTM_SETLINK carries out all attributes; RTM_NEWLINK on an existing device as well.
        self.execute(set(index, change), || format!("change the device {name} ({change})"))
    }

    /// Deletes a device by its number; a name could have passed to another by now.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses; see [`Error::is_absent`].
    pub fn delete_link(&mut self, index: u32, name: &str) -> Result<(), Error> {
        let request = begin(libc::RTM_DELLINK, 0, index, 0, 0);
        self.execute(request, || format!("delete the device {name}"))
    }

    /// Deletes all devices of a group at once, which costs about as much as deleting one; says
    /// whether there were any.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses, as for a group with hardware in it.
    pub fn delete_group(&mut self, group: u32) -> Result<bool, Error> {
        let request = begin(libc::RTM_DELLINK, 0, 0, 0, 0).number(libc::IFLA_GROUP, group);
        match self.execute(request, || format!("delete the devices of group {group}")) {
            Ok(()) => Ok(true),
            Err(error) if error.is_absent() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Moves a device into another network namespace.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses.
    pub fn move_link(&mut self, index: u32, name: &str, netns: &impl AsRawFd) -> Result<(), Error> {
        // Descriptors are not negative.
        let request = change(index).number(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
        self.execute(request, || format!("move the device {name} into another namespace"))
    }
}

/// What [`Socket::set_link`] shall change; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Up or down.
    pub up: Option<bool>,
    /// The Ethernet address.
    pub mac: Option<MacAddr>,
    /// The MTU in octets.
    pub mtu: Option<u32>,
    /// Keep the kernel from making an IPv6 link-local address.
    pub no_link_local: bool,
}

impl std::fmt::Display for LinkChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.up.map(|up| if up { "up".to_owned() } else { "down".to_owned() });
        let mac = self.mac.map(|mac| format!("MAC {mac}"));
        let mtu = self.mtu.map(|mtu| format!("MTU {mtu}"));
        let silent = self.no_link_local.then(|| "no link-local address".to_owned());
        let parts: Vec<String> = [state, mac, mtu, silent].into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

/// Octets of `struct ifinfomsg` of linux/rtnetlink.h: family, type, index, flags, mask.
const FIXED: usize = 16;

fn begin(kind: u16, flags: u16, index: u32, state: u32, mask: u32) -> Request {
    let mut begin = [0; FIXED];
    for (number, octets) in [index, state, mask].into_iter().zip(begin[4..].chunks_exact_mut(4)) {
        octets.copy_from_slice(&number.to_ne_bytes());
    }
    Request::new(kind, flags, &begin)
}

/// `IFF_UP` of linux/if.h.
const UP: u32 = libc::IFF_UP as u32;

/// The request that makes a device, refused with `EEXIST` where one has its name; its kind is to be
/// added.
pub(crate) fn create(name: &str, mac: MacAddr, mtu: u32) -> Request {
    described(begin(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, 0, 0, 0), name, mac, mtu)
}

/// What a new device begins with, also inside of another's request.
pub(crate) fn described(request: Request, name: &str, mac: MacAddr, mtu: u32) -> Request {
    request.text(libc::IFLA_IFNAME, name).octets(libc::IFLA_ADDRESS, &mac.0).number(libc::IFLA_MTU, mtu)
}

/// The request that changes a device; what is to be changed is to be added.
pub(crate) fn change(index: u32) -> Request {
    begin(libc::RTM_SETLINK, 0, index, 0, 0)
}

/// The request that sets a device up.
pub(crate) fn up(index: u32) -> Request {
    begin(libc::RTM_SETLINK, 0, index, UP, UP)
}

/// The request that sets a device down.
pub(crate) fn down(index: u32) -> Request {
    begin(libc::RTM_SETLINK, 0, index, 0, UP)
}

/// The request that gives a device another name.
pub(crate) fn rename(index: u32, name: &str) -> Request {
    change(index).text(libc::IFLA_IFNAME, name)
}

/// The request that puts a device into a group.
pub(crate) fn regroup(index: u32, group: u32) -> Request {
    change(index).number(libc::IFLA_GROUP, group)
}

/// `IFLA_INET6_ADDR_GEN_MODE` and `IN6_ADDR_GEN_MODE_NONE` of linux/if_link.h.
const INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

/// A change that also keeps the kernel from making an IPv6 link-local address, so nothing is announced
/// or probed.
pub(crate) fn without_link_local(change: Request) -> Request {
    change.nest(libc::IFLA_AF_SPEC, |families| {
        families.nest(libc::AF_INET6 as u16, |settings| {
            settings.octets(INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE])
        })
    })
}

pub(crate) fn set(index: u32, wanted: &LinkChange) -> Request {
    let mut request = match wanted.up {
        Some(true) => up(index),
        Some(false) => down(index),
        None => change(index),
    };
    if let Some(mac) = wanted.mac {
        request = request.octets(libc::IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = wanted.mtu {
        request = request.number(libc::IFLA_MTU, mtu);
    }
    if wanted.no_link_local { without_link_local(request) } else { request }
}

pub(crate) fn create_vtep(device: &Device) -> Request {
    create(&device.name, device.mac, device.mtu).nest(libc::IFLA_LINKINFO, |info| {
        info.text(libc::IFLA_INFO_KIND, "vxlan").nest(libc::IFLA_INFO_DATA, |data| {
            let data = data
                .number(VXLAN_ID, device.vni)
                .octets(VXLAN_PORT, &device.port.to_be_bytes())
                .octets(VXLAN_LEARNING, &[0]);
            local(data, device.local)
        })
    })
}

fn local(data: Request, addr: IpAddr) -> Request {
    data.address(if addr.is_ipv4() { VXLAN_LOCAL } else { VXLAN_LOCAL6 }, addr)
}

/// `RTEXT_FILTER_SKIP_STATS` of linux/rtnetlink.h: statistics are most of the octets of an answer, and
/// nobody reads them here.
fn skipping_statistics(request: Request) -> Request {
    const SKIP_STATISTICS: u32 = 1 << 3;
    request.number(libc::IFLA_EXT_MASK, SKIP_STATISTICS)
}

/// Reads what is wanted out of an answer. It says about a hundred things more, and an ADD would
/// spend a fifth of its own time on them.
fn decode(answer: &Received<'_>, operation: &str) -> Result<Link, Error> {
    let fixed = || Some((u32_at(answer.body(), 4)?, u32_at(answer.body(), 8)?));
    let (index, flags) = fixed().ok_or_else(|| Error::Decode {
        operation: operation.to_owned(),
        problem: format!("{} octets are no network device", answer.body().len()),
    })?;
    let has = |flag: libc::c_int| flags & flag as u32 != 0;
    let mut link = Link {
        index,
        name: String::new(),
        kind: None,
        mac: None,
        mtu: 0,
        up: has(libc::IFF_UP),
        running: has(libc::IFF_RUNNING),
        loopback: has(libc::IFF_LOOPBACK),
        alias: None,
        group: 0,
        lower: None,
        master: None,
        vxlan: None,
    };
    for (number, value) in attributes(answer.body(), FIXED) {
        match number {
            libc::IFLA_IFNAME => link.name = text_of(value),
            libc::IFLA_ADDRESS => link.mac = mac_of(value),
            libc::IFLA_MTU => link.mtu = u32_at(value, 0).unwrap_or_default(),
            libc::IFLA_IFALIAS => link.alias = Some(text_of(value)),
            libc::IFLA_GROUP => link.group = u32_at(value, 0).unwrap_or_default(),
            libc::IFLA_LINK => link.lower = u32_at(value, 0),
            libc::IFLA_MASTER => link.master = u32_at(value, 0).filter(|index| *index != 0),
            libc::IFLA_LINKINFO => decode_info(&mut link, value),
            _ => {}
        }
    }
    Ok(link)
}

/// The kind comes before what is special about it.
fn decode_info(link: &mut Link, info: &[u8]) {
    for (number, value) in attributes(info, 0) {
        match number {
            libc::IFLA_INFO_KIND => link.kind = Some(text_of(value)),
            libc::IFLA_INFO_DATA if link.kind.as_deref() == Some("vxlan") => {
                link.vxlan = Some(decode_vxlan(value));
            }
            _ => {}
        }
    }
}

/// `IFLA_VXLAN_*` of linux/if_link.h.
const VXLAN_ID: u16 = 1;
const VXLAN_LINK: u16 = 3;
const VXLAN_LOCAL: u16 = 4;
const VXLAN_LEARNING: u16 = 7;
const VXLAN_PORT: u16 = 15;
const VXLAN_LOCAL6: u16 = 17;
const VXLAN_COLLECT_METADATA: u16 = 25;

fn decode_vxlan(data: &[u8]) -> Vxlan {
    let mut vxlan = Vxlan::default();
    let on = |value: &[u8]| value.first().is_some_and(|octet| *octet != 0);
    for (number, value) in attributes(data, 0) {
        match number {
            VXLAN_ID => vxlan.vni = u32_at(value, 0).unwrap_or_default(),
            VXLAN_LINK => vxlan.bound_to = u32_at(value, 0).filter(|index| *index != 0),
            VXLAN_LOCAL | VXLAN_LOCAL6 => vxlan.local = ip_of(value),
            VXLAN_LEARNING => vxlan.learning = on(value),
            VXLAN_PORT => vxlan.port = <[u8; 2]>::try_from(value).map_or(0, u16::from_be_bytes),
            VXLAN_COLLECT_METADATA => vxlan.external = on(value),
            _ => {}
        }
    }
    vxlan
}
