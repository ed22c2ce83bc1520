//! The veth pair of a pod: made, and removed.
//!
//! Whatever makes a connection work is set before the first packet: both neighbours are known, so
//! nobody asks by ARP or neighbour discovery, and addresses are usable at once, without duplicate
//! address detection. Each side is one datagram of requests.
//!
//! A plugin behind us in a chain, or the pod itself, may give the pod another MAC. Its kernel then
//! forgets its neighbours and tells the other side of the link; so the host takes that from it, and
//! answers when it is asked for the gateway.

mod doom;
mod observe;
pub(crate) mod requests;
mod sources;

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use minionet_core::addr::{Family, MacAddr};
use minionet_core::cni::attachment::PodLink;
use minionet_core::constants::DOOMED_GROUP;
use thiserror::Error;

pub use self::doom::{Fate, doom};
pub use self::observe::observe;
use self::requests::{HostStep, PodStep};
pub use self::sources::{route_by_source, unroute};
use crate::error::{Error, Refusal};
use crate::link::{Link, Which};
use crate::netns::Netns;
use crate::socket::{Request, Socket};
use crate::sysctl;

/// How long the pod's end may take to be ready to send. The kernel's work queue needs well under
/// a millisecond; a pod is not refused for it.
const READY_WITHIN: Duration = Duration::from_millis(200);

/// How long an IPv6 address of the pod may take until it receives. The kernel's work queue serves
/// all namespaces and waits for the lock that everybody takes who changes a network (RTNL): on a
/// busy node it needs a second now and then. A pod is not refused for it.
const DELIVERABLE_WITHIN: Duration = Duration::from_secs(5);

/// Why a pod could not be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The container has an interface of that name.
    #[error("the container has an interface {ifname} already")]
    InterfaceExists {
        /// Its name.
        ifname: String,
    },
    /// The name for the host's end is taken by a device that is not ours.
    #[error(
        "the host has a device {host_ifname} that does not belong to this attachment: rename or remove it"
    )]
    HostInterfaceExists {
        /// Its name.
        host_ifname: String,
    },
    /// The host has a route to the address already.
    #[error("the host has a route to {address} already, so somebody uses it")]
    AddressInUse {
        /// The address.
        address: IpAddr,
    },
    /// An IPv6 address is to be set, and the kernel has no IPv6.
    #[error(
        "the pod is to have an IPv6 address, but the kernel has no IPv6 (ipv6.disable=1?): enable it, or take the IPv6 pod network out of the configuration"
    )]
    NoIpv6,
    /// Anything else.
    #[error(transparent)]
    Kernel(#[from] Error),
}

/// What became of an attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Families whose default route goes through the new interface. One is missing where
    /// another interface of the pod has it already.
    pub default_routes: Vec<Family>,
    /// The number of the container's end, in its namespace.
    pub index: u32,
}

/// Makes the veth pair and everything on it.
///
/// After an error, [`detach`] removes what is left.
///
/// # Errors
/// [`AttachError`]; what was there before is as it was.
pub fn attach(host: &mut Socket, netns: &Netns, link: &PodLink) -> Result<Attached, AttachError> {
    create(host, netns, link)?;
    let made = host.link(Which::Name(&link.host_ifname))?;
    let ends = made.and_then(|l| Some((l.index, l.lower?)));
    // Deleted by somebody else within microseconds.
    let (outer, inner) = ends.ok_or_else(|| vanished(&link.host_ifname))?;
    let mut pod = enter(netns, host, link)?;
    let attached = wire_pod(&mut pod, inner, link)?;
    wire_host(host, outer, link)?;
    wait_ready(&mut pod, inner)?;
    wait_deliverable(&mut pod, link)?;
    Ok(attached)
}

/// Whether the host's end of an attachment exists, and is not about to be destroyed.
///
/// # Errors
/// [`Error`] when the kernel cannot be asked.
pub fn exists(host: &mut Socket, host_ifname: &str, alias: &str) -> Result<bool, Error> {
    let link = host.link(Which::Name(host_ifname))?;
    Ok(link.is_some_and(|link| is_ours(&link, alias) && link.group != DOOMED_GROUP))
}

