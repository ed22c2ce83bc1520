//! A thread that cleans up after pods.
//!
//! It destroys the interfaces that DEL leaves to it, all that wait together, makes the kernel forget
//! the connections of these pods, and now and then removes what killed calls left. It is a thread
//! because the kernel takes its time to destroy interfaces. As long as it lives it holds the lock by
//! which the plugin knows that it does.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use minionet_core::addr::Family;
use minionet_core::config::Config;
use minionet_core::constants::{DOOMED_GROUP, ROUTE_PROTOCOL_POD, RUN_DIR};
use minionet_core::handoff::{self, NodeFacts};
use minionet_netlink::Socket;
use minionet_netlink::departures::{Departures, Heard};
use minionet_pods::capabilities;
use minionet_pods::collector::{Collector, Outcome, Scope, Tally};
use minionet_pods::heartbeat::{BEAT, Heartbeat};
use minionet_pods::store::Store;
use tracing::{debug, error, info, warn};

use crate::causes::chain;

/// How long nobody may have left before the interfaces of those who have are destroyed. Destroying
/// keeps everybody for some 20 milliseconds from changing a network, however many interfaces it is
/// about: the DELs of a drain, which come faster than this one after the other, must not wait for
/// the destruction of what the first of them left.
const GATHER: Duration = Duration::from_millis(5);

/// How long an interface that is to be destroyed waits for others at the most.
const GATHER_AT_MOST: Duration = Duration::from_millis(250);

/// How soon after an interface disappeared by itself its attachment is looked at: its DEL is
/// probably on its way.
const SOON: Duration = Duration::from_secs(5);

/// How long to wait before anything is tried again that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// How often the thread looks, and for how long it waits.
#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: Duration,
    grace: Duration,
}

impl Pace {
    fn of(config: &Config) -> Self {
        Pace { interval: config.collect_interval, grace: config.collect_grace }
    }
}

/// The thread, to be told of another configuration, and to be asked what it did.
#[derive(Clone, Debug)]
pub struct Handle {
    pace: Arc<Mutex<Pace>>,
    tally: Arc<Mutex<Tally>>,
}

impl Handle {
    /// Has the thread follow another configuration; it notices within a beat.
    pub fn reconfigure(&self, config: &Config) {
        *lock(&self.pace) = Pace::of(config);
    }

    /// What it has removed since the start.
    pub fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }
}

/// What is shared is right after each statement, so whoever panicked left it so.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread; it ends with the process.
///
/// # Errors
/// When a thread cannot be started.
pub fn start(config: &Config) -> Result<Handle> {
    let handle = Handle { pace: Arc::new(Mutex::new(Pace::of(config))), tally: Arc::default() };
    let shared = handle.clone();
    let body = move || {
        loop {
            match work(&shared) {
                Ok(()) => warn!("another minionetd runs on this host: stop one of them"),
                Err(error) => {
                    lock(&shared.tally).failed += 1;
                    error!("pods are not cleaned up after: {}", chain(&error));
                }
            }
            pause(AGAIN);
        }
    };
    thread::Builder::new().name("collector".into()).spawn(body).context("cannot start a thread")?;
    Ok(handle)
}

/// Works until something fails; returns at once while another daemon does.
fn work(shared: &Handle) -> Result<()> {
    // Listening begins before the first look, so that nothing falls between.
    let mut departures = Departures::open()?;
    let mut socket = Socket::open()?;
    socket.enlarge_buffers();
    let Some(heartbeat) = Heartbeat::take(RUN_DIR.as_ref())? else { return Ok(()) };
    let store = Store::new(RUN_DIR);
    forget_earlier(&mut socket, &store)?;
    let mut collector = Collector::new(store, lock(&shared.pace).grace);
    let mut next = Instant::now();
    loop {
        heartbeat.beat()?;
        let Pace { interval, grace } = *lock(&shared.pace);
        collector.set_grace(grace);
        // It may have become shorter.
        next = next.min(Instant::now() + interval);
        if Instant::now() >= next {
            let outcome = collector.pass(&mut socket, &Scope::default(), Instant::now());
            lock(&shared.tally).add(&outcome);
            report(&outcome);
            next = Instant::now() + interval;
        }
        let mut heard = departures.wait(next.min(Instant::now() + BEAT))?;
        if heard.tells_of_leaving() {
            gather(&mut departures, &mut heard)?;
        }
        if heard.vanished {
            next = next.min(Instant::now() + SOON);
        }
        if heard.doomed {
            let start = Instant::now();
            socket.delete_group(DOOMED_GROUP)?;
            debug!(took = ?start.elapsed(), "interfaces destroyed");
        }
        forget(&mut socket, heard.withdrawn)?;
    }
}

/// Waits until nobody else leaves, but not for long.
fn gather(departures: &mut Departures, heard: &mut Heard) -> Result<()> {
    let end = Instant::now() + GATHER_AT_MOST;
    while Instant::now() < end {
        pause(GATHER);
        let later = departures.drain()?;
        let quiet = !later.tells_of_leaving();
        heard.and(later);
        if quiet {
            break;
        }
    }
    Ok(())
}

/// Makes the kernel forget the connections of pods that left while there was no daemon: their DELs did
/// not wait for that.
fn forget_earlier(socket: &mut Socket, store: &Store) -> Result<()> {
    let text = fs::read_to_string(Path::new(RUN_DIR).join(handoff::FILE)).unwrap_or_default();
    // Without the facts no pod was attached since the node started.
    let Ok(facts) = NodeFacts::parse(&text) else { return Ok(()) };
    let mut gone = capabilities::addresses_with_connections(&facts.blocks);
    // Of an attachment, although its route may be missing for the moment.
    for address in store.leased()? {
        gone.remove(&address);
    }
    forget(socket, gone)
}

/// Makes the kernel forget the connections of pods that are gone. Where an address is in use again
/// already, they are left to end by themselves: the new pod's cannot be told from them.
fn forget(socket: &mut Socket, mut gone: BTreeSet<IpAddr>) -> Result<()> {
    let families: BTreeSet<Family> = gone.iter().map(|address| Family::of(*address)).collect();
    for family in families {
        for route in socket.routes(family, ROUTE_PROTOCOL_POD)? {
            gone.remove(&route.dst.network());
        }
    }
    capabilities::forget_addresses(&gone);
    Ok(())
}

fn report(outcome: &Outcome) {
    for removed in &outcome.removed {
        info!("removed: {removed}");
    }
    for error in &outcome.failed {
        warn!("not removed: {error}");
    }
}

/// Lets others catch up, or does not try again in a hurry.
#[allow(clippy::disallowed_methods)]
fn pause(duration: Duration) {
    thread::sleep(duration);
}
