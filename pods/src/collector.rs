//! Removing what nobody will ever remove: what a killed call left, and attachments whose DEL
//! never came.
//!
//! A call at work holds the lock of its record, so whatever is found without a holder is dead or
//! complete. What is complete is removed only when its interface is gone, and at once only when
//! its namespace is gone too: then there is nothing left that a DEL could be about.

mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use minionet_core::addr::Family;
use minionet_core::addr::MacAddr;
use minionet_core::cni::attachment::{HOST_IFNAME_PREFIX, IFB_PREFIX, Id, Record, RecordError};
use minionet_core::cni::{Code, Coded};
use minionet_core::constants::{DOOMED_GROUP, ROUTE_PROTOCOL_POD};
use minionet_netlink::link::{Link, Which};
use minionet_netlink::netns::Netns;
use minionet_netlink::route::Route;
use minionet_netlink::{Error, Socket};
use thiserror::Error;

pub use self::tally::Tally;
use crate::boot;
use crate::store::{Claim, Stage, Store, StoreError};
use crate::undo::{self, UndoError};

/// Something that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// An attachment whose ADD or DEL was killed.
    Unfinished(String),
    /// An attachment whose interface is gone.
    Dead(String),
    /// An interface of an attachment that has no record.
    Interface(String),
    /// Leases of attachments that have no record.
    Leases(usize),
    /// A route to a pod that is not there.
    Route(String),
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Removed::Unfinished(what) => write!(f, "what a killed call left of {what}"),
            Removed::Dead(what) => write!(f, "what was left of {what}, whose interface is gone"),
            Removed::Interface(name) => write!(f, "the interface {name}, which has no record"),
            Removed::Leases(1) => f.write_str("a lease whose attachment has no record"),
            Removed::Leases(count) => write!(f, "{count} leases whose attachments have no record"),
            Removed::Route(what) => write!(f, "the route to {what}, which no pod has"),
        }
    }
}

/// Why something was left that may have to go.
#[derive(Debug, Error)]
pub enum CollectError {
    /// It could not be taken apart.
    #[error(transparent)]
    Undo(#[from] UndoError),
    /// Its record is not understood.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<StoreError> for CollectError {
    fn from(error: StoreError) -> Self {
        CollectError::Undo(error.into())
    }
}

impl From<Error> for CollectError {
    fn from(error: Error) -> Self {
        CollectError::Undo(error.into())
    }
}

impl Coded for CollectError {
    fn code(&self) -> Code {
        match self {
            CollectError::Undo(error) => error.code(),
            CollectError::Record(error) => error.code(),
        }
    }

    fn details(&self) -> Option<String> {
        None
    }
}

/// What a pass did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was removed.
    pub removed: Vec<Removed>,
    /// What went wrong; the rest was done all the same.
    pub failed: Vec<CollectError>,
}

/// Which attachments a pass looks at, and which of them it spares.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Only those of this network.
    pub network: Option<String>,
    /// Those whose runtime still wants them, by container and interface; where this is said,
    /// every other is removed, alive or not.
    pub wanted: Option<BTreeSet<(String, String)>>,
}

/// Removes what nobody will remove, and remembers from one pass to the next what may be dead.
#[derive(Debug)]
pub struct Collector {
    store: Store,
    grace: Duration,
    missing: BTreeMap<Id, Instant>,
}

/// The kernel's tables, read before the records: what is in them and has no record now lost it,
/// or never had one.
struct Tables {
    routes: Vec<Route>,
    links: Vec<Link>,
}

impl Tables {
    fn read(host: &mut Socket) -> Result<Self, Error> {
        let mut routes = Vec::new();
        for family in [Family::V4, Family::V6] {
            routes.extend(host.routes(family, ROUTE_PROTOCOL_POD)?);
        }
        Ok(Tables { routes, links: host.links()? })
    }

    fn has_interface(&self, id: Id) -> bool {
        let is_pair = |link: &Link| link.kind.as_deref() == Some("veth") && link.group != DOOMED_GROUP;
        self.links.iter().any(|link| is_pair(link) && owner(link) == Some(Owner::Id(id)))
    }
}

