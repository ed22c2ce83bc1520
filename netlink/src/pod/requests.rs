//! The requests that make a pod's veth pair, in the order in which they are sent.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use minionet_core::addr::{Cidr, Family};
use minionet_core::cni::attachment::PodLink;
use minionet_core::constants::ROUTE_PROTOCOL_POD;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, InfoData, InfoKind, InfoVeth,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use crate::netns::Netns;
use crate::route::Route;
use crate::socket::Request;
use crate::{address, decode, neighbour, route};

/// How long the host believes what it knows of a pod's MAC, in milliseconds: a week. Nobody else
/// is on that link, and the pod says when its MAC changes; asking would add nothing but packets,
/// and a pod that does not answer would be cut off.
const BELIEVED_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// `LOOPBACK_IFINDEX` of include/linux/netdevice.h, in every namespace.
const LOOPBACK: u32 = 1;

/// The whole pair in one message: both names, MACs and MTUs, the container's end born in its
/// namespace. There is no moment at which it has another name or is somewhere else, and udev
/// leaves addresses alone that were set at birth.
///
/// Each end has one queue, which is what the kernel uses where nothing is said; but then it makes
/// one for each processor first, and waits twice until nobody uses the others (`veth_init_queues` in
/// drivers/net/veth.c).
pub(super) fn create(netns: &Netns, link: &PodLink) -> Request {
    let mut inner = LinkMessage::default();
    inner.attributes = vec![
        LinkAttribute::IfName(link.ifname.clone()),
        LinkAttribute::Address(link.mac.0.to_vec()),
        LinkAttribute::Mtu(link.mtu),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
        LinkAttribute::NetNsFd(netns.as_raw_fd()),
    ];
    let mut outer = LinkMessage::default();
    outer.attributes = vec![
        LinkAttribute::IfName(link.host_ifname.clone()),
        LinkAttribute::Address(link.host_mac.0.to_vec()),
        LinkAttribute::Mtu(link.mtu),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inner))),
        ]),
    ];
    Request::new(Message::NewLink(outer), NLM_F_CREATE | NLM_F_EXCL)
}

/// A step in the pod's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PodStep {
    LoopbackUp,
    Up,
    Address(IpAddr),
    Neighbour(IpAddr),
    GatewayRoute(Family),
    DefaultRoute(Family),
}

impl fmt::Display for PodStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PodStep::LoopbackUp => f.write_str("set up lo"),
            PodStep::Up => f.write_str("set up the container's end"),
            PodStep::Address(address) => write!(f, "set the address {address}"),
            PodStep::Neighbour(address) => write!(f, "set the neighbour {address}"),
            PodStep::GatewayRoute(family) => write!(f, "add the route to the gateway ({family})"),
            PodStep::DefaultRoute(family) => write!(f, "add the default route ({family})"),
        }
    }
}

/// What happens in the pod's namespace.
pub(super) fn in_pod(index: u32, link: &PodLink) -> Vec<(PodStep, Request)> {
    let mut steps = vec![(PodStep::LoopbackUp, up(LOOPBACK)), (PodStep::Up, pod_end_up(index))];
    for assigned in &link.addresses {
        let (address, gateway) = (assigned.address, assigned.gateway);
        steps.push((PodStep::Address(address), address::add(index, address, assigned.prefix_len())));
        steps.push((
            PodStep::Neighbour(gateway),
            neighbour::set(index, gateway, link.host_mac, ROUTE_PROTOCOL_POD),
        ));
        steps.extend(way_out(index, gateway));
    }
    steps
}

/// The routes of an interface beside another with the same gateway, for the given families: with
/// the interface's number as their metric, the lowest still wins and no two are the same.
pub(super) fn second_routes(index: u32, link: &PodLink, families: &[Family]) -> Vec<(PodStep, Request)> {
    let gateways = link.addresses.iter().map(|a| a.gateway);
    let mut steps: Vec<_> = gateways
        .filter(|gateway| families.contains(&Family::of(*gateway)))
        .flat_map(|gateway| way_out(index, gateway))
        .collect();
    for (_, request) in &mut steps {
        if let Some(Message::NewRoute(message)) = request.known() {
            // IPv6 puts 1024 where nothing is said (IP6_RT_PRIO_USER of include/uapi/linux/ipv6_route.h).
            message.attributes.push(RouteAttribute::Priority(index.saturating_add(1024)));
        }
    }
    steps
}

/// The gateway is on the link, and everything else behind it.
pub(super) fn way_out(index: u32, gateway: IpAddr) -> [(PodStep, Request); 2] {
    let family = Family::of(gateway);
    [
        (PodStep::GatewayRoute(family), route::add(&on_link(index, gateway))),
        (PodStep::DefaultRoute(family), default_route(index, gateway)),
    ]
}

