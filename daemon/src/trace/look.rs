//! What kinds of interfaces there are, and what a watch saw on them.

use std::collections::BTreeMap;

use minionet_core::cni::attachment::{HOST_IFNAME_PREFIX, IFB_PREFIX};
use minionet_core::constants::DEVICE;
use minionet_core::trace::Marked;
use minionet_core::trace::sight::{self, Place};
use minionet_netlink::Socket;
use minionet_netlink::packet::Watch;

/// Most packets of one trace that are looked at.
const MOST: usize = 256;

/// A packet with the mark, and where it was.
pub struct Sighting {
    /// The kind of interface.
    pub place: Place,
    /// The name of the interface.
    pub interface: String,
    /// Whether it left by it.
    pub outgoing: bool,
    /// The packet.
    pub marked: Marked,
}

/// What a watch has seen since it was last asked.
pub fn sightings(watch: &Watch, socket: &mut Socket, port: u16, token: u64) -> Vec<Sighting> {
    let captured = watch.take(MOST);
    if captured.is_empty() {
        return Vec::new();
    }
    // An interface that is gone already has no name, and what it saw does not matter any more.
    let links = socket.links().unwrap_or_default();
    let names: BTreeMap<u32, &str> = links.iter().map(|link| (link.index, link.name.as_str())).collect();
    let sighting = |captured: minionet_netlink::packet::Captured| {
        let name = *names.get(&captured.interface)?;
        Some(Sighting {
            place: place(name)?,
            interface: name.to_owned(),
            outgoing: captured.outgoing,
            marked: sight::read(&captured.packet, port, token)?,
        })
    };
    captured.into_iter().filter_map(sighting).collect()
}

/// The kind of an interface; nothing for those that are only inside of the host.
fn place(name: &str) -> Option<Place> {
    match name {
        DEVICE => Some(Place::Device),
        "lo" => None,
        _ if name.starts_with(HOST_IFNAME_PREFIX) => Some(Place::Pod),
        _ if name.starts_with(IFB_PREFIX) => None,
        _ => Some(Place::Underlay),
    }
}
