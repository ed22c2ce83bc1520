//! Reading what the kernel holds for one attachment, for CHECK.

use minionet_core::addr::Family;
use minionet_core::cni::attachment::PodLink;
use minionet_core::cni::check::{End, Neighbour, Observed};
use minionet_core::constants::{DOOMED_GROUP, ROUTE_PROTOCOL_POD};

use super::sources;
use crate::error::Error;
use crate::link::{Link, Which};
use crate::netns::Netns;
use crate::socket::Socket;

/// Reads both sides of an attachment.
///
/// # Errors
/// [`Error`] when the kernel cannot be asked, or the namespace cannot be entered.
pub fn observe(host: &mut Socket, netns: &Netns, link: &PodLink) -> Result<Observed, Error> {
    let mut observed = Observed::default();
    let families: Vec<Family> = link.addresses.iter().map(|a| Family::of(a.address)).collect();
    if let Some(outer) = host.link(Which::Name(&link.host_ifname))? {
        for family in &families {
            let routes = host.routes(*family, ROUTE_PROTOCOL_POD)?;
            let through = routes.iter().filter(|r| r.device == Some(outer.index));
            observed.host_routes.extend(through.map(|r| r.dst.network()));
            observed.host_neighbours.extend(known(host, outer.index, *family)?);
        }
        observed.host = Some(end(outer));
    }
    let mut pod = netns.socket()?;
    observed.loopback_up = pod.link(Which::Name("lo"))?.is_some_and(|lo| lo.up);
    let Some(inner) = pod.link(Which::Name(&link.ifname))? else { return Ok(observed) };
    let addresses = pod.addresses(Some(inner.index))?;
    observed.addresses =
        addresses.iter().filter(|a| a.index == inner.index).map(|a| (a.addr, a.prefix_len)).collect();
    for family in families {
        for way in pod.ways(family, inner.index)? {
            match (way.dst, way.gateway) {
                (None, Some(gateway)) => observed.defaults.push(gateway),
                (Some(dst), None) => observed.on_link.push(dst),
                _ => {}
            }
        }
        observed.pod_neighbours.extend(known(&mut pod, inner.index, family)?);
        observed.source_rules.extend(sources::found(&mut pod, inner.index, link, family)?);
    }
    observed.pod = Some(end(inner));
    Ok(observed)
}

fn known(socket: &mut Socket, index: u32, family: Family) -> Result<Vec<Neighbour>, Error> {
    let neighbours = socket.neighbours(index, family)?;
    Ok(neighbours.iter().filter_map(|n| Some((n.addr, n.mac?))).collect())
}

fn end(link: Link) -> End {
    End {
        index: link.index,
        peer: link.lower,
        kind: link.kind,
        up: link.up,
        mac: link.mac,
        mtu: link.mtu,
        alias: link.alias,
        master: link.master,
        doomed: link.group == DOOMED_GROUP,
    }
}
