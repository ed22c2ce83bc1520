//! Limits of a pod's traffic: token buckets where the pod cannot reach them.
//!
//! What the pod receives leaves the host through the host's end of the veth pair, and is queued
//! there. What it sends only arrives there, where nothing can be queued: it is led through a
//! device of its own (`ifb`) that has the queue, and goes on from there as if it had just arrived.
//! A bucket in the pod's namespace would be simpler, and the pod could take it away.

pub(crate) mod requests;

use minionet_core::addr::MacAddr;
use minionet_core::cni::attachment::{Limits, PodLink};
use minionet_core::constants::DOOMED_GROUP;
use nix::libc;

use self::requests::{
    ACT_KIND, ACT_OPTIONS, HEADER, MIRRED_PARMS, ROOT, TBF_PARMS, TBF_RATE64, TCA_KIND, TCA_OPTIONS, U32_ACT,
};
use crate::decode::{attributes, text_of, u32_at};
use crate::error::{Error, Refusal};
use crate::link::{Link, Which};
use crate::received::Received;
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
    let found = host.dump(&requests::queues(index), "read the limits of a device", |object| {
        Ok(Some(object).filter(|object| is_root(object, index)).and_then(decode))
    })?;
    Ok(found.first().copied())
}

/// Whether it is the queue at the root of a device.
fn is_root(object: &Received<'_>, index: u32) -> bool {
    let body = object.body();
    object.kind == libc::RTM_NEWQDISC && (u32_at(body, 4), u32_at(body, 12)) == (Some(index), Some(ROOT))
}

fn decode(queue: &Received<'_>) -> Option<FoundBucket> {
    let options = options_of(attributes(queue.body(), HEADER), (TCA_KIND, "tbf"), TCA_OPTIONS)?;
    let (mut parms, mut rate64) = (None, None);
    for (number, value) in attributes(options, 0) {
        match number {
            TBF_PARMS => parms = Some(value),
            TBF_RATE64 => rate64 = value.try_into().ok().map(u64::from_ne_bytes),
            _ => {}
        }
    }
    // struct tc_tbf_qopt of linux/pkt_sched.h: two rates of 12 octets, then limit.
    let parms = parms?;
    Some(FoundBucket { rate: rate64.or(u32_at(parms, 8).map(u64::from))?, queue: u32_at(parms, 24)? })
}

/// Whether what arrives at one device is led through another.
fn redirects(host: &mut Socket, from: u32, to: u32) -> Result<bool, Error> {
    let targets = host.dump(&requests::filters(from), "read the filters of a device", |object| {
        Ok(Some(object).filter(|object| object.kind == libc::RTM_NEWTFILTER).and_then(target))
    })?;
    Ok(targets.contains(&to))
}

/// Where a filter leads packets to.
fn target(filter: &Received<'_>) -> Option<u32> {
    let options = options_of(attributes(filter.body(), HEADER), (TCA_KIND, "u32"), TCA_OPTIONS)?;
    let actions = attributes(options, 0).filter(|(number, _)| *number == U32_ACT);
    actions.flat_map(|(_, actions)| attributes(actions, 0)).find_map(|(_, action)| mirrored_to(action))
}

fn mirrored_to(action: &[u8]) -> Option<u32> {
    let options = options_of(attributes(action, 0), (ACT_KIND, "mirred"), ACT_OPTIONS)?;
    let parms = attributes(options, 0).find(|(number, _)| *number == MIRRED_PARMS)?.1;
    // struct tc_mirred of linux/tc_act/tc_mirred.h: six words, then the device's number.
    u32_at(parms, 24)
}

/// The options among attributes that say of what kind they are.
fn options_of<'a>(
    attributes: impl Iterator<Item = (u16, &'a [u8])>,
    (kind, wanted): (u16, &str),
    options: u16,
) -> Option<&'a [u8]> {
    let (mut is_wanted, mut found) = (false, None);
    for (number, value) in attributes {
        is_wanted |= number == kind && text_of(value) == wanted;
        if number == options {
            found = Some(value);
        }
    }
    found.filter(|_| is_wanted)
}
