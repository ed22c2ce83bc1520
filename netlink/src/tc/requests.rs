//! The requests by which traffic is limited.

use minionet_core::cni::attachment::PodLink;
use minionet_core::cni::bandwidth::Bucket;
use minionet_core::constants::DOOMED_GROUP;
use nix::libc;

use crate::link;
use crate::nft::wire::Attrs;
use crate::request::{CREATE, EXCLUSIVE, REPLACE, Request};

// linux/pkt_sched.h
/// `TC_H_ROOT`
pub(super) const ROOT: u32 = 0xffff_ffff;
/// `TC_H_CLSACT`
const CLSACT: u32 = 0xffff_fff1;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`
const CLSACT_INGRESS: u32 = 0xffff_fff2;
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
/// `TCA_KIND`
pub(super) const TCA_KIND: u16 = 1;
/// `TCA_OPTIONS`
pub(super) const TCA_OPTIONS: u16 = 2;
/// Octets of `struct tcmsg`: the device's number is at 4, then handle, parent and what else there is.
pub(super) const HEADER: usize = 20;

// linux/pkt_cls.h
/// `TCA_U32_SEL`
const U32_SEL: u16 = 5;
/// `TCA_U32_ACT`
pub(super) const U32_ACT: u16 = 7;
/// `TC_U32_TERMINAL`: the filter decides, and leads to no other.
const U32_TERMINAL: u8 = 1;
/// `TCA_ACT_KIND`
pub(super) const ACT_KIND: u16 = 1;
/// `TCA_ACT_OPTIONS`
pub(super) const ACT_OPTIONS: u16 = 2;
/// `TCA_MIRRED_PARMS`, linux/tc_act/tc_mirred.h
pub(super) const MIRRED_PARMS: u16 = 2;
/// `TCA_EGRESS_REDIR`, linux/tc_act/tc_mirred.h
const EGRESS_REDIR: u32 = 1;
/// `TC_ACT_STOLEN`
const STOLEN: u32 = 4;
/// `ETH_P_ALL`, linux/if_ether.h, in network byte order.
const EVERY_PROTOCOL: u16 = 0x0003u16.to_be();
/// The place of our filter among others on the device.
const PRIORITY: u32 = 1;

/// The question for all queues of all devices; the kernel takes the device's number for a hint.
pub(super) fn queues(index: u32) -> Request {
    begin(libc::RTM_GETQDISC, 0, index, 0, 0, 0)
}

/// The question for the filters of what arrives at a device.
pub(super) fn filters(index: u32) -> Request {
    begin(libc::RTM_GETTFILTER, 0, index, 0, CLSACT_INGRESS, 0)
}

fn begin(kind: u16, flags: u16, index: u32, handle: u32, parent: u32, info: u32) -> Request {
    let mut begin = [0; HEADER];
    for (number, octets) in [index, handle, parent, info].into_iter().zip(begin[4..].chunks_exact_mut(4)) {
        octets.copy_from_slice(&number.to_ne_bytes());
    }
    Request::new(kind, flags, &begin)
}

fn with_options(request: Request, options: Attrs) -> Request {
    // A few hundred octets always fit.
    request.octets(TCA_OPTIONS, &options.finish().unwrap_or_default())
}

/// A token bucket as the only queue of a device, in place of what was there.
pub(crate) fn bucket(index: u32, bucket: &Bucket) -> Request {
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
    let request = begin(libc::RTM_NEWQDISC, CREATE | REPLACE, index, BUCKET_HANDLE, ROOT, 0);
    with_options(request.text(TCA_KIND, "tbf"), options)
}

/// The place where filters see what arrives at a device.
pub(crate) fn clsact(index: u32) -> Request {
    let request = begin(libc::RTM_NEWQDISC, CREATE | EXCLUSIVE, index, CLSACT_HANDLE, CLSACT, 0);
    request.text(TCA_KIND, "clsact")
}

/// A filter that matches every packet that arrives at one device, and leads it through another.
pub(crate) fn redirect(from: u32, to: u32) -> Request {
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
    let info = PRIORITY << 16 | u32::from(EVERY_PROTOCOL);
    let request = begin(libc::RTM_NEWTFILTER, CREATE | EXCLUSIVE, from, 0, CLSACT_INGRESS, info);
    with_options(request.text(TCA_KIND, "u32"), options)
}

/// The device that has the queue of what a pod sends. The MAC is part of the request, so that
/// udev leaves it alone.
pub(crate) fn create_ifb(name: &str, link: &PodLink) -> Request {
    link::create(name, link.host_mac, link.mtu)
        .nest(libc::IFLA_LINKINFO, |info| info.text(libc::IFLA_INFO_KIND, "ifb"))
}

/// Alias, no link-local address, up.
pub(crate) fn ifb_up(index: u32, link: &PodLink) -> Request {
    link::without_link_local(link::up(index).text(libc::IFLA_IFALIAS, &link.alias))
}

/// Puts a device among those that the daemon deletes.
pub(crate) fn doom(index: u32) -> Request {
    link::regroup(index, DOOMED_GROUP)
}
