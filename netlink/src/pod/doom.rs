//! Taking a pod's veth pair away without waiting for its destruction.
//!
//! Deleting a device waits for the kernel's grace periods, some 30 milliseconds for one as for a
//! hundred. So the pair is only made to disappear for everybody concerned: its routes and
//! neighbours are removed from the host, its end in the pod is set down and gives up its name,
//! and the host's end is put into a group that the daemon deletes as a whole.

use minionet_core::addr::Cidr;
use minionet_core::cni::attachment::PodLink;
use minionet_core::constants::{DOOMED_GROUP, ROUTE_PROTOCOL_POD};

use super::find;
use crate::error::{Error, Refusal};
use crate::link::{self, Link, Which};
use crate::netns::Netns;
use crate::route::Route;
use crate::socket::{Request, Socket};
use crate::{neighbour, route};

/// What became of a veth pair that was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was not there.
    Absent,
    /// It is in the group of those that the daemon deletes.
    Doomed,
    /// It is there as before: it is down, or its end in the pod was not found where it was expected.
    Untouched,
}

/// Makes the veth pair of an attachment disappear, for the daemon to delete.
///
/// # Errors
/// [`Error`] when the kernel cannot be asked or refuses; the pair may be half gone, and
/// [`super::detach`] or another call goes on from there.
pub fn doom(host: &mut Socket, netns: &Netns, link: &PodLink) -> Result<Fate, Error> {
    let Some(outer) = find(host, &link.host_ifname, &link.alias)? else { return Ok(Fate::Absent) };
    if outer.group == DOOMED_GROUP {
        return Ok(Fate::Doomed);
    }
    // The kernel tells nobody of a change to a device that is down (`netdev_state_change` in
    // net/core/dev.c), so the daemon would not hear of it.
    let Some(inner) = outer.lower.filter(|_| outer.up) else { return Ok(Fate::Untouched) };
    if !take_out(&mut netns.visit(host, Socket::open)??, inner, &outer, link)? {
        return Ok(Fate::Untouched);
    }
    let refusals = host.batch(&withdraw(&outer, link))?.into_iter().filter_map(Result::err);
    for refusal in refusals {
        let error = Error::Refused { operation: format!("withdraw {}", link.host_ifname), refusal };
        // Somebody removed a route before us, or the pair went with the pod's namespace.
        if !error.is_absent() {
            return Err(error);
        }
    }
    Ok(Fate::Doomed)
}

/// Sets the pod's end down and renames it, so that its name is free for another attachment;
/// says whether it is the other end of the pair at all.
fn take_out(pod: &mut Socket, inner: u32, outer: &Link, link: &PodLink) -> Result<bool, Error> {
    let found = pod.link(Which::Index(inner))?;
    let is_pair =
        |l: &Link| l.kind.as_deref() == Some("veth") && l.lower == Some(outer.index) && l.name == link.ifname;
    if !found.as_ref().is_some_and(is_pair) {
        return Ok(false);
    }
    // No two devices of a namespace have the same number at the same time; and before Linux 6.2, only
    // a device that is down can be renamed.
    let requests = [link::down(inner), link::rename(inner, &format!("gone{inner}"))];
    let refusals: Vec<Refusal> = pod.batch(&requests)?.into_iter().filter_map(Result::err).collect();
    Ok(refusals.is_empty())
}

/// Everything by which the host knows the pod; the group comes last.
fn withdraw(outer: &Link, link: &PodLink) -> Vec<Request> {
    let mut requests = Vec::new();
    for assigned in &link.addresses {
        let dst = Cidr::host(assigned.address);
        let device = Some(outer.index);
        requests.push(route::remove(&Route {
            dst,
            gateway: None,
            device,
            object: None,
            protocol: ROUTE_PROTOCOL_POD,
            metric: 0,
            unreachable: false,
        }));
        requests.push(neighbour::remove(outer.index, assigned.address));
    }
    requests.push(link::regroup(outer.index, DOOMED_GROUP));
    requests
}
