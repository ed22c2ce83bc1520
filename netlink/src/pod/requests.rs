//! The requests that make a pod's veth pair, in the order in which they are sent.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use minionet_core::addr::{Cidr, Family};
use minionet_core::cni::attachment::PodLink;
use minionet_core::constants::ROUTE_PROTOCOL_POD;
use nix::libc;

use crate::attribute::NESTED;
use crate::netns::Netns;
use crate::request::Request;
use crate::route::Route;
use crate::{address, link, neighbour, route};

/// How long the host believes what it knows of a pod's MAC, in milliseconds: a week. Nobody else
/// is on that link, and the pod says when its MAC changes; asking would add nothing but packets,
/// and a pod that does not answer would be cut off.
const BELIEVED_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// `VETH_INFO_PEER` of linux/veth.h.
const VETH_INFO_PEER: u16 = 1;

/// `IFLA_INET_CONF` of linux/if_link.h with `IPV4_DEVCONF_ARP_NOTIFY` of linux/ip.h.
const INET_CONF: u16 = 1;
const ARP_NOTIFY: u16 = 22;

/// `LOOPBACK_IFINDEX` of include/linux/netdevice.h, in every namespace.
const LOOPBACK: u32 = 1;

/// The whole pair in one message: both names, MACs and MTUs, the container's end born in its
/// namespace. There is no moment at which it has another name or is somewhere else, and udev
/// leaves addresses alone that were set at birth.
///
/// Each end has one queue, which is what the kernel uses where nothing is said; but then it makes
/// one for each processor first, and waits twice until nobody uses the others (`veth_init_queues` in
/// drivers/net/veth.c).
pub(crate) fn create(netns: &Netns, pod: &PodLink) -> Request {
    let outer = link::create(&pod.host_ifname, pod.host_mac, pod.mtu);
    one_queue(outer).nest(libc::IFLA_LINKINFO, |info| {
        info.text(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |inner| {
                let inner = link::described(inner.nothing(16), &pod.ifname, pod.mac, pod.mtu);
                // Descriptors are not negative.
                one_queue(inner).number(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32)
            })
        })
    })
}

fn one_queue(request: Request) -> Request {
    request.number(libc::IFLA_NUM_TX_QUEUES, 1).number(libc::IFLA_NUM_RX_QUEUES, 1)
}

/// A step in the pod's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PodStep {
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
pub(crate) fn in_pod(index: u32, pod: &PodLink) -> Vec<(PodStep, Request)> {
    let mut steps = vec![(PodStep::LoopbackUp, link::up(LOOPBACK)), (PodStep::Up, pod_end_up(index))];
    for assigned in &pod.addresses {
        let (address, gateway) = (assigned.address, assigned.gateway);
        steps.push((PodStep::Address(address), address::add(index, address, assigned.prefix_len())));
        steps.push((
            PodStep::Neighbour(gateway),
            neighbour::set(index, gateway, pod.host_mac, ROUTE_PROTOCOL_POD),
        ));
        steps.extend(way_out(index, gateway));
    }
    steps
}

/// The routes of an interface beside another with the same gateway, for the given families: with
/// the interface's number as their metric, the lowest still wins and no two are the same.
pub(crate) fn second_routes(index: u32, pod: &PodLink, families: &[Family]) -> Vec<(PodStep, Request)> {
    let gateways = pod.addresses.iter().map(|a| a.gateway);
    // IPv6 puts 1024 where nothing is said (IP6_RT_PRIO_USER of include/uapi/linux/ipv6_route.h).
    let metric = index.saturating_add(1024);
    gateways
        .filter(|gateway| families.contains(&Family::of(*gateway)))
        .flat_map(|gateway| way_out(index, gateway))
        .map(|(step, request)| (step, route::with_metric(request, metric)))
        .collect()
}

/// The gateway is on the link, and everything else behind it.
pub(crate) fn way_out(index: u32, gateway: IpAddr) -> [(PodStep, Request); 2] {
    let family = Family::of(gateway);
    [
        (PodStep::GatewayRoute(family), route::add(&on_link(index, gateway))),
        (PodStep::DefaultRoute(family), route::add_default(index, gateway, ROUTE_PROTOCOL_POD)),
    ]
}

/// A step on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostStep {
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
pub(crate) fn on_host(index: u32, pod: &PodLink) -> Vec<(HostStep, Request)> {
    let mut steps = vec![(HostStep::Quiet, quiet(index)), (HostStep::Up, host_end_up(index, pod))];
    for assigned in &pod.addresses {
        let (address, gateway) = (assigned.address, assigned.gateway);
        let family = Family::of(address);
        steps.push((HostStep::Belief(family), neighbour::believe(index, family, BELIEVED_MS)));
        if family == Family::V6 {
            steps.extend(reachable_by_discovery(index, gateway, pod));
        }
        steps.push((
            HostStep::Neighbour(address),
            neighbour::tell(index, address, pod.mac, ROUTE_PROTOCOL_POD),
        ));
        steps.push((HostStep::Route(address), route::add(&on_link(index, address))));
    }
    steps
}

/// What neighbour discovery needs on the host's end, for the day on which either side has to ask:
/// an address to ask from (`ndisc_send_ns` in net/ipv6/ndisc.c), and that the gateway, which is an
/// address of another device, is answered for. ARP needs neither.
fn reachable_by_discovery(index: u32, gateway: IpAddr, pod: &PodLink) -> [(HostStep, Request); 2] {
    let own = pod.host_mac.link_local();
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

/// Up, and telling the other side of the link when its MAC changes (`arp_notify`, ip-sysctl.rst of
/// the kernel): by netlink, which needs no `/proc/sys` that could be read-only.
fn pod_end_up(index: u32) -> Request {
    link::up(index).nest(libc::IFLA_AF_SPEC, |families| {
        families.nest(libc::AF_INET as u16, |settings| {
            settings.nest(INET_CONF | NESTED, |settings| settings.number(ARP_NOTIFY, 1))
        })
    })
}

/// No link-local address that the kernel makes, announces and probes (IN6_ADDR_GEN_MODE_NONE);
/// where one is needed, [`on_host`] sets it.
///
/// Refused with EAFNOSUPPORT where the device has no IPv6: with `ipv6.disable=1`, and with an MTU
/// below 1280 (`inet6_validate_link_af` in net/ipv6/addrconf.c). Then there is nothing to keep quiet.
fn quiet(index: u32) -> Request {
    link::without_link_local(link::change(index))
}

/// Alias and up, in one message.
fn host_end_up(index: u32, pod: &PodLink) -> Request {
    link::up(index).text(libc::IFLA_IFALIAS, &pod.alias)
}
