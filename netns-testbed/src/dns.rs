//! An authoritative DNS server for `k8s.` on a host, with records and faults that change while it runs.

mod answer;
mod fault;
mod transport;
mod zone;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::oneshot;

pub use self::fault::{Fault, Garbage, TcpAfterTruncation};
use self::zone::Zone;
use crate::error::{During, Error, Result};
use crate::namespace::Namespace;

/// The domain for which the server is the authority.
pub const DOMAIN: &str = "k8s";

/// A running DNS server; dropping it closes its sockets.
///
/// It listens on port 53 of every address of its host, UDP and TCP.
/// Names are given with or without the final dot, in any case.
pub struct DnsServer {
    shared: Arc<Shared>,
    /// Dropped to stop the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How many queries arrived, answered or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queries {
    /// Over UDP.
    pub udp: u64,
    /// Over TCP.
    pub tcp: u64,
}

/// What the server's thread and its owner share.
#[derive(Default)]
struct Shared {
    zone: Mutex<Zone>,
    udp: AtomicU64,
    tcp: AtomicU64,
    answered: Mutex<Option<Instant>>,
}

impl Shared {
    /// Remembers that an answer is about to be sent.
    fn answers(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DnsServer {
    /// Starts a server on a host; it answers from the return of this function on.
    pub fn start(host: &Namespace) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let (ready, wait) = std::sync::mpsc::channel();
        let thread = host.spawn_thread({
            let shared = Arc::clone(&shared);
            move || transport::serve(&shared, stopped, &ready)
        })?;
        wait.recv()
            .unwrap_or_else(|_| Err(std::io::Error::other("the server's thread ended")))
            .during(|| format!("listen on port 53 of {}", host.name()))?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Replaces the addresses of a name: A and AAAA records that live `ttl` seconds.
    ///
    /// A name without addresses exists and has no data.
    pub fn set(&self, name: &str, addresses: &[IpAddr], ttl: u32) -> Result<()> {
        check(name)?;
        self.shared.zone().set(name, addresses, ttl);
        Ok(())
    }

    /// Adds addresses to a name that exists.
    pub fn add(&self, name: &str, addresses: &[IpAddr]) -> Result<()> {
        self.shared.zone().change(name, |known| {
            known.extend(addresses.iter().filter(|new| !known.contains(new)).copied().collect::<Vec<_>>());
        })
    }

    /// Removes addresses from a name that exists; the name stays.
    pub fn remove(&self, name: &str, addresses: &[IpAddr]) -> Result<()> {
        self.shared.zone().change(name, |known| known.retain(|address| !addresses.contains(address)))
    }

    /// Removes a name; it is NXDOMAIN afterwards.
    pub fn remove_name(&self, name: &str) {
        self.shared.zone().remove(name);
    }

    /// The addresses that a name has now.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.shared.zone().get(name).map(|records| records.addresses.clone()).unwrap_or_default()
    }

    /// Makes the server misbehave for every name, or (`None`) behave again.
    pub fn set_fault(&self, fault: impl Into<Option<Fault>>) {
        self.shared.zone().set_fault(None, fault.into());
    }

    /// Makes the server misbehave for one name; it takes precedence over [`DnsServer::set_fault`].
    pub fn set_fault_for(&self, name: &str, fault: impl Into<Option<Fault>>) {
        self.shared.zone().set_fault(Some(name), fault.into());
    }

    /// How many queries arrived since the start.
    pub fn queries(&self) -> Queries {
        Queries { udp: self.shared.udp.load(Ordering::Relaxed), tcp: self.shared.tcp.load(Ordering::Relaxed) }
    }

    /// When the last answer began to be sent, if there was one.
    pub fn last_answer(&self) -> Option<Instant> {
        *self.shared.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed already.
            let _ = thread.join();
        }
    }
}

fn check(name: &str) -> Result<()> {
    let reason = match hickory_proto::rr::Name::from_ascii(name) {
        Err(error) => error.to_string(),
        Ok(_) if !zone::in_domain(&zone::key(name)) => format!("the server is the authority for {DOMAIN}."),
        Ok(_) => return Ok(()),
    };
    Err(Error::Invalid { what: "the name", value: name.into(), reason })
}
