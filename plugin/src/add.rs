//! ADD: attaches a container.
//!
//! Everything that can be wrong with the call is found out first. Then, in this order, so that
//! a call killed at any point can be undone from what it left: the record is written, addresses
//! are leased, the kernel is changed, the record is marked as complete, the result is written.
//! Any failure undoes this in reverse.

mod error;
mod prepare;

use minionet_core::addr::{Family, MacAddr};
use minionet_core::cni::Failure;
use minionet_core::cni::args::Invocation;
use minionet_core::cni::attachment::{Id, Limits, PodLink, Record, SCHEMA};
use minionet_core::cni::conf::NetConf;
use minionet_core::cni::portmap;
use minionet_netlink::{Socket, pod};
use minionet_pods::capabilities::{self, PortHolder};
use minionet_pods::store::{Claim, Found, Journal, Stage, Store};
use minionet_pods::undo;

use self::error::AddError;
use self::prepare::Prepared;
pub use self::prepare::mtu;
use crate::facts::Directories;
use crate::stdio;

/// Carries out ADD.
pub fn add(invocation: &Invocation, conf: &NetConf, dirs: &Directories) -> Result<(), Failure> {
    stdio::require_stdout()?;
    let mut host = Socket::open().map_err(AddError::Kernel)?;
    let prepared = Prepared::new(invocation, conf, dirs, &host)?;
    let store = Store::new(&dirs.run);
    let (mut record, mut journal) = reserve(&prepared, &store, &mut host)?;
    // A panic is undone like any other failure.
    let made = crate::guarded(|| make(&prepared, &store, &mut record, &mut journal, &mut host));
    let Err(failure) = made else { return Ok(()) };
    Err(match undo::attachment(&mut host, &store, &record) {
        Ok(()) => failure,
        // The record is still there, for DEL or the daemon to go on from.
        Err(error) => Failure {
            details: Some(format!("what was made could not be undone, DEL will try again: {error}")),
            ..failure
        },
    })
}

/// Writes the record and leases addresses.
fn reserve(prepared: &Prepared, store: &Store, host: &mut Socket) -> Result<(Record, Journal), Failure> {
    let id = prepared.key.id();
    loop {
        let mut locked = store.lock()?;
        if let Some(found) = locked.find(id)? {
            drop(locked);
            clear_dead(found, prepared, store, host)?;
            continue;
        }
        if let Some(holder) = capabilities::port_holder(&locked, &prepared.ports, id)? {
            drop(locked);
            clear_holder(holder, store, host)?;
            continue;
        }
        let addresses = locked.choose(&prepared.space, &prepared.requested)?;
        let record = prepared.record(id, addresses);
        let addresses = &record.link.addresses;
        portmap::check(&record.ports, addresses.iter().map(|a| a.address))?;
        let journal = locked.record(&record)?;
        if let Err(error) = locked.take(addresses, id) {
            // Best effort: what is left, DEL or the daemon removes by the record.
            let _record = locked.release(addresses, &record.origin, id).and_then(|()| locked.forget(id));
            return Err(error.into());
        }
        return Ok((record, journal));
    }
}

/// Takes apart what an ADD for the same container and interface left that is dead: it was
/// killed, or its interface is gone without a DEL. A living attachment is an error.
fn clear_dead(
    mut found: Found,
    prepared: &Prepared,
    store: &Store,
    host: &mut Socket,
) -> Result<(), Failure> {
    match found.claim_now()? {
        Claim::Ours => {}
        Claim::Busy => return Err(AddError::InFlight.into()),
        Claim::Gone => return Ok(()),
    }
    let record = found.read()??;
    record.belongs_to(&prepared.key)?;
    let link = &record.link;
    let alive = found.stage == Stage::Ready
        && !found.is_leaving()?
        && pod::exists(host, &link.host_ifname, &link.alias).map_err(AddError::Kernel)?;
    if alive {
        let addresses: Vec<_> = link.addresses.iter().map(|a| a.address.to_string()).collect();
        let (ifname, addresses) = (link.ifname.clone(), addresses.join(", "));
        return Err(AddError::AlreadyAttached { ifname, addresses }.into());
    }
    Ok(undo::attachment(host, store, &record)?)
}

/// Takes apart the attachment that has a port that is asked for, if it is dead. A living one keeps
/// it.
fn clear_holder(holder: PortHolder, store: &Store, host: &mut Socket) -> Result<(), Failure> {
    let Some(mut found) = store.find(holder.id)? else { return Ok(()) };
    match found.claim_now()? {
        Claim::Ours => {}
        Claim::Busy => return Err(AddError::HostPortInUse(Box::new(holder)).into()),
        Claim::Gone => return Ok(()),
    }
    let record = found.read()??;
    let link = &record.link;
    let alive = found.stage == Stage::Ready
        && !found.is_leaving()?
        && pod::exists(host, &link.host_ifname, &link.alias).map_err(AddError::Kernel)?;
    if alive {
        return Err(AddError::HostPortInUse(Box::new(holder)).into());
    }
    Ok(undo::attachment(host, store, &record)?)
}

/// Changes the kernel, marks the record as complete and writes the result.
fn make(
    prepared: &Prepared,
    store: &Store,
    record: &mut Record,
    journal: &mut Journal,
    host: &mut Socket,
) -> Result<(), Failure> {
    let attached = pod::attach(host, &prepared.netns, &record.link).map_err(AddError::Attach)?;
    let rules = record.link.rules_beside(attached.index, &attached.default_routes);
    if !rules.is_empty() {
        // Only now is it known that they are needed; still the record comes first.
        record.link.source_rules = rules;
        *journal = store.lock()?.record(record)?;
        pod::route_by_source(&prepared.netns, attached.index, &record.link).map_err(AddError::Kernel)?;
    }
    capabilities::make(host, record)?;
    let mut result = record.result(prepared.before.clone(), prepared.dns.clone());
    let (earlier, ours) = (prepared.before.routes.len(), &attached.default_routes);
    let mut position = 0;
    // A default route that an interface before has is not ours to report.
    result.routes.retain(|route| {
        position += 1;
        position <= earlier || route.gw.is_some_and(|gw| ours.contains(&Family::of(gw)))
    });
    let document = result.to_json(prepared.version)?;
    journal.complete()?;
    Ok(stdio::write(&document)?)
}

impl Prepared {
    fn record(&self, id: Id, addresses: Vec<minionet_core::cni::ipam::Assigned>) -> Record {
        // There is at least one block, and so one address.
        let derived = addresses.first().map(|a| MacAddr::pod(a.address));
        Record {
            schema: SCHEMA,
            writer: env!("CARGO_PKG_VERSION").into(),
            pod: self.pod.clone(),
            boot: self.boot.clone(),
            netns: self.netns_ref.clone(),
            origin: self.space.origin(&addresses),
            link: PodLink {
                host_ifname: id.host_ifname(),
                alias: id.alias(&self.key),
                host_mac: MacAddr::POD_GATEWAY,
                ifname: self.key.ifname.clone(),
                mac: self.mac.or(derived).unwrap_or(MacAddr::POD_GATEWAY),
                mtu: self.mtu,
                addresses,
                source_rules: Vec::new(),
            },
            ports: self.ports.clone(),
            limits: Limits::new(self.bandwidth, id),
            key: self.key.clone(),
        }
    }
}
