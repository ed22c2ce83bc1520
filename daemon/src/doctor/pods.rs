//! Pods of this node: records, leases, links and routes.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use minionet_core::cni::attachment::{HOST_IFNAME_PREFIX, Id};
use minionet_core::cni::ipam::Space;
use minionet_core::constants::{DOOMED_GROUP, RUN_DIR};
use minionet_core::doctor::facts::{Gathered, PodFacts};
use minionet_core::handoff::{self, NodeFacts};
use minionet_netlink::Socket;
use minionet_netlink::link::Link;
use minionet_pods::store::{Stage, Store};

/// Gathers them.
pub fn facts() -> Gathered<PodFacts> {
    let mut facts = PodFacts::default();
    let store = Store::new(RUN_DIR);
    let text = fs::read_to_string(Path::new(RUN_DIR).join(handoff::FILE));
    let node = text.ok().and_then(|text| NodeFacts::parse(&text).ok());
    if let Some(node) = node {
        let space = Space::new(&node.blocks);
        let leased = leases(&store);
        let taken =
            |offset: &u32| space.at(*offset).iter().any(|a| leased.iter().any(|(l, _)| *l == a.address));
        let used = leased.len().min(space.pool().filter(taken).count());
        facts.room = (space.pool().len(), space.pool().len() - used);
    }
    if !store.exists() {
        return Ok(facts);
    }
    let failed = |e: &dyn std::fmt::Display| e.to_string();
    let mut socket = Socket::open().map_err(|e| failed(&e))?;
    // Records first: what an ADD makes meanwhile has a record that is not looked at.
    let recorded = store.recorded().map_err(|e| failed(&e))?;
    let links = socket.links().map_err(|e| failed(&e))?;
    let mut known = BTreeSet::new();
    for id in &recorded {
        let Some(mut found) = store.find(*id).map_err(|e| failed(&e))? else { continue };
        let Ok(Ok(record)) = found.read() else { continue };
        known.insert(record.link.host_ifname.clone());
        if found.stage != Stage::Ready {
            continue;
        }
        let link = links.iter().find(|link| link.name == record.link.host_ifname);
        facts.attachments.push((record.pod.unwrap_or(record.key.container), link.is_some()));
        for address in record.link.addresses.iter().map(|a| a.address) {
            let Some(link) = link else { continue };
            let lead = socket.leads(address).map_err(|e| failed(&e))?;
            if lead.and_then(|lead| lead.device) != Some(link.index) {
                facts.unrouted.push(address);
            }
        }
    }
    // Anew: a DEL may have gone on meanwhile, and an ADD may be new.
    let now = store.recorded().map_err(|e| failed(&e))?;
    let orphan =
        |(address, id): &(IpAddr, Option<Id>)| id.is_some_and(|id| !now.contains(&id)).then_some(*address);
    facts.orphans = leases(&store).iter().filter_map(orphan).collect();
    let stray = |link: &&Link| {
        let of_ours = link.name.starts_with(HOST_IFNAME_PREFIX) && link.group != DOOMED_GROUP;
        of_ours && !known.contains(&link.name) && !now.iter().any(|id| id.host_ifname() == link.name)
    };
    facts.strays = links.iter().filter(stray).map(|link| link.name.clone()).collect();
    Ok(facts)
}

/// The addresses that are taken, and by whom; those that were reserved by hand by nobody.
fn leases(store: &Store) -> Vec<(IpAddr, Option<Id>)> {
    let entries = fs::read_dir(store.root().join("leases")).into_iter().flatten().flatten();
    let lease = |entry: fs::DirEntry| {
        let address = entry.file_name().to_str()?.parse().ok()?;
        let target = fs::read_link(entry.path()).ok();
        Some((address, target.and_then(|target| target.to_str()?.parse().ok())))
    };
    entries.filter_map(lease).collect()
}
