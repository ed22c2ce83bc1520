//! What an attachment has beyond its interface, because the runtime asked for it: ports of the
//! node that lead to the pod, and limits of its traffic.
//!
//! The records decide which ports lead where; the maps of the nft table are made to follow them,
//! by the plugin for one attachment and by the daemon for all.

use std::collections::BTreeSet;
use std::net::IpAddr;

use minionet_core::addr::Family;
use minionet_core::cni::attachment::{Id, Key, Record};
use minionet_core::cni::portmap::PortMapping;
use minionet_core::cni::{Code, Coded};
use minionet_core::nft::{MapContents, TABLE, host_port_elements};
use minionet_core::plan::Block;
use minionet_netlink::conntrack::{self, Conntrack, Pattern};
use minionet_netlink::nft::{Nft, NftError};
use minionet_netlink::tc::{self, Destroy};
use minionet_netlink::{Error, Socket, sysctl};
use nix::errno::Errno;
use thiserror::Error;

use crate::store::{Locked, Store, StoreError};

/// So many connections are told of in the time that one walk through the kernel's table takes.
const FEW_CONNECTIONS: usize = 5000;

/// Why a capability cannot be made or taken away.
#[derive(Debug, Error)]
pub enum CapabilityError {
    /// The kernel, about limits.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// The kernel, about host ports.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// The daemon has not made the maps, or somebody removed them.
    #[error(
        "the nft table inet {TABLE} lacks the maps of host ports, which minionetd makes and mends: is it running? (minionetd status, journalctl -u minionetd)"
    )]
    NoMaps,
}

impl Coded for CapabilityError {
    fn code(&self) -> Code {
        match self {
            CapabilityError::Kernel(_) | CapabilityError::Nft(_) => Code::Kernel,
            CapabilityError::NoMaps => Code::TryAgainLater,
        }
    }

    fn details(&self) -> Option<String> {
        // The cause is part of each message.
        None
    }
}

/// An attachment that has a port already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHolder {
    /// The attachment.
    pub id: Id,
    /// Its name.
    pub key: Key,
    /// `namespace/name` of its pod, if it is known.
    pub pod: Option<String>,
    /// The port that is asked for.
    pub port: PortMapping,
}

/// Makes everything that a record tells of beyond the interface, which must be there.
///
/// # Errors
/// [`CapabilityError`]; [`withdraw`] removes what is left.
pub fn make(host: &mut Socket, record: &Record) -> Result<(), CapabilityError> {
    tc::limit(host, &record.link, &record.limits)?;
    if record.ports.is_empty() {
        return Ok(());
    }
    open_loopback(record)?;
    put(record)?;
    forget_ports(host, record);
    Ok(())
}

/// Takes away what leads to an attachment; before its interface goes.
///
/// # Errors
/// [`CapabilityError`] when the kernel cannot be asked or refuses.
pub fn withdraw(host: &mut Socket, record: &Record, destroy: Destroy) -> Result<(), CapabilityError> {
    if !record.ports.is_empty() {
        Nft::open()?.remove_maps(TABLE, &elements([record]))?;
    }
    if let Some(ifb) = &record.limits.ifb {
        tc::unlimit(host, ifb, &record.link.alias, destroy)?;
    }
    Ok(())
}

/// Makes the kernel forget the connections of an attachment: those of its addresses, and those to its
/// ports of the node.
///
/// What a kernel cannot forget ends by itself, so nothing depends on it.
pub fn forget(host: &mut Socket, record: &Record) {
    forget_pod(record);
    forget_ports(host, record);
}

/// The part of [`forget`] that is about the pod's addresses.
pub fn forget_pod(record: &Record) {
    forget_addresses(&addresses(record).collect());
}