/// What became of one record.
enum Verdict {
    Removed(Removed),
    Alive(Box<Record>),
    /// Not looked at: at work, gone, or of another network.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Id(Id),
    /// Made, and not labelled yet; or never to be.
    Unlabelled(String),
}

/// Whether an interface of the host was made for a pod by the plugin.
pub fn is_ours(link: &Link) -> bool {
    owner(link).is_some()
}

/// Whose interface this is, if it is a pod's: the host's end, or the device of its limits.
fn owner(link: &Link) -> Option<Owner> {
    let prefix = match link.kind.as_deref() {
        Some("veth") => HOST_IFNAME_PREFIX,
        Some("ifb") => IFB_PREFIX,
        _ => return None,
    };
    match &link.alias {
        Some(alias) => Id::from_alias(alias).map(Owner::Id),
        None => (link.name.starts_with(prefix) && link.mac == Some(MacAddr::POD_GATEWAY))
            .then(|| Owner::Unlabelled(link.name.clone())),
    }
}

impl Collector {
    /// A collector that takes a complete attachment for dead when its interface has been gone
    /// for so long, although its namespace is there.
    pub fn new(store: Store, grace: Duration) -> Self {
        Collector { store, grace, missing: BTreeMap::new() }
    }

    /// Changes how long an interface may be gone.
    pub fn set_grace(&mut self, grace: Duration) {
        self.grace = grace;
    }

    /// Goes through everything once.
    pub fn pass(&mut self, host: &mut Socket, scope: &Scope, now: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(error) = self.try_pass(host, scope, now, &mut outcome) {
            outcome.failed.push(error);
        }
        outcome
    }

    fn try_pass(
        &mut self,
        host: &mut Socket,
        scope: &Scope,
        now: Instant,
        outcome: &mut Outcome,
    ) -> Result<(), CollectError> {
        host.delete_group(DOOMED_GROUP)?;
        let tables = Tables::read(host)?;
        let recorded = self.store.recorded()?;
        self.missing.retain(|id, _| recorded.contains(id));
        let mut alive = BTreeMap::new();
        for id in &recorded {
            match self.examine(host, *id, &tables, scope, now) {
                Ok(Verdict::Removed(removed)) => outcome.removed.push(removed),
                Ok(Verdict::Alive(record)) => {
                    alive.insert(*id, record.link.addresses.iter().map(|a| a.address).collect());
                }
                Ok(Verdict::Unknown) => {}
                Err(error) => outcome.failed.push(error),
            }
        }
        self.remove_interfaces(host, &tables, &recorded, outcome);
        self.remove_routes(host, &tables, &alive, outcome)?;
        if recorded.is_empty() && !self.store.exists() {
            return Ok(());
        }
        match self.store.lock()?.prune()? {
            0 => {}
            count => outcome.removed.push(Removed::Leases(count)),
        }
        Ok(())
    }

    /// Removes one attachment if it is dead or, where that is said, not wanted.
    fn examine(
        &mut self,
        host: &mut Socket,
        id: Id,
        tables: &Tables,
        scope: &Scope,
        now: Instant,
    ) -> Result<Verdict, CollectError> {
        let Some(mut found) = self.store.find(id)? else { return Ok(Verdict::Unknown) };
        // An ADD or DEL at work; or it is gone in the meantime.
        if found.claim_now()? != Claim::Ours {
            return Ok(Verdict::Unknown);
        }
        let record = match found.read()? {
            Ok(record) => record,
            Err(RecordError::Malformed { .. }) if scope.network.is_none() && !tables.has_interface(id) => {
                undo::without_record(host, &self.store, id)?;
                return Ok(Verdict::Removed(Removed::Dead(format!("attachment {id}"))));
            }
            Err(error) => return Err(error.into()),
        };
        if scope.network.as_ref().is_some_and(|network| *network != record.key.network) {
            return Ok(Verdict::Unknown);
        }
        let name = format!("container {} interface {}", record.key.container, record.key.ifname);
        let wanted = scope
            .wanted
            .as_ref()
            .map(|wanted| wanted.contains(&(record.key.container.clone(), record.key.ifname.clone())));
        let removed = match (found.stage, wanted) {
            (Stage::Adding, _) => Removed::Unfinished(name),
            (Stage::Ready, None) if found.is_leaving()? => Removed::Unfinished(name),
            (Stage::Ready, Some(true)) => return Ok(Verdict::Alive(Box::new(record))),
            (Stage::Ready, Some(false)) => Removed::Dead(name),
            (Stage::Ready, None) if self.is_dead(&record, tables, now) => Removed::Dead(name),
            (Stage::Ready, None) => return Ok(Verdict::Alive(Box::new(record))),
        };
        undo::attachment(host, &self.store, &record)?;
        self.missing.remove(&id);
        Ok(Verdict::Removed(removed))
    }