/// Deletes the veth pair of an attachment, if it is there; says whether it was.
///
/// A device of that name whose alias begins otherwise is not the attachment's and left alone.
///
/// # Errors
/// [`Error`] when the kernel cannot be asked or refuses.
pub fn detach(host: &mut Socket, host_ifname: &str, alias: &str) -> Result<bool, Error> {
    let Some(found) = find(host, host_ifname, alias)? else {
        return Ok(false);
    };
    match host.delete_link(found.index, host_ifname) {
        Ok(()) => Ok(true),
        // Gone in between, for example with the pod's namespace.
        Err(error) if error.is_absent() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The host's end of an attachment; somebody may have renamed it, so the alias decides.
fn find(host: &mut Socket, host_ifname: &str, alias: &str) -> Result<Option<Link>, Error> {
    match host.link(Which::Name(host_ifname))? {
        Some(link) if is_ours(&link, alias) => return Ok(Some(link)),
        _ => {}
    }
    let named = |link: &Link| link.alias.as_ref().is_some_and(|found| found.starts_with(alias));
    match host.links() {
        Ok(links) => Ok(links.into_iter().find(|link| named(link) && is_ours(link, alias))),
        // Devices come and go too fast to be read all; the usual case is that it is gone.
        Err(Error::Interrupted { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a device is the host's end of an attachment. The alias is set a moment after the
/// device is made; until then it is known by its MAC, which only our pairs have.
fn is_ours(link: &Link, alias: &str) -> bool {
    link.kind.as_deref() == Some("veth")
        && match &link.alias {
            Some(found) => found.starts_with(alias),
            None => link.mac == Some(MacAddr::POD_GATEWAY),
        }
}

fn create(host: &mut Socket, netns: &Netns, link: &PodLink) -> Result<(), AttachError> {
    let mut seen_free = false;
    loop {
        let made = host.execute(requests::create(netns, link), || {
            format!("make the veth pair {} and {} (MTU {})", link.host_ifname, link.ifname, link.mtu)
        });
        match made {
            Ok(()) => return Ok(()),
            Err(error) if !error.is_exists() => return Err(error.into()),
            Err(_) => {}
        }
        // Either end's name may be taken. The host's may be by our own, when its record was lost
        // or the daemon has not destroyed it yet.
        match host.link(Which::Name(&link.host_ifname))? {
            Some(found) if is_ours(&found, &link.alias) => {
                detach(host, &link.host_ifname, &link.alias)?;
            }
            Some(_) => {
                return Err(AttachError::HostInterfaceExists { host_ifname: link.host_ifname.clone() });
            }
            None if seen_free => {
                return Err(AttachError::InterfaceExists { ifname: link.ifname.clone() });
            }
            // It may have been destroyed just now.
            None => seen_free = true,
        }
    }
}

/// Opens a socket in the pod's namespace, where IPv6 is switched on if it is needed.
fn enter(netns: &Netns, host: &Socket, link: &PodLink) -> Result<Socket, AttachError> {
    let ipv6 = link.addresses.iter().any(|a| a.address.is_ipv6());
    netns.visit(host, || {
        if ipv6 {
            for ifname in ["lo", &link.ifname] {
                let key = format!("ipv6/conf/{ifname}/disable_ipv6");
                match sysctl::read(&key)?.as_deref() {
                    None => return Err(AttachError::NoIpv6),
                    Some("0") => {}
                    Some(_) => drop(sysctl::set(&key, "0")?),
                }
            }
            // Has the pod's kernel tell the other side of the link when its MAC changes; for IPv4,
            // netlink can say so. Best effort: it matters only if that happens, and `/proc/sys` of
            // a sandbox may be read-only.
            let _learned_from_its_packets =
                sysctl::set(&format!("ipv6/conf/{}/ndisc_notify", link.ifname), "1");
        }
        Ok(Socket::open()?)
    })?
}

fn wire_pod(pod: &mut Socket, index: u32, link: &PodLink) -> Result<Attached, AttachError> {
    let mut attached = Attached { index, ..Attached::default() };
    let mut occupied = Vec::new();
    for (step, refusal) in run(pod, requests::in_pod(index, link))? {
        match (step, refusal) {
            (PodStep::DefaultRoute(family), None) => attached.default_routes.push(family),
            (_, None) => {}
            // Another interface of the pod has the way to this gateway, or the way out.
            (PodStep::GatewayRoute(family), Some(refusal)) if refusal.errno == nix::libc::EEXIST => {
                occupied.push(family);
            }
            (PodStep::DefaultRoute(family), Some(_)) if occupied.contains(&family) => {}
            (PodStep::DefaultRoute(_), Some(refusal)) if refusal.errno == nix::libc::EEXIST => {}
            (step, Some(refusal)) => return Err(in_container(step, link, refusal).into()),
        }
    }
    // Its routes come behind those of the other, for those who bind to the interface.
    for (step, refusal) in run(pod, requests::second_routes(index, link, &occupied))? {
        if let Some(refusal) = refusal {
            return Err(in_container(step, link, refusal).into());
        }
    }
    Ok(attached)
}

fn in_container(step: PodStep, link: &PodLink, refusal: Refusal) -> Error {
    Error::Refused { operation: format!("{step} (interface {} of the container)", link.ifname), refusal }
}

fn wire_host(host: &mut Socket, index: u32, link: &PodLink) -> Result<(), AttachError> {
    if link.addresses.iter().any(|a| a.address.is_ipv6()) {
        for (key, value) in [("disable_ipv6", "0"), ("proxy_ndp", "1")] {
            sysctl::set(&format!("ipv6/conf/{}/{key}", link.host_ifname), value)?;
        }
    }
    for (step, refusal) in run(host, requests::on_host(index, link))? {
        match (step, refusal) {
            (_, None) => {}
            (HostStep::Quiet, Some(refusal)) if refusal.errno == nix::libc::EAFNOSUPPORT => {}
            (HostStep::Route(address), Some(refusal)) if refusal.errno == nix::libc::EEXIST => {
                return Err(AttachError::AddressInUse { address });
            }
            (step, Some(refusal)) => {
                let operation = format!("{step} (interface {} of the host)", link.host_ifname);
                return Err(Error::Refused { operation, refusal }.into());
            }
        }
    }
    Ok(())
}

/// Sends all requests in one go; gives each step's refusal, if any.
fn run<S>(socket: &mut Socket, steps: Vec<(S, Request)>) -> Result<Vec<(S, Option<Refusal>)>, Error> {
    let (steps, requests): (Vec<S>, Vec<Request>) = steps.into_iter().unzip();
    let results = socket.batch(&requests)?;
    Ok(steps.into_iter().zip(results.into_iter().map(Result::err)).collect())
}

/// Waits until the end that was set up first has noticed its carrier.
///
/// It drops what it is given to send until a work queue of the kernel ran (`linkwatch_do_dev` in
/// net/core/link_watch.c); since Linux 6.8, asking for the device runs it.
fn wait_ready(pod: &mut Socket, index: u32) -> Result<(), Error> {
    within(READY_WITHIN, || Ok(pod.link(Which::Index(index))?.is_none_or(|link| link.running)))
}

/// Waits until the pod receives what is sent to its IPv6 addresses.
///
/// Also without duplicate address detection, the route by which an address is delivered is added
/// by a work queue of the kernel (`addrconf_dad_work` in net/ipv6/addrconf.c); until then the reply
/// to the pod's first packet would be dropped.
fn wait_deliverable(pod: &mut Socket, link: &PodLink) -> Result<(), Error> {
    within(DELIVERABLE_WITHIN, || {
        for assigned in link.addresses.iter().filter(|assigned| assigned.address.is_ipv6()) {
            if !pod.delivers(assigned.address)? {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// Waits until something is so, no longer than for a time.
fn within(limit: Duration, mut is_so: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
    // Mostly it is so at once, and then the time is not asked for.
    let mut start = None;
    while !is_so()? && start.get_or_insert_with(Instant::now).elapsed() < limit {
        pause();
    }
    Ok(())
}

/// Between two looks at a condition.
#[allow(clippy::disallowed_methods)]
fn pause() {
    thread::sleep(Duration::from_micros(200));
}

fn vanished(host_ifname: &str) -> Error {
    let refusal = Refusal { errno: nix::libc::ENODEV, explanation: None };
    Error::Refused { operation: format!("find {host_ifname}, which was just made"), refusal }
}
