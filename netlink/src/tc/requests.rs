//! The requests by which traffic is limited.

use minionet_core::cni::attachment::PodLink;
use minionet_core::cni::bandwidth::Bucket;
use minionet_core::constants::DOOMED_GROUP;
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::tc::{TcAttribute, TcMessage};

use crate::nft::wire::Attrs;
use crate::socket::Request;

// linux/pkt_sched.h
/// `TC_H_ROOT`
pub(super) const ROOT: u32 = 0xffff_ffff;
/// `TC_H_CLSACT`
const CLSACT: u32 = 0xffff_fff1;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`
pub(super) const CLSACT_INGRESS: u32 = 0xffff_fff2;
/// `TC_H_MAKE(TC_H_CLSACT, 0)`: the handle that the kernel gives to clsact whatever is asked.
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// Ours; any would do.
const BUCKET_HANDLE: u32 = 0x0001_0000;
/// `TCA_TBF_PARMS`
pub(super) const TBF_PARMS: u16 = 1;
/// `TCA_TBF_RATE64`
pub(super) const TBF_RATE64: u16 = 4;
/// `TCA_TBF_BURST`
const TBF_BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`: the kernel computes what a packet costs, and needs no table of it.
const LINKLAYER_ETHERNET: u8 = 1;

// linux/rtnetlink.h
/// `TCA_OPTIONS`
const TCA_OPTIONS: u16 = 2;

// linux/pkt_cls.h
/// `TCA_U32_SEL`
const U32_SEL: u16 = 5;
/// `TCA_U32_ACT`
const U32_ACT: u16 = 7;
/// `TC_U32_TERMINAL`: the filter decides, and leads to no other.
const U32_TERMINAL: u8 = 1;
/// `TCA_ACT_KIND`
const ACT_KIND: u16 = 1;
/// `TCA_ACT_OPTIONS`
const ACT_OPTIONS: u16 = 2;
/// `TCA_MIRRED_PARMS`, linux/tc_act/tc_mirred.h
const MIRRED_PARMS: u16 = 2;
/// `TCA_EGRESS_REDIR`, linux/tc_act/tc_mirred.h
const EGRESS_REDIR: u32 = 1;
/// `TC_ACT_STOLEN`
const STOLEN: u32 = 4;
/// `ETH_P_ALL`, linux/if_ether.h, in network byte order.
const EVERY_PROTOCOL: u16 = 0x0003u16.to_be();
/// The place of our filter among others on the device.
const PRIORITY: u32 = 1;

/// A message about the queues of a device.
pub(super) fn on(index: u32) -> TcMessage {
    // The kernel's type is a signed integer, its numbers are positive.
    TcMessage::with_index(index as i32)
}

fn attribute(options: Attrs) -> TcAttribute {
    // A few hundred octets always fit.
    TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, options.finish().unwrap_or_default()))
}

/// A token bucket as the only queue of a device, in place of what was there.
pub(super) fn bucket(index: u32, bucket: &Bucket) -> Request {
    let mut parms = Vec::with_capacity(36);
    // struct tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, rate.
    parms.extend([0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0]);
    parms.extend(u32::try_from(bucket.rate).unwrap_or(u32::MAX).to_ne_bytes());
    // No peak rate.
    parms.extend([0; 12]);
    parms.extend(bucket.queue.to_ne_bytes());
    // The burst as time, in whose place the one in octets is taken, and the MTU of the peak rate.
    parms.extend([0; 8]);
    let mut options = Attrs::default();
    options.raw(TBF_PARMS, &parms);
    if u32::try_from(bucket.rate).is_err() {
        options.raw(TBF_RATE64, &bucket.rate.to_ne_bytes());
    }
    options.raw(TBF_BURST, &bucket.burst.to_ne_bytes());
    let mut message = on(index);
    message.header.parent = ROOT.into();
    message.header.handle = BUCKET_HANDLE.into();
    message.attributes = vec![TcAttribute::Kind("tbf".into()), attribute(options)];
    Request::new(Message::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_REPLACE)
}

/// The place where filters see what arrives at a device.
pub(super) fn clsact(index: u32) -> Request {
    let mut message = on(index);
    message.header.parent = CLSACT.into();
    message.header.handle = CLSACT_HANDLE.into();
    message.attributes = vec![TcAttribute::Kind("clsact".into())];
    Request::new(Message::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// A filter that matches every packet that arrives at one device, and leads it through another.
pub(super) fn redirect(from: u32, to: u32) -> Request {
    let mut options = Attrs::default();
    // struct tc_u32_sel with one key that every packet has: 16 octets, of which flags and nkeys
    // are set, and 16 of a mask, a value and offsets, all zero.
    let mut selector = [0; 32];
    (selector[0], selector[2]) = (U32_TERMINAL, 1);
    options.raw(U32_SEL, &selector);
    options.nest(U32_ACT, |actions| {
        actions.nest(1, |action| {
            action.text(ACT_KIND, "mirred");
            action.nest(ACT_OPTIONS, |options| {
                // struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
                let words = [0, 0, STOLEN, 0, 0, EGRESS_REDIR, to];
                let octets: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
                options.raw(MIRRED_PARMS, &octets);
            });
        });
    });
    let mut message = on(from);
    message.header.parent = CLSACT_INGRESS.into();
    message.header.info = PRIORITY << 16 | u32::from(EVERY_PROTOCOL);
    message.attributes = vec![TcAttribute::Kind("u32".into()), attribute(options)];
    Request::new(Message::NewTrafficFilter(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// The device that has the queue of what a pod sends. The MAC is part of the request, so that
/// udev leaves it alone.
pub(super) fn create_ifb(name: &str, link: &PodLink) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(link.host_mac.0.to_vec()),
        LinkAttribute::Mtu(link.mtu),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
    ];
    Request::new(Message::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// Alias, no link-local address, up.
pub(super) fn ifb_up(index: u32, link: &PodLink) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    let quiet = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    message.attributes = vec![
        LinkAttribute::IfAlias(link.alias.clone()),
        LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![quiet])]),
    ];
    Request::new(Message::SetLink(message), 0)
}

/// Puts a device among those that the daemon deletes.
pub(super) fn doom(index: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::Group(DOOMED_GROUP)];
    Request::new(Message::SetLink(message), 0)
}
