//! What of the kernel's notifications is let through to a listener: programs of classic BPF, read in
//! Documentation/networking/filter.rst of the kernel.
//!
//! Each ADD makes some ten notifications, and each would wake every listener, at the ADD's cost and
//! to no end. A notification is a message of its own, so looking at the first of a datagram is
//! enough.

use std::os::fd::AsFd;

use minionet_core::addr::MacAddr;
use minionet_core::cni::attachment::HOST_IFNAME_PREFIX;
use minionet_core::constants::{DOOMED_GROUP, ROUTE_PROTOCOL_PEER, ROUTE_PROTOCOL_POD};
use nix::libc::{
    IFA_ADDRESS, IFLA_GROUP, IFLA_IFNAME, RT_TABLE_MAIN, RTA_DST, RTM_DELADDR, RTM_DELLINK, RTM_DELNEIGH,
    RTM_DELROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWROUTE, sock_filter,
};
use socket2::{SockFilter, SockRef};

// Classes, sizes and modes of linux/bpf_common.h.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_WORD: u16 = 0x20;
const LOAD_BYTE_AT_X: u16 = 0x50;
const LOAD_HALF_AT_X: u16 = 0x48;
const LOAD_WORD_AT_X: u16 = 0x40;
const LOAD_NUMBER: u16 = 0x00;
const LOAD_X_NUMBER: u16 = 0x01;
const JUMP_IF_EQUAL: u16 = 0x15;
const COPY_TO_X: u16 = 0x07;
const RETURN: u16 = 0x06;

/// `SKF_AD_OFF + SKF_AD_NLATTR` of linux/filter.h: where the attribute X is, from octet A on; 0 if
/// nowhere.
const FIND_ATTRIBUTE: u32 = 0xffff_f000 + 12;

/// Octets of `struct nlmsghdr`, and of what stands between it and the attributes: `struct ifinfomsg`,
/// `ndmsg`, `ifaddrmsg`, `rtmsg`, `nhmsg`, and `netconfmsg` with its padding.
const HEADER: u32 = 16;
const LINK_HEADER: u32 = 16;
const NEIGHBOUR_HEADER: u32 = 12;
const ADDRESS_HEADER: u32 = 8;
const ROUTE_HEADER: u32 = 12;
const OBJECT_HEADER: u32 = 8;
const NETCONF_HEADER: u32 = 4;

/// `RTM_NEWNEXTHOP` of linux/rtnetlink.h, `NHA_ID` of linux/nexthop.h.
const RTM_NEWNEXTHOP: u16 = 104;
const NHA_ID: u16 = 1;

/// Where in a number of four octets the highest is, in the machine's order.
const HIGHEST: u32 = if cfg!(target_endian = "little") { 3 } else { 0 };

/// `NUD_NOARP` and `NDA_PROTOCOL` of linux/neighbour.h.
const NUD_NOARP: u16 = 0x40;
const NDA_PROTOCOL: u16 = 12;

/// `RTM_NEWNETCONF` and `RTM_DELNETCONF` of linux/rtnetlink.h, `NETCONFA_IFINDEX` of linux/netconf.h.
const RTM_NEWNETCONF: u16 = 80;
const RTM_DELNETCONF: u16 = 81;
const NETCONFA_IFINDEX: u16 = 1;

/// A place in a program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The step after this one.
    Next,
    NewRoute,
    OldRoute,
    Neighbour,
    Link,
    Address,
    Object,
    Setting,
    /// The message is let through.
    Pass,
    /// It is not.
    Keep,
}

/// A step of a program.
#[derive(Clone, Copy)]
enum Step {
    Do(u16, u32),
    /// Goes on at the first place where the number is this one, and at the second where it is not.
    If(u32, Place, Place),
    /// Here is a place.
    At(Place),
}

use Place::{Address, Keep, Link, Neighbour, NewRoute, Next, Object, OldRoute, Pass, Setting};
use Step::{At, Do, If};

