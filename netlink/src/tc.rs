//! Limits of a pod's traffic: token buckets where the pod cannot reach them.
//!
//! What the pod receives leaves the host through the host's end of the veth pair, and is queued
//! there. What it sends only arrives there, where nothing can be queued: it is led through a
//! device of its own (`ifb`) that has the queue, and goes on from there as if it had just arrived.
//! A bucket in the pod's namespace would be simpler, and the pod could take it away.

mod requests;

use minionet_core::addr::MacAddr;
use minionet_core::cni::attachment::{Limits, PodLink};
use minionet_core::constants::DOOMED_GROUP;
use netlink_packet_core::Emitable;
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirrorOption, TcActionOption, TcAttribute, TcFilterU32Option,
    TcMessage, TcOption,
};

use self::requests::{CLSACT_INGRESS, ROOT, TBF_PARMS, TBF_RATE64};
use crate::error::{Error, Refusal};
use crate::link::{Link, Which};
use crate::nft::wire::Parsed;
use crate::socket::Socket;

/// A token bucket as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundBucket {
    /// How fast it fills, in octets per second.
    pub rate: u64,
    /// How much may wait for it, in octets.
    pub queue: u32,
}

/// The limits of an attachment as the kernel has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoundLimits {
    /// What the pod receives.
    pub ingress: Option<FoundBucket>,
    /// What the pod sends; none also where its packets do not go through the bucket.
    pub egress: Option<FoundBucket>,
}

/// Limits the traffic of an attachment whose veth pair is there.
///
/// After an error, [`unlimit`] removes what is left.
///
/// # Errors
/// [`Error`]; among others where the kernel lacks `tbf`, `ifb`, `clsact`, `u32` or `mirred`.
pub fn limit(host: &mut Socket, link: &PodLink, limits: &Limits) -> Result<(), Error> {
    if limits.is_empty() {
        return Ok(());
    }
    let outer = find(host, &link.host_ifname)?;
    if let Some(bucket) = &limits.ingress {
        host.execute(requests::bucket(outer, bucket), || {
            format!("limit what the pod receives to {} octets per second (tbf)", bucket.rate)
        })?;
    }
    let (Some(bucket), Some(ifb)) = (&limits.egress, &limits.ifb) else { return Ok(()) };
    // What a killed predecessor with the same name left.
    unlimit(host, ifb, &link.alias, Destroy::Now)?;
    host.execute(requests::create_ifb(ifb, link), || format!("make the device {ifb} (ifb)"))?;
    let inner = find(host, ifb)?;
    let steps = [
        ("set up the device that limits what the pod sends", requests::ifb_up(inner, link)),
        ("limit what the pod sends (tbf)", requests::bucket(inner, bucket)),
        ("look at what the pod sends (clsact)", requests::clsact(outer)),
        ("lead what the pod sends through its limit (u32, mirred)", requests::redirect(outer, inner)),
    ];
    let requests: Vec<_> = steps.iter().map(|(_, request)| request.clone()).collect();
    for ((step, _), result) in steps.iter().zip(host.batch(&requests)?) {
        result.map_err(|refusal| Error::Refused { operation: (*step).to_owned(), refusal })?;
    }
    Ok(())
}

/// How a device is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destroy {
    /// At once, which waits for the kernel's grace periods: some 30 milliseconds.
    Now,
    /// By the daemon, together with others.
    Later,
}

/// Removes the device of an attachment's limits, if it is there; the rest goes with the veth pair.
///
/// It is recognised by how its alias begins; a device of that name that is not the attachment's
/// is left alone.
///
/// # Errors
/// [`Error`] when the kernel cannot be asked or refuses.
pub fn unlimit(host: &mut Socket, ifb: &str, alias: &str, destroy: Destroy) -> Result<(), Error> {
    let found = host.link(Which::Name(ifb))?.filter(|found| is_ours(found, alias));
    let Some(found) = found.filter(|found| destroy == Destroy::Now || found.group != DOOMED_GROUP) else {
        return Ok(());
    };
    let gone = match destroy {
        Destroy::Now => host.delete_link(found.index, ifb),
        Destroy::Later => {
            host.execute(requests::doom(found.index), || format!("give the device {ifb} to the daemon"))
        }
    };
    match gone {
        Err(error) if !error.is_absent() => Err(error),
        _ => Ok(()),
    }
}

