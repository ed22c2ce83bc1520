//! The floor of the plugin's calls: the messages that ADD and DEL need, and nothing else.
//!
//! `minionet-floor add NETNS HOST-INTERFACE ADDRESS GATEWAY [ADDRESS GATEWAY]` makes the same veth
//! pair as the plugin: same MTU and MACs, same addresses, routes and neighbours.
//! `minionet-floor safely DIRECTORY add …` also reads and writes the files without which an ADD would not
//! be safe, in the plugin's order, and writes as much to standard output; `minionet-floor forget
//! DIRECTORY HOST-INTERFACE ADDRESS` removes all that again.
//! `minionet-floor del HOST-INTERFACE` deletes the pair, and `minionet-floor leave NETNS HOST-INTERFACE
//! ADDRESS` takes it out of the pod and leaves its end to somebody else, as the plugin does.
//! There is no configuration that is understood, no choice of an address, and no answer that says
//! anything.

// As the plugin: without what the standard library prepares before.
#![no_main]

mod files;
mod message;

use std::error::Error;
use std::ffi::CStr;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use self::message::{Batch, NEW, attribute, link, link_of, name, octets, verdict_of};

/// What the plugin sets; see `minionet_core::addr::MacAddr::POD_GATEWAY`.
const HOST_MAC: [u8; 6] = [0x0e, 0x67, 0, 0, 0, 1];
const POD_MAC: [u8; 6] = [0x0e, 0x70, 0x0a, 0x20, 0x01, 0x02];
/// The MTU of pods on Ethernet: 1500 octets less VXLAN's 50.
const MTU: u32 = 1450;
/// The protocol number of pods' routes.
const PROTOCOL: u8 = 110;
/// A group of links; not the daemon's, which would destroy them.
const LEFT: u32 = 0x6d6e;
/// In every namespace: `LOOPBACK_IFINDEX` of include/linux/netdevice.h.
const LOOPBACK: u32 = 1;
/// `VETH_INFO_PEER` of linux/veth.h.
const VETH_INFO_PEER: u16 = 1;
/// `IFLA_INET6_ADDR_GEN_MODE` and `IN6_ADDR_GEN_MODE_NONE` of linux/if_link.h.
const ADDR_GEN_MODE: (u16, u8) = (8, 1);
/// `IFLA_INET_CONF` of linux/if_link.h with `IPV4_DEVCONF_ARP_NOTIFY` of linux/ip.h.
const INET_CONF: u16 = 1;
const ARP_NOTIFY: u16 = 22;
/// `IFA_F_NODAD` of linux/if_addr.h.
const NODAD: u8 = 0x02;
/// `NUD_PERMANENT` and `NUD_REACHABLE`, and `NTF_EXT_LEARNED`, of linux/neighbour.h.
const PERMANENT: (u16, u8) = (0x80, 0);
const TOLD: (u16, u8) = (0x02, 0x10);
/// `RTM_SETNEIGHTBL` of linux/rtnetlink.h, attributes and parameters of a table of neighbours of
/// linux/neighbour.h: `NDTA_NAME`, `NDTA_PARMS`, `NDTPA_IFINDEX`, `NDTPA_BASE_REACHABLE_TIME`,
/// `NDTPA_DELAY_PROBE_TIME`, `NDTPA_PROXY_DELAY`.
const SET_TABLE: u16 = 67;
const TABLE: (u16, u16) = (1, 6);
const PARAMETERS: (u16, u16, u16, u16) = (1, 4, 7, 13);
/// How long a neighbour is believed, in milliseconds: a week.
const BELIEVED: u64 = 7 * 24 * 60 * 60 * 1000;

/// The plugin's heap.
#[cfg(target_env = "musl")]
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

type Outcome<T> = Result<T, Box<dyn Error>>;

// SAFETY: nothing else in the program has this name.
#[allow(unsafe_code)]
#[unsafe(export_name = "main")]
extern "C" fn start(count: libc::c_int, words: *const *const libc::c_char) -> libc::c_int {
    // SAFETY: so the C library calls a program: as many pointers to text that stays.
    #[allow(unsafe_code)]
    let words = (1..count as usize).map(|number| unsafe { CStr::from_ptr(*words.add(number)) });
    match call(words) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("minionet-floor: {error}");
            1
        }
    }
}

fn call(words: impl Iterator<Item = &'static CStr>) -> Outcome<()> {
    let words: Vec<&str> = words.map(CStr::to_str).collect::<Result<_, _>>()?;
    match words.as_slice() {
        ["add", netns, outer, addresses @ ..] => add(netns, outer, &pairs(addresses)?),
        ["safely", directory, "add", netns, outer, addresses @ ..] => {
            let addresses = pairs(addresses)?;
            let (first, _) = addresses.first().ok_or("an address is missing")?;
            let begun = files::begin(Path::new(directory), *first)?;
            add(netns, outer, &addresses)?;
            files::end(&begun)
        }
        ["forget", directory, outer, address] => {
            files::forget(Path::new(directory), address.parse()?)?;
            del(outer)
        }
        ["del", outer] => del(outer),
        ["leave", netns, outer, address] => leave(netns, outer, address.parse()?),
        _ => Err("usage: minionet-floor [safely DIRECTORY] add NETNS INTERFACE ADDRESS GATEWAY... | forget DIRECTORY INTERFACE ADDRESS | del INTERFACE | leave NETNS INTERFACE ADDRESS".into()),
    }
}

