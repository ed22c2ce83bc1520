//! Limits of a pod's traffic against a real kernel.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use minionet_core::addr::MacAddr;
use minionet_core::cni::attachment::{Id, Key, Limits, PodLink};
use minionet_core::cni::bandwidth::{Bandwidth, Bucket};
use minionet_core::cni::ipam::Assigned;
use minionet_core::constants::DOOMED_GROUP;
use minionet_netlink::link::Which;
use minionet_netlink::netns::Netns;
use minionet_netlink::tc::{self, Destroy, FoundBucket, FoundLimits};
use minionet_netlink::{Socket, pod};
use nix::sched::{CloneFlags, unshare};

/// Runs a test on a thread of its own in a network namespace of its own, with an attached pod.
fn with_pod(test: impl FnOnce(&mut Socket, &Netns, &PodLink, Id) + Send + 'static) {
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root, or to run inside a user namespace");
        let mut host = Socket::open().unwrap();
        let key = Key { network: "n".into(), container: "c".into(), ifname: "eth0".into() };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let link = PodLink {
            host_ifname: key.id().host_ifname(),
            alias: key.id().alias(&key),
            host_mac: MacAddr::POD_GATEWAY,
            ifname: "eth0".into(),
            mac: MacAddr::pod(ip("10.32.1.2")),
            mtu: 1450,
            addresses: vec![Assigned { address: ip("10.32.1.2"), gateway: ip("10.32.1.1") }],
            source_rules: Vec::new(),
        };
        let netns = namespace();
        pod::attach(&mut host, &netns, &link).unwrap();
        test(&mut host, &netns, &link, key.id());
    };
    if let Err(panic) = thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}

/// A namespace that lives as long as its descriptor, and the devices in it.
fn namespace() -> Netns {
    let (sender, receiver) = mpsc::channel();
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        sender.send(Netns::open(Path::new("/proc/thread-self/ns/net")).unwrap()).unwrap();
    };
    thread::spawn(body).join().unwrap();
    receiver.recv().unwrap()
}

fn bucket(rate: u64) -> Bucket {
    Bucket { rate, burst: 100_000, queue: 200_000 }
}

fn found(rate: u64) -> Option<FoundBucket> {
    Some(FoundBucket { rate, queue: 200_000 })
}

#[test]
fn what_was_limited_is_read_back() {
    with_pod(|host, netns, link, id| {
        // Beyond 32 bits as well.
        for (ingress, egress) in [(Some(1), Some(2_000_000)), (Some(1 << 40), None), (None, Some(1 << 33))] {
            let bandwidth = Bandwidth { ingress: ingress.map(bucket), egress: egress.map(bucket) };
            let limits = Limits::new(bandwidth, id);
            tc::limit(host, link, &limits).unwrap();
            let wanted = FoundLimits { ingress: ingress.and_then(found), egress: egress.and_then(found) };
            let read = tc::read(host, link, &limits).unwrap();
            assert_eq!(FoundLimits { ingress: ingress.and(read.ingress), ..read }, wanted);
            // The whole pair starts anew for the next.
            pod::detach(host, &link.host_ifname, &link.alias).unwrap();
            limits.ifb.iter().for_each(|ifb| tc::unlimit(host, ifb, &link.alias, Destroy::Now).unwrap());
            pod::attach(host, netns, link).unwrap();
        }
        let nothing = Limits::default();
        tc::limit(host, link, &nothing).unwrap();
        assert_eq!(tc::read(host, link, &nothing).unwrap(), FoundLimits::default());
    });
}

#[test]
fn only_the_attachments_own_device_is_removed() {
    with_pod(|host, netns, link, id| {
        let limits = Limits::new(Bandwidth { ingress: None, egress: Some(bucket(1000)) }, id);
        let ifb = limits.ifb.clone().unwrap();
        tc::limit(host, link, &limits).unwrap();
        tc::unlimit(host, &ifb, "minionet another", Destroy::Now).unwrap();
        assert!(host.link(Which::Name(&ifb)).unwrap().is_some());

        tc::unlimit(host, &ifb, &id.alias_start(), Destroy::Later).unwrap();
        assert_eq!(host.link(Which::Name(&ifb)).unwrap().unwrap().group, DOOMED_GROUP);
        // A new attachment of the same name does not wait for the daemon.
        pod::detach(host, &link.host_ifname, &link.alias).unwrap();
        pod::attach(host, netns, link).unwrap();
        tc::limit(host, link, &limits).unwrap();
        assert_eq!(host.link(Which::Name(&ifb)).unwrap().unwrap().group, 0);
        tc::unlimit(host, &ifb, &link.alias, Destroy::Now).unwrap();
        tc::unlimit(host, &ifb, &link.alias, Destroy::Now).unwrap();
        assert!(host.link(Which::Name(&ifb)).unwrap().is_none());
    });
}
