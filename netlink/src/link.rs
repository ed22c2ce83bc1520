//! Network devices: found, described, made, changed and deleted.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use minionet_core::addr::MacAddr;
use minionet_core::overlay::Device;
use netlink_packet_core::{Emitable, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage,
};

use crate::decode::mac_of;
use crate::error::Error;
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
        match self.get(Message::GetLink(message), "read a network device")? {
            Some(Message::NewLink(link)) => Ok(Some(decode(link))),
            _ => Ok(None),
        }
    }

    /// Reads all devices.
    ///
    /// # Errors
    /// [`Error`] when the kernel cannot be asked.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(skip_statistics());
        self.dump(Message::GetLink(message), "read the network devices", |m| match m {
            Message::NewLink(link) => Some(decode(link)),
            _ => None,
        })
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
        let request = Request { message: Message::NewLink(message), flags: NLM_F_CREATE | NLM_F_EXCL };
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
        let request = Request { message: Message::NewLink(message), flags: 0 };
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
        let request = Request { message: Message::SetLink(message), flags: 0 };
        self.execute(request, || format!("change the device {name} ({change})"))
    }

    /// Deletes a device by its number; a name could have passed to another by now.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses; see [`Error::is_absent`].
    pub fn delete_link(&mut self, index: u32, name: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let request = Request { message: Message::DelLink(message), flags: 0 };
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
        let request = Request { message: Message::DelLink(message), flags: 0 };
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
        let request = Request { message: Message::SetLink(message), flags: 0 };
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

fn decode(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        running: message.header.flags.contains(LinkFlags::Running),
        loopback: message.header.flags.contains(LinkFlags::Loopback),
        alias: None,
        group: 0,
        lower: None,
        master: None,
        vxlan: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(octets) => link.mac = mac_of(&octets),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Group(group) => link.group = group,
            LinkAttribute::Link(index) => link.lower = Some(index),
            LinkAttribute::Controller(index) => link.master = Some(index).filter(|i| *i != 0),
            LinkAttribute::LinkInfo(infos) => decode_info(&mut link, infos),
            _ => {}
        }
    }
    link
}

fn decode_info(link: &mut Link, infos: Vec<LinkInfo>) {
    for info in infos {
        match info {
            LinkInfo::Kind(kind) => link.kind = Some(kind_name(&kind)),
            LinkInfo::Data(InfoData::Vxlan(data)) => link.vxlan = Some(decode_vxlan(data)),
            _ => {}
        }
    }
}

/// The kernel's own word for a kind of device, as it goes over the wire.
fn kind_name(kind: &InfoKind) -> String {
    let mut octets = vec![0; kind.buffer_len()];
    kind.emit(&mut octets);
    // Four octets of attribute header, the text, and a zero.
    let text: Vec<u8> = octets.into_iter().skip(4).take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&text).into_owned()
}

fn decode_vxlan(data: Vec<InfoVxlan>) -> Vxlan {
    let mut vxlan = Vxlan::default();
    for attribute in data {
        match attribute {
            InfoVxlan::Id(vni) => vxlan.vni = vni,
            InfoVxlan::Port(port) => vxlan.port = port,
            InfoVxlan::Local(addr) => vxlan.local = Some(IpAddr::V4(addr)),
            InfoVxlan::Local6(addr) => vxlan.local = Some(IpAddr::V6(addr)),
            InfoVxlan::Learning(on) => vxlan.learning = on,
            InfoVxlan::Link(index) => vxlan.bound_to = Some(index).filter(|i| *i != 0),
            InfoVxlan::CollectMetadata(on) => vxlan.external = on,
            _ => {}
        }
    }
    vxlan
}