/// Lets through what tells of pods that leave: links that go or are put into the group of those to be
/// destroyed, and routes that are withdrawn.
pub(crate) fn departures() -> Vec<sock_filter> {
    let [load, from, find, none, take] = find(IFLA_GROUP, LINK_HEADER, Keep);
    assembled(&[
        Do(LOAD_HALF, 4),
        If(half(RTM_DELLINK), Pass, Next),
        If(half(RTM_DELROUTE), Pass, Next),
        If(half(RTM_NEWLINK), Next, Keep),
        // A new link, or a changed one: is it in the group?
        load,
        from,
        find,
        none,
        take,
        Do(LOAD_WORD_AT_X, 4),
        If(u32::from_be_bytes(DOOMED_GROUP.to_ne_bytes()), Pass, Keep),
    ])
}

/// Keeps back what tells of pods, and with it what every interface brings along: links, known by
/// their names; routes and neighbours of the pods' protocol; the address and routes that each has by
/// itself; next hop objects that others make; settings of all interfaces but `links`, if any are given.
pub(crate) fn but_pods(links: &[u32]) -> Vec<sock_filter> {
    const POD: u32 = ROUTE_PROTOCOL_POD as u32;
    const { assert!(HOST_IFNAME_PREFIX.len() == 4) };
    let word = |octets: &[u8]| octets.iter().fold(0, |number, octet| number << 8 | u32::from(*octet));
    let gateway = MacAddr::POD_GATEWAY.link_local().octets();
    let mut program = vec![
        Do(LOAD_HALF, 4),
        If(half(RTM_NEWROUTE), NewRoute, Next),
        If(half(RTM_DELROUTE), OldRoute, Next),
        If(half(RTM_NEWNEIGH), Neighbour, Next),
        If(half(RTM_DELNEIGH), Neighbour, Next),
        If(half(RTM_NEWLINK), Link, Next),
        If(half(RTM_DELLINK), Link, Next),
        If(half(RTM_NEWADDR), Address, Next),
        If(half(RTM_DELADDR), Address, Next),
        If(half(RTM_NEWNEXTHOP), Object, Next),
        If(half(RTM_NEWNETCONF), if links.is_empty() { Pass } else { Setting }, Next),
        If(half(RTM_DELNETCONF), Keep, Pass),
        // In struct rtmsg the table is the fifth octet and the protocol the sixth. A new route that is
        // not ours is nobody's business; an old one may have been in the way of one of ours.
        At(NewRoute),
        Do(LOAD_BYTE, HEADER + 5),
        If(u32::from(ROUTE_PROTOCOL_PEER), Pass, Keep),
        At(OldRoute),
        Do(LOAD_BYTE, HEADER + 4),
        If(u32::from(RT_TABLE_MAIN), Next, Keep),
        Do(LOAD_BYTE, HEADER + 5),
        If(POD, Keep, Next),
    ];
    program.extend(find(RTA_DST, ROUTE_HEADER, Pass));
    // fe80::/10 leads to the neighbours of one interface, and never is a pod network.
    program.extend([Do(LOAD_HALF_AT_X, 4), If(0xfe80, Keep, Pass), At(Neighbour)]);
    // Where multicast goes, the kernel notes by itself. The state is at 8 in struct ndmsg.
    program.extend([Do(LOAD_HALF, HEADER + 8), If(half(NUD_NOARP), Keep, Next)]);
    program.extend(find(NDA_PROTOCOL, NEIGHBOUR_HEADER, Pass));
    program.extend([Do(LOAD_BYTE_AT_X, 4), If(POD, Keep, Pass), At(Link)]);
    program.extend(find(IFLA_IFNAME, LINK_HEADER, Pass));
    program.extend([Do(LOAD_WORD_AT_X, 4), If(word(HOST_IFNAME_PREFIX.as_bytes()), Keep, Pass), At(Address)]);
    program.extend(find(IFA_ADDRESS, ADDRESS_HEADER, Pass));
    program.extend([
        // The interface's half of the address; one of IPv4 is followed by something else there.
        Do(LOAD_WORD_AT_X, 12),
        If(word(&gateway[8..12]), Next, Pass),
        Do(LOAD_WORD_AT_X, 16),
        If(word(&gateway[12..]), Keep, Pass),
        At(Object),
        // In struct nhmsg the protocol is the third octet. Others count their objects from below, far
        // from the addresses that ours are numbered by (`object::could_be_ours`).
        Do(LOAD_BYTE, HEADER + 2),
        If(u32::from(ROUTE_PROTOCOL_PEER), Pass, Next),
    ]);
    program.extend(find(NHA_ID, OBJECT_HEADER, Pass));
    program.extend([Do(LOAD_BYTE_AT_X, 4 + HIGHEST), If(0, Keep, Pass), At(Setting)]);
    program.extend(find(NETCONFA_IFINDEX, NETCONF_HEADER, Pass));
    program.extend([Do(LOAD_WORD_AT_X, 4), If(u32::MAX, Pass, Next)]);
    program.extend(links.iter().map(|index| If(u32::from_be_bytes(index.to_ne_bytes()), Pass, Next)));
    program.push(Do(RETURN, 0));
    assembled(&program)
}