/// Reads the limits of an attachment.
///
/// # Errors
/// [`Error`] when the kernel cannot be asked.
pub fn read(host: &mut Socket, link: &PodLink, limits: &Limits) -> Result<FoundLimits, Error> {
    let mut found = FoundLimits::default();
    let Some(outer) = host.link(Which::Name(&link.host_ifname))? else { return Ok(found) };
    found.ingress = bucket(host, outer.index)?;
    let Some(ifb) = &limits.ifb else { return Ok(found) };
    let Some(inner) = host.link(Which::Name(ifb))?.filter(|inner| inner.up && is_ours(inner, &link.alias))
    else {
        return Ok(found);
    };
    if redirects(host, outer.index, inner.index)? {
        found.egress = bucket(host, inner.index)?;
    }
    Ok(found)
}

/// Whether a device is the one of an attachment's limits. As with the veth pair, the alias comes
/// a moment after the device, which is known by its MAC until then.
fn is_ours(found: &Link, alias: &str) -> bool {
    found.kind.as_deref() == Some("ifb")
        && match &found.alias {
            Some(found) => found.starts_with(alias),
            None => found.mac == Some(MacAddr::POD_GATEWAY),
        }
}

fn find(host: &mut Socket, name: &str) -> Result<u32, Error> {
    let found = host.link(Which::Name(name))?;
    found.map(|link| link.index).ok_or_else(|| {
        let refusal = Refusal { errno: nix::libc::ENODEV, explanation: None };
        Error::Refused { operation: format!("find the device {name}"), refusal }
    })
}

/// The bucket at the root of a device's queues.
fn bucket(host: &mut Socket, index: u32) -> Result<Option<FoundBucket>, Error> {
    let message = Message::GetQueueDiscipline(requests::on(index));
    let found = host.dump(message, "read the limits of a device", |message| match message {
        Message::NewQueueDiscipline(queue) if is_root(&queue, index) => decode(&queue),
        _ => None,
    })?;
    Ok(found.first().copied())
}

fn is_root(queue: &TcMessage, index: u32) -> bool {
    queue.header.index == index as i32 && u32::from(queue.header.parent) == ROOT
}

fn decode(queue: &TcMessage) -> Option<FoundBucket> {
    let is_tbf = |attribute: &TcAttribute| matches!(attribute, TcAttribute::Kind(kind) if kind == "tbf");
    if !queue.attributes.iter().any(is_tbf) {
        return None;
    }
    let options = queue.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => options.first(),
        _ => None,
    })?;
    // The attribute as a whole: four octets of header, and the options.
    let mut octets = vec![0; options.buffer_len()];
    options.emit(&mut octets);
    let parsed = Parsed::new(octets.get(4..)?).ok()?;
    // struct tc_tbf_qopt of linux/pkt_sched.h: two rates of 12 octets, then limit.
    let word = |octets: &[u8], at: usize| Some(u32::from_ne_bytes(octets.get(at..at + 4)?.try_into().ok()?));
    let parms = parsed.get(TBF_PARMS)?;
    let rate64 = parsed.get(TBF_RATE64).and_then(|octets| octets.try_into().ok()).map(u64::from_ne_bytes);
    Some(FoundBucket { rate: rate64.or(word(parms, 8).map(u64::from))?, queue: word(parms, 24)? })
}

/// Whether what arrives at one device is led through another.
fn redirects(host: &mut Socket, from: u32, to: u32) -> Result<bool, Error> {
    let mut message = requests::on(from);
    message.header.parent = CLSACT_INGRESS.into();
    let targets = host.dump(
        Message::GetTrafficFilter(message),
        "read the filters of a device",
        |message| match message {
            Message::NewTrafficFilter(filter) => target(&filter),
            _ => None,
        },
    )?;
    Ok(targets.contains(&to))
}

/// Where a filter leads packets to.
fn target(filter: &TcMessage) -> Option<u32> {
    let options = filter.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    let actions = options.flatten().filter_map(|option| match option {
        TcOption::U32(TcFilterU32Option::Action(actions)) => Some(actions),
        _ => None,
    });
    actions.flatten().find_map(mirrored_to)
}

fn mirrored_to(action: &TcAction) -> Option<u32> {
    let options = action.attributes.iter().filter_map(|attribute| match attribute {
        TcActionAttribute::Options(options) => Some(options),
        _ => None,
    });
    options.flatten().find_map(|option| match option {
        TcActionOption::Mirror(TcActionMirrorOption::Parms(parms)) => Some(parms.ifindex),
        _ => None,
    })
}