/// A step on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostStep {
    Quiet,
    Up,
    Belief(Family),
    LinkLocal,
    Proxy(IpAddr),
    Neighbour(IpAddr),
    Route(IpAddr),
}

impl fmt::Display for HostStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostStep::Quiet => f.write_str("keep the host's end from making itself a link-local address"),
            HostStep::Up => f.write_str("set up the host's end"),
            HostStep::Belief(family) => write!(f, "let neighbours be believed ({family})"),
            HostStep::LinkLocal => f.write_str("set the link-local address"),
            HostStep::Proxy(address) => write!(f, "answer for the gateway {address}"),
            HostStep::Neighbour(address) => write!(f, "set the neighbour {address}"),
            HostStep::Route(address) => write!(f, "add the route to {address}"),
        }
    }
}

/// What happens on the host.
pub(super) fn on_host(index: u32, link: &PodLink) -> Vec<(HostStep, Request)> {
    let mut steps = vec![(HostStep::Quiet, quiet(index)), (HostStep::Up, host_end_up(index, link))];
    for assigned in &link.addresses {
        let (address, gateway) = (assigned.address, assigned.gateway);
        let family = Family::of(address);
        steps.push((HostStep::Belief(family), neighbour::believe(index, family, BELIEVED_MS)));
        if family == Family::V6 {
            steps.extend(reachable_by_discovery(index, gateway, link));
        }
        steps.push((
            HostStep::Neighbour(address),
            neighbour::tell(index, address, link.mac, ROUTE_PROTOCOL_POD),
        ));
        steps.push((HostStep::Route(address), route::add(&on_link(index, address))));
    }
    steps
}

/// What neighbour discovery needs on the host's end, for the day on which either side has to ask:
/// an address to ask from (`ndisc_send_ns` in net/ipv6/ndisc.c), and that the gateway, which is an
/// address of another device, is answered for. ARP needs neither.
fn reachable_by_discovery(index: u32, gateway: IpAddr, link: &PodLink) -> [(HostStep, Request); 2] {
    let own = link.host_mac.link_local();
    [
        // Of one host, so that no route leads to other link-local addresses.
        (HostStep::LinkLocal, address::add(index, own.into(), Family::V6.bits())),
        (HostStep::Proxy(gateway), neighbour::answer_for(index, gateway, ROUTE_PROTOCOL_POD)),
    ]
}

fn on_link(index: u32, address: IpAddr) -> Route {
    Route {
        dst: Cidr::host(address),
        gateway: None,
        device: Some(index),
        object: None,
        protocol: ROUTE_PROTOCOL_POD,
        metric: 0,
        unreachable: false,
    }
}

fn up(index: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    Request::new(Message::SetLink(message), 0)
}

/// Up, and telling the other side of the link when its MAC changes (`arp_notify`, ip-sysctl.rst of
/// the kernel): by netlink, which needs no `/proc/sys` that could be read-only.
fn pod_end_up(index: u32) -> Request {
    let mut request = up(index);
    if let Some(Message::SetLink(message)) = request.known() {
        // Only what is not zero is sent.
        let mut settings = InetDevConf::default();
        settings.arp_notify = 1;
        let settings = AfSpecInet::DevConfRequest(settings);
        message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![settings])])];
    }
    request
}

/// No link-local address that the kernel makes, announces and probes (IN6_ADDR_GEN_MODE_NONE);
/// where one is needed, [`on_host`] sets it.
///
/// Refused with EAFNOSUPPORT where the device has no IPv6: with `ipv6.disable=1`, and with an MTU
/// below 1280 (`inet6_validate_link_af` in net/ipv6/addrconf.c). Then there is nothing to keep quiet.
fn quiet(index: u32) -> Request {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])])];
    Request::new(Message::SetLink(message), 0)
}

/// Alias and up, in one message.
fn host_end_up(index: u32, link: &PodLink) -> Request {
    let mut request = up(index);
    if let Some(Message::SetLink(message)) = request.known() {
        message.attributes = vec![LinkAttribute::IfAlias(link.alias.clone())];
    }
    request
}

/// Everything through the gateway, which [`on_link`] made reachable.
fn default_route(index: u32, gateway: IpAddr) -> Request {
    let family = Family::of(gateway);
    let everything: IpAddr = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut message = RouteMessage::default();
    message.header.address_family = decode::family(family);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(ROUTE_PROTOCOL_POD);
    message.header.kind = RouteType::Unicast;
    message.header.scope = RouteScope::Universe;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(everything)),
        RouteAttribute::Gateway(RouteAddress::from(gateway)),
        RouteAttribute::Oif(index),
    ];
    Request::new(Message::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
}