    fn is_dead(&mut self, record: &Record, tables: &Tables, now: Instant) -> bool {
        let id = record.key.id();
        if tables.has_interface(id) {
            self.missing.remove(&id);
            return false;
        }
        let boot = boot::current();
        let earlier = !boot.is_empty() && !record.boot.is_empty() && record.boot != boot;
        let since = *self.missing.entry(id).or_insert(now);
        earlier || is_gone(record) || now.saturating_duration_since(since) >= self.grace
    }

    /// Interfaces of attachments without a record.
    fn remove_interfaces(
        &self,
        host: &mut Socket,
        tables: &Tables,
        recorded: &BTreeSet<Id>,
        outcome: &mut Outcome,
    ) {
        let names = |id: &Id| [id.host_ifname(), id.ifb_name()];
        let expected: BTreeSet<String> = recorded.iter().flat_map(names).collect();
        for link in &tables.links {
            let orphan = match owner(link) {
                Some(Owner::Id(id)) => !recorded.contains(&id),
                Some(Owner::Unlabelled(name)) => !expected.contains(&name),
                None => false,
            };
            if !orphan || link.group == DOOMED_GROUP {
                continue;
            }
            match remove_interface(host, link) {
                Ok(true) => outcome.removed.push(Removed::Interface(link.name.clone())),
                Ok(false) => {}
                Err(error) => outcome.failed.push(error.into()),
            }
        }
    }

    /// Routes of ours that lead to anything but the interface of the pod with that address.
    fn remove_routes(
        &self,
        host: &mut Socket,
        tables: &Tables,
        alive: &BTreeMap<Id, Vec<IpAddr>>,
        outcome: &mut Outcome,
    ) -> Result<(), CollectError> {
        for route in &tables.routes {
            let link = tables.links.iter().find(|link| Some(link.index) == route.device);
            let stale = match link.and_then(owner) {
                // One that is not among the living is at work, or just went with its routes.
                Some(Owner::Id(id)) => {
                    alive.get(&id).is_some_and(|addresses| !addresses.contains(&route.dst.network()))
                }
                // It gets its label with its routes; so it was just made.
                Some(Owner::Unlabelled(_)) => false,
                None => {
                    // Or it was made and wired since the devices were read.
                    let now = route.device.map(|index| host.link(Which::Index(index))).transpose()?;
                    now.flatten().is_none_or(|link| owner(&link).is_none())
                }
            };
            if stale {
                match host.remove_route(route) {
                    Ok(true) => outcome.removed.push(Removed::Route(route.dst.to_string())),
                    Ok(false) => {}
                    Err(error) => outcome.failed.push(error.into()),
                }
            }
        }
        Ok(())
    }
}

/// Deletes an interface that is as it was when the tables were read; says whether it was there.
fn remove_interface(host: &mut Socket, link: &Link) -> Result<bool, Error> {
    let now = host.link(Which::Index(link.index))?;
    if !now.is_some_and(|now| owner(&now) == owner(link)) {
        return Ok(false);
    }
    match host.delete_link(link.index, &link.name) {
        Ok(()) => Ok(true),
        Err(error) if error.is_absent() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the namespace of an attachment is certainly gone from its path.
fn is_gone(record: &Record) -> bool {
    match Netns::open(Path::new(&record.netns.path)) {
        Ok(found) => (found.device(), found.inode()) != (record.netns.device, record.netns.inode),
        // A path that is gone, or a plain file where the namespace was bound.
        Err(Error::Io { source, .. }) => {
            matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput)
        }
        Err(_) => false,
    }
}
