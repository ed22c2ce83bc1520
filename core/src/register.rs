//! Self-registration: a node keeps its own record in a zone that takes dynamic updates (RFC 2136),
//! and the others take out the record of one that is dead.
//!
//! ```text
//! minions.cncfdemo.k8s.                     30 IN A   172.20.0.1
//! 172-20-0-1._lease.minions.cncfdemo.k8s.   30 IN TXT "minionet id=… n=7 at=1764077000"
//! ```
//!
//! The second record is the node's lease: it says whose record the first is, and that the owner
//! lives, since its owner writes it anew again and again. Every removal, by whomever, is an update
//! with the prerequisite that the lease still reads as it did when the decision fell, so that it
//! removes exactly what was decided about and cannot race a node that comes back.
//!
//! Architecture invariants: what registers only ever adds, but for records that the same node has
//! registered before; nobody is removed who answers the probe, or whose machine answers at all, or
//! whose lease is renewed; a part of the cluster that sees less than two thirds of it alive
//! removes nobody; where the primary server is silent no time passes for anybody.

mod failure;
mod key;
mod lease;
mod registrar;
mod sight;
mod standing;
mod suspects;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use self::failure::{Failure, Verdict};
pub use self::key::{Algorithm, Key, KeyError};
pub use self::lease::lease_name;
pub use self::registrar::{Event, Registrar, Task};
pub use self::sight::{Listed, Sight};
pub use self::standing::{Ledger, LedgerError, Registration, Report, Standing};
pub use self::suspects::Finding;

/// The port of DNS (RFC 1035 section 4.2).
pub const DNS_PORT: u16 = 53;

/// How often the lease is renewed where nobody's ever ends.
const RENEW: Duration = Duration::from_secs(1200);

/// How this node registers itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether it does.
    pub enabled: bool,
    /// The role whose name gets the record; one of the roles that are looked up.
    pub role: String,
    /// The primary server; none to find it by the zone's SOA record.
    pub server: Option<Server>,
    /// The zone, fully qualified; none to find it by the name.
    pub zone: Option<String>,
    /// File with the key that signs the updates.
    pub key_file: String,
    /// Time to live of the records, in whole seconds.
    pub ttl: Duration,
    /// How long a dead node's lease must rest before the others remove its record; none for never.
    pub lease: Option<Duration>,
}

impl Settings {
    /// How often the own lease is renewed.
    fn renewal(&self) -> Duration {
        self.lease.map_or(RENEW, |lease| lease / 3)
    }
}

/// Where updates are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// An address.
    Address(SocketAddr),
    /// A name, to be looked up, and a port.
    Name(String, u16),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Address(address) => write!(f, "{address}"),
            Server::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// One update: all of it happens, or nothing (RFC 2136 section 3.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The lease that must be there, and be exactly this (RFC 2136 section 2.4.2).
    pub requires: Option<Lease>,
    /// What is changed, in this order.
    pub changes: Vec<Change>,
}

/// A lease: the TXT record beside an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The owner of the record, fully qualified.
    pub name: String,
    /// The text, at most 255 octets.
    pub text: String,
}

/// One change of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Add an A or AAAA record; adding what is there sets its time to live.
    Add {
        /// The owner of the record, fully qualified.
        name: String,
        /// The address.
        address: IpAddr,
        /// Time to live, in whole seconds.
        ttl: Duration,
    },
    /// Remove exactly this A or AAAA record.
    Remove {
        /// The owner of the record, fully qualified.
        name: String,
        /// The address.
        address: IpAddr,
    },
    /// Replace a lease.
    SetLease(Lease, Duration),
    /// Remove a lease, whatever it says.
    DropLease(String),
}

impl Update {
    /// The removal of an address whose lease reads so, or which has none.
    pub fn removal(name: &str, address: IpAddr, lease: Option<String>) -> Self {
        let owner = lease_name(name, address);
        Update {
            requires: lease.map(|text| Lease { name: owner.clone(), text }),
            changes: vec![Change::Remove { name: name.to_owned(), address }, Change::DropLease(owner)],
        }
    }
}