/// Finds an attribute, so that X is where it begins; goes elsewhere if there is none. `header` is
/// what stands between the header of the message and its attributes, in octets.
fn find(attribute: u16, header: u32, otherwise: Place) -> [Step; 5] {
    [
        Do(LOAD_X_NUMBER, u32::from(attribute)),
        Do(LOAD_NUMBER, HEADER + header),
        Do(LOAD_WORD, FIND_ATTRIBUTE),
        If(0, otherwise, Next),
        Do(COPY_TO_X, 0),
    ]
}

/// A program with its end, as the kernel takes it: places are numbers of steps to pass over.
fn assembled(steps: &[Step]) -> Vec<sock_filter> {
    let steps = [steps, &[At(Pass), Do(RETURN, u32::MAX), At(Keep), Do(RETURN, 0)]].concat();
    let real = |step: &&Step| !matches!(step, At(_));
    let far = |from: usize, to: Place| match to {
        Next => 0,
        to => {
            let rest = steps[from + 1..].iter();
            // Both programs are far shorter than 255 steps.
            rest.take_while(|step| !matches!(step, At(place) if *place == to)).filter(real).count() as u8
        }
    };
    let translated = steps.iter().enumerate().filter_map(|(from, step)| match *step {
        Do(code, k) => Some(sock_filter { code, jt: 0, jf: 0, k }),
        If(k, jump, otherwise) => {
            Some(sock_filter { code: JUMP_IF_EQUAL, jt: far(from, jump), jf: far(from, otherwise), k })
        }
        At(_) => None,
    });
    translated.collect()
}

/// Has the kernel run a program on what comes to a socket from now on. Where it refuses, more is
/// heard than is listened to, which does no harm.
pub(crate) fn attach(socket: &impl AsFd, program: &[sock_filter]) {
    let program: Vec<SockFilter> = program.iter().map(|s| SockFilter::new(s.code, s.jt, s.jf, s.k)).collect();
    let _refused = SockRef::from(socket).attach_filter(&program);
}

/// A number of two octets as it is loaded: loads take the first octet for the highest, and netlink
/// has the machine's order.
fn half(number: u16) -> u32 {
    u32::from(u16::from_be_bytes(number.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_distances() {
        let steps = [Do(LOAD_HALF, 4), If(1, Link, Keep), If(2, Next, Pass), At(Link), Do(LOAD_BYTE, 5)];
        let distances: Vec<_> = assembled(&steps).iter().map(|step| (step.jt, step.jf)).collect();
        assert_eq!(distances, [(0, 0), (1, 3), (0, 1), (0, 0), (0, 0), (0, 0)]);
    }
}