/// Makes the kernel forget the connections of these addresses, in the calling thread's namespace.
///
/// The kernel goes through the whole of its table for every question: with its default size this
/// takes some ten milliseconds, however few connections there are. So it is not asked where there
/// are none, and once for all addresses where that takes less time than twice for each.
pub fn forget_addresses(addresses: &BTreeSet<IpAddr>) {
    let remembered = conntrack::remembered();
    if addresses.is_empty() || remembered == Some(0) {
        return;
    }
    let Ok(mut conntrack) = Conntrack::open() else { return };
    if remembered.is_some_and(|count| count / FEW_CONNECTIONS < 2 * addresses.len()) {
        let families: BTreeSet<Family> = addresses.iter().map(|address| Family::of(*address)).collect();
        for family in families {
            let _end_by_themselves = conntrack.forget(Pattern::Any(family), |flow| {
                addresses.contains(&flow.original.source) || addresses.contains(&flow.reply.source)
            });
        }
        return;
    }
    for address in addresses {
        for pattern in [Pattern::From(*address), Pattern::AnsweredBy(*address)] {
            let _ends_by_itself = conntrack.forget(pattern, |_| true);
        }
    }
}

/// The addresses of these blocks that the kernel remembers connections of; without the gateways',
/// which are the node's own. Best effort, as [`forget`] is.
pub fn addresses_with_connections(blocks: &[Block]) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    if conntrack::remembered() == Some(0) {
        return found;
    }
    let Ok(mut conntrack) = Conntrack::open() else { return found };
    for block in blocks {
        let _asked = conntrack.each(Pattern::Any(block.cidr.family()), |flow| {
            let ends = [flow.original.source, flow.reply.source];
            let inside = |address: &IpAddr| block.cidr.contains(*address) && *address != block.gateway;
            found.extend(ends.into_iter().filter(inside));
        });
    }
    found
}

/// What the maps must hold, by these records.
pub fn elements<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<MapContents> {
    host_port_elements(
        records.into_iter().map(|record| (record.ports.as_slice(), addresses(record).collect())),
    )
}

/// What the maps must hold, by the records as they are now, but for those whose attachment is
/// being taken apart.
///
/// # Errors
/// [`StoreError::Io`] when the state directory cannot be read. A record that is not understood
/// is left out: whoever understands it makes its elements again.
pub fn recorded_elements(store: &Store) -> Result<Vec<MapContents>, StoreError> {
    let staying = records(store)?.into_iter().filter(|(_, leaving)| !leaving);
    Ok(elements(&staying.map(|(record, _)| record).collect::<Vec<_>>()))
}

/// Finds out whether another attachment has one of these ports.
///
/// Nobody else takes a port meanwhile: the records are written under the same lock.
///
/// # Errors
/// [`StoreError::Io`] when the state directory cannot be read.
pub fn port_holder(
    locked: &Locked<'_>,
    ports: &[PortMapping],
    own: Id,
) -> Result<Option<PortHolder>, StoreError> {
    if ports.is_empty() {
        return Ok(None);
    }
    for (other, _) in records(locked.store())? {
        let overlapping = |port: &&PortMapping| other.ports.iter().any(|taken| taken.overlaps(port));
        let id = other.key.id();
        if id != own
            && let Some(port) = ports.iter().find(overlapping)
        {
            return Ok(Some(PortHolder { id, port: *port, key: other.key, pod: other.pod }));
        }
    }
    Ok(None)
}