/// Addresses, each with its gateway.
fn pairs(words: &[&str]) -> Outcome<Vec<(IpAddr, IpAddr)>> {
    let addresses: Vec<IpAddr> = words.iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
    Ok(addresses.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

fn add(netns: &str, outer: &str, addresses: &[(IpAddr, IpAddr)]) -> Outcome<()> {
    let host = open()?;
    let netns = File::open(netns)?;
    let inner = [
        link(0, None).to_vec(),
        attribute(libc::IFLA_IFNAME, &name("eth0")),
        attribute(libc::IFLA_ADDRESS, &POD_MAC),
        attribute(libc::IFLA_MTU, &MTU.to_ne_bytes()),
        attribute(libc::IFLA_NUM_TX_QUEUES, &1u32.to_ne_bytes()),
        attribute(libc::IFLA_NUM_RX_QUEUES, &1u32.to_ne_bytes()),
        attribute(libc::IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes()),
    ];
    let info = [
        attribute(libc::IFLA_INFO_KIND, b"veth"),
        attribute(libc::IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &inner.concat())),
    ];
    let mut batch = Batch::default();
    batch
        .request(libc::RTM_NEWLINK, NEW, &link(0, None))
        .attribute(libc::IFLA_IFNAME, &name(outer))
        .attribute(libc::IFLA_ADDRESS, &HOST_MAC)
        .attribute(libc::IFLA_MTU, &MTU.to_ne_bytes())
        .attribute(libc::IFLA_NUM_TX_QUEUES, &1u32.to_ne_bytes())
        .attribute(libc::IFLA_NUM_RX_QUEUES, &1u32.to_ne_bytes())
        .attribute(libc::IFLA_LINKINFO, &info.concat());
    find(&mut batch, outer);
    let (outer_index, inner_index) = exchange(&host, batch)?.ok_or("the pair is not there")?;

    setns(&netns, CloneFlags::CLONE_NEWNET)?;
    let pod = open()?;
    let mut batch = Batch::default();
    batch.request(libc::RTM_SETLINK, 0, &link(LOOPBACK, Some(true)));
    let notify = attribute(INET_CONF, &attribute(ARP_NOTIFY, &1u32.to_ne_bytes()));
    batch
        .request(libc::RTM_SETLINK, 0, &link(inner_index, Some(true)))
        .attribute(libc::IFLA_AF_SPEC, &attribute(libc::AF_INET as u16, &notify));
    for (address, gateway) in addresses {
        own(&mut batch, inner_index, *address);
        neighbour(&mut batch, inner_index, *gateway, HOST_MAC, PERMANENT);
        route(&mut batch, libc::RTM_NEWROUTE, inner_index, Some(*gateway), None);
        route(&mut batch, libc::RTM_NEWROUTE, inner_index, None, Some(*gateway));
    }
    exchange(&pod, batch)?;

    let mut batch = Batch::default();
    let quiet = attribute(ADDR_GEN_MODE.0, &[ADDR_GEN_MODE.1]);
    batch
        .request(libc::RTM_SETLINK, 0, &link(outer_index, None))
        .attribute(libc::IFLA_AF_SPEC, &attribute(libc::AF_INET6 as u16, &quiet));
    batch.request(libc::RTM_SETLINK, 0, &link(outer_index, Some(true))).attribute(
        libc::IFLA_IFALIAS,
        b"minionet-floor, as long as the label that the plugin sets, with container",
    );
    for (address, _) in addresses {
        believe(&mut batch, outer_index, *address);
        neighbour(&mut batch, outer_index, *address, POD_MAC, TOLD);
        route(&mut batch, libc::RTM_NEWROUTE, outer_index, Some(*address), None);
    }
    exchange(&host, batch)?;

    // Lets the pod's end notice its carrier before the first packet; see `minionet_netlink::pod`.
    let mut batch = Batch::default();
    batch.request(libc::RTM_GETLINK, 0, &link(inner_index, None));
    exchange(&pod, batch).map(drop)
}

fn del(outer: &str) -> Outcome<()> {
    let mut batch = Batch::default();
    batch.request(libc::RTM_DELLINK, 0, &link(0, None)).attribute(libc::IFLA_IFNAME, &name(outer));
    exchange(&open()?, batch).map(drop)
}

fn leave(netns: &str, outer: &str, address: IpAddr) -> Outcome<()> {
    let host = open()?;
    let netns = File::open(netns)?;
    let mut batch = Batch::default();
    find(&mut batch, outer);
    let (outer_index, inner_index) = exchange(&host, batch)?.ok_or("the pair is not there")?;
    setns(&netns, CloneFlags::CLONE_NEWNET)?;
    let mut batch = Batch::default();
    batch.request(libc::RTM_SETLINK, 0, &link(inner_index, Some(false)));
    batch
        .request(libc::RTM_SETLINK, 0, &link(inner_index, None))
        .attribute(libc::IFLA_IFNAME, &name(&format!("gone{inner_index}")));
    exchange(&open()?, batch)?;
    let mut batch = Batch::default();
    route(&mut batch, libc::RTM_DELROUTE, outer_index, Some(address), None);
    batch
        .request(libc::RTM_SETLINK, 0, &link(outer_index, None))
        .attribute(libc::IFLA_GROUP, &LEFT.to_ne_bytes());
    exchange(&host, batch).map(drop)
}

/// Asks for a link by its name.
fn find(batch: &mut Batch, outer: &str) {
    batch.request(libc::RTM_GETLINK, 0, &link(0, None)).attribute(libc::IFLA_IFNAME, &name(outer));
}

/// Sets an address of the pod.
fn own(batch: &mut Batch, index: u32, address: IpAddr) {
    let (address, family) = octets(address);
    // `struct ifaddrmsg`.
    let mut fixed = vec![family, (address.len() * 8) as u8, NODAD, 0];
    fixed.extend(index.to_ne_bytes());
    batch
        .request(libc::RTM_NEWADDR, NEW, &fixed)
        .attribute(libc::IFA_LOCAL, &address)
        .attribute(libc::IFA_ADDRESS, &address);
}

/// Lets the neighbours on a link be believed for a week, as the plugin does for the family of an
/// address.
fn believe(batch: &mut Batch, index: u32, address: IpAddr) {
    let (_, family) = octets(address);
    let table: &[u8] = if address.is_ipv4() { b"arp_cache\0" } else { b"ndisc_cache\0" };
    let (device, base, probe, proxy) = PARAMETERS;
    let parameters = [
        attribute(device, &index.to_ne_bytes()),
        attribute(base, &BELIEVED.to_ne_bytes()),
        attribute(probe, &BELIEVED.to_ne_bytes()),
        attribute(proxy, &0u64.to_ne_bytes()),
    ];
    // `struct ndtmsg`.
    batch
        .request(SET_TABLE, 0, &[family, 0, 0, 0])
        .attribute(TABLE.0, table)
        .attribute(TABLE.1, &parameters.concat());
}

/// Sets a neighbour, in a state and with flags.
fn neighbour(batch: &mut Batch, index: u32, address: IpAddr, mac: [u8; 6], (state, flags): (u16, u8)) {
    let (address, family) = octets(address);
    // `struct ndmsg`.
    let mut fixed = vec![family, 0, 0, 0];
    fixed.extend(index.to_ne_bytes());
    fixed.extend(state.to_ne_bytes());
    fixed.extend([flags, 0]);
    batch
        .request(libc::RTM_NEWNEIGH, NEW & 0x400, &fixed)
        .attribute(libc::NDA_DST, &address)
        .attribute(libc::NDA_LLADDR, &mac);
}

/// Adds or removes a route: to one address on the link, or to everything by a gateway.
fn route(batch: &mut Batch, kind: u16, index: u32, to: Option<IpAddr>, gateway: Option<IpAddr>) {
    let Some((one, family)) = to.or(gateway).map(octets) else { return };
    let length = if to.is_some() { one.len() * 8 } else { 0 };
    let scope = if gateway.is_some() || family == libc::AF_INET6 as u8 {
        libc::RT_SCOPE_UNIVERSE
    } else {
        libc::RT_SCOPE_LINK
    };
    // `struct rtmsg`.
    let mut fixed = vec![family, length as u8, 0, 0, libc::RT_TABLE_MAIN, PROTOCOL, scope, libc::RTN_UNICAST];
    fixed.extend([0; 4]);
    let flags = if kind == libc::RTM_NEWROUTE { NEW } else { 0 };
    batch.request(kind, flags, &fixed);
    if to.is_some() {
        batch.attribute(libc::RTA_DST, &one);
    } else {
        batch.attribute(libc::RTA_GATEWAY, &one);
    }
    batch.attribute(libc::RTA_OIF, &index.to_ne_bytes());
}

fn open() -> Outcome<OwnedFd> {
    Ok(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?)
}

/// Sends a batch and reads answers up to the acknowledgement of its last request: the link, if one
/// was asked for.
fn exchange(socket: &OwnedFd, batch: Batch) -> Outcome<Option<(u32, u32)>> {
    send(socket.as_raw_fd(), &batch.finish(), MsgFlags::empty())?;
    let mut found = None;
    let mut answer = [0; 8192];
    loop {
        let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let answer = &answer[..length];
        found = found.or(link_of(answer));
        match verdict_of(answer) {
            Some(0) => return Ok(found),
            Some(errno) => return Err(std::io::Error::from_raw_os_error(errno).into()),
            None => {}
        }
    }
}
