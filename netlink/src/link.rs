//! Network devices: found, described, made, changed and deleted.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use minionet_core::addr::MacAddr;
use minionet_core::overlay::Device;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage,
};
use nix::libc;

use crate::decode::{attributes, ip_of, mac_of, text_of, u32_at};
use crate::error::Error;
use crate::received::Received;
use crate::socket::{Request, Socket};

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
        let mut message = LinkMessage::default();
        match which {
            Which::Index(index) => message.header.index = index,
            Which::Name(name) => message.attributes.push(LinkAttribute::IfName(name.to_owned())),
        }
        message.attributes.push(skip_statistics());
        let operation = "read a network device";
        self.get(Message::GetLink(message), operation, |answer| decode(answer, operation).map(Some))
    }

    /// Reads all devices.
    ///
    /// # Errors
    /// [`Error`] when the kernel cannot be asked.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(skip_statistics());
        let operation = "read the network devices";
        self.dump_received(Message::GetLink(message), operation, |link| decode(link, operation).map(Some))
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
        let mut data =
            vec![InfoVxlan::Id(device.vni), InfoVxlan::Port(device.port), InfoVxlan::Learning(false)];
        data.push(local(device.local));
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(device.name.clone()),
            LinkAttribute::Address(device.mac.0.to_vec()),
            LinkAttribute::Mtu(device.mtu),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vxlan),
                LinkInfo::Data(InfoData::Vxlan(data)),
            ]),
        ];
        let request = Request::new(Message::NewLink(message), NLM_F_CREATE | NLM_F_EXCL);
        self.execute(request, || {
            format!("make the VXLAN device {} (VNI {}, port {})", device.name, device.vni, device.port)
        })
    }

    /// Changes the source address of the VTEP's packets, in place: nothing on it is lost.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses.
    pub fn set_vtep_local(&mut self, index: u32, device: &Device) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(vec![local(device.local)])),
        ])];
        let request = Request::new(Message::NewLink(message), 0);
        self.execute(request, || format!("set the local address of {} to {}", device.name, device.local))
    }

    /// Changes MAC, MTU or state of a device.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses.
    pub fn set_link(&mut self, index: u32, name: &str, change: &LinkChange) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if let Some(up) = change.up {
            message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
            message.header.change_mask = LinkFlags::Up;
        }
        message.attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        message.attributes.extend(change.mtu.map(LinkAttribute::Mtu));
        if change.no_link_local {
            // IN6_ADDR_GEN_MODE_NONE: no link-local address, so nothing is announced or probed.
            let inet6 = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
            message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![inet6])]));
        }
        // RTM_SETLINK carries out all attributes; RTM_NEWLINK on an existing device as well.
        let request = Request::new(Message::SetLink(message), 0);
        self.execute(request, || format!("change the device {name} ({change})"))
    }

    /// Deletes a device by its number; a name could have passed to another by now.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses; see [`Error::is_absent`].
    pub fn delete_link(&mut self, index: u32, name: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let request = Request::new(Message::DelLink(message), 0);
        self.execute(request, || format!("delete the device {name}"))
    }

    /// Deletes all devices of a group at once, which costs about as much as deleting one; says
    /// whether there were any.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses, as for a group with hardware in it.
    pub fn delete_group(&mut self, group: u32) -> Result<bool, Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        let request = Request::new(Message::DelLink(message), 0);
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
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
        let request = Request::new(Message::SetLink(message), 0);
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

fn local(addr: IpAddr) -> InfoVxlan {
    match addr {
        IpAddr::V4(addr) => InfoVxlan::Local(addr),
        IpAddr::V6(addr) => InfoVxlan::Local6(addr),
    }
}

/// Statistics are most of the octets of an answer, and nobody reads them here.
fn skip_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

/// Octets of `struct ifinfomsg` of linux/rtnetlink.h: family, type, index, flags, mask.
const FIXED: usize = 16;

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
fn decode_vxlan(data: &[u8]) -> Vxlan {
    let mut vxlan = Vxlan::default();
    let on = |value: &[u8]| value.first().is_some_and(|octet| *octet != 0);
    for (number, value) in attributes(data, 0) {
        match number {
            1 => vxlan.vni = u32_at(value, 0).unwrap_or_default(),
            3 => vxlan.bound_to = u32_at(value, 0).filter(|index| *index != 0),
            4 | 17 => vxlan.local = ip_of(value),
            7 => vxlan.learning = on(value),
            15 => vxlan.port = <[u8; 2]>::try_from(value).map_or(0, u16::from_be_bytes),
            25 => vxlan.external = on(value),
            _ => {}
        }
    }
    vxlan
}