/// How an attachment differs from its record, beyond its interface; nothing where all is well.
///
/// # Errors
/// [`CapabilityError`] when the kernel cannot be asked.
pub fn differences(host: &mut Socket, record: &Record) -> Result<Vec<String>, CapabilityError> {
    let mut all = Vec::new();
    let found = tc::read(host, &record.link, &record.limits)?;
    for (what, wanted, found) in
        [("receives", record.limits.ingress, found.ingress), ("sends", record.limits.egress, found.egress)]
    {
        let Some(wanted) = wanted else { continue };
        match found {
            None => all.push(format!("what the pod {what} is not limited")),
            Some(found) if (found.rate, found.queue) != (wanted.rate, wanted.queue) => {
                all.push(format!(
                    "what the pod {what} is limited to {} octets per second and a queue of {}, instead of {} and {}",
                    found.rate, found.queue, wanted.rate, wanted.queue
                ));
            }
            Some(_) => {}
        }
    }
    if record.ports.is_empty() {
        return Ok(all);
    }
    let wanted = elements([record]);
    let found = Nft::open()?.read_maps(TABLE, wanted.iter().map(|map| &map.spec))?;
    for (wanted, found) in wanted.iter().zip(&found.maps) {
        let missing = wanted.elements.iter().filter(|element| !found.elements.contains(element));
        all.extend(missing.map(|element| {
            format!("the nft map {} lacks {element}: minionetd mends it, is it running?", wanted.spec.name)
        }));
    }
    if needs_loopback(record) && sysctl::read(&loopback_key(record))?.as_deref() != Some("1") {
        all.push(format!("the kernel setting net/{} is not 1", loopback_key(record)));
    }
    Ok(all)
}

fn addresses(record: &Record) -> impl Iterator<Item = IpAddr> + Clone + '_ {
    record.link.addresses.iter().map(|assigned| assigned.address)
}

/// The records, and whether each is of an attachment that is being taken apart.
fn records(store: &Store) -> Result<Vec<(Record, bool)>, StoreError> {
    let mut records = Vec::new();
    for id in store.recorded()? {
        // Gone in the meantime, or of a later format.
        if let Some(mut found) = store.find(id)?
            && let Ok(record) = found.read()?
        {
            records.push((record, found.is_leaving()?));
        }
    }
    Ok(records)
}

fn put(record: &Record) -> Result<(), CapabilityError> {
    match Nft::open()?.put_maps(TABLE, &elements([record])) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Err(CapabilityError::NoMaps),
        done => Ok(done?),
    }
}

/// Whether the node can reach a port of this attachment at 127.0.0.1.
fn needs_loopback(record: &Record) -> bool {
    let ipv4 = addresses(record).any(|address| address.is_ipv4());
    ipv4 && record.ports.iter().any(PortMapping::serves_loopback4)
}

fn loopback_key(record: &Record) -> String {
    format!("ipv4/conf/{}/route_localnet", record.link.host_ifname)
}

/// Lets packets from 127.0.0.1 go to the pod, and the answers come back; the nft table keeps
/// others out. The setting goes with the interface.
fn open_loopback(record: &Record) -> Result<(), CapabilityError> {
    if needs_loopback(record) {
        sysctl::set(&loopback_key(record), "1")?;
    }
    Ok(())
}

/// Makes the kernel forget connections to the attachment's ports of the node, which were decided about when
/// the ports led elsewhere. Best effort, as [`forget`] is.
pub fn forget_ports(host: &mut Socket, record: &Record) {
    let (ports, pod) = (&record.ports, addresses(record));
    if !ports.iter().any(|port| port.protocol.is_sticky()) {
        return;
    }
    let (Ok(mut conntrack), Ok(local)) = (Conntrack::open(), host.addresses(None)) else { return };
    // Connections to the same port of other hosts are nobody's business here.
    let local: BTreeSet<IpAddr> = local.into_iter().map(|address| address.addr).collect();
    for port in ports.iter().filter(|port| port.protocol.is_sticky()) {
        for address in pod.clone().filter(|address| port.takes(*address)) {
            let family = Family::of(address);
            let pattern = Pattern::ToPort { family, protocol: port.protocol.number(), port: port.host_port };
            let single = port.single_host_ip();
            let _ends_by_itself = conntrack.forget(pattern, |flow| {
                let to = flow.original.destination;
                match single {
                    Some(host) => to == host,
                    None => to.is_loopback() || local.contains(&to),
                }
            });
        }
    }
}
