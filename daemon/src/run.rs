//! `minionetd run`: the loop that turns events into rounds of lookup and reconciliation.

use std::time::Duration;

use anyhow::{Context, Result};
use minionet_core::config::Config;
use minionet_core::membership::Round;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{info, warn};

use crate::logging;
use crate::node::Node;
use crate::notices::Notices;
use crate::resolve::Lookups;

/// How long to wait after a notification for those that follow it, before looking at the tables.
const DEBOUNCE: Duration = Duration::from_millis(10);

/// Runs until a signal asks to stop. Nothing is torn down then: the overlay stays as it is, so
/// that a restart or an upgrade costs no packet.
///
/// # Errors
/// When the daemon cannot start: a bad setting, or no netlink.
pub fn run(config: Config) -> Result<()> {
    logging::start(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the event loop")?.block_on(watch(config))
}

async fn watch(config: Config) -> Result<()> {
    let names = config.names();
    info!(version = env!("CARGO_PKG_VERSION"), names = names.join(" "), "minionetd starts");
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut audit = interval(config.audit_interval);
    audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lookups = Some(Lookups::new(config.resolvers.clone(), config.dns_timeout));
    let mut asking: Option<JoinHandle<(Lookups, Round)>> = None;
    let mut refresh = Instant::now();
    // Listening begins before the first look at the tables, so that nothing falls between.
    let mut notices = Notices::open()?;
    let mut repair: Option<Instant> = None;
    let mut node = Node::new(config)?;

    loop {
        tokio::select! {
            // Only while nobody is asking: a slow server delays the next question, nothing else.
            () = sleep_until(refresh), if asking.is_none() => {
                let names = names.clone();
                asking = lookups.take().map(|lookups| tokio::spawn(ask(lookups, names)));
            }
            result = answered(&mut asking) => {
                asking = None;
                // A panic in there is a mistake; going on without lookups would hide it.
                let (returned, round) = result.context("the lookups ended unexpectedly")?;
                lookups = Some(returned);
                node.observe(&round);
                refresh = Instant::now() + node.next_refresh();
            }
            _ = audit.tick() => node.reconcile(),
            noticed = notices.next(node.interest()) => {
                if noticed? {
                    // Changes come in bursts: the first of them starts the wait.
                    repair.get_or_insert(Instant::now() + DEBOUNCE);
                }
            }
            () = sleep_until(repair.unwrap_or_else(Instant::now)), if repair.is_some() => {
                repair = None;
                node.reconcile();
            }
            () = node.probe().due() => node.work_probe(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    warn!("minionetd stops; the overlay stays as it is");
    Ok(())
}

async fn ask(mut lookups: Lookups, names: Vec<String>) -> (Lookups, Round) {
    let round = lookups.round(&names).await;
    (lookups, round)
}

/// Waits for the task, or for ever where there is none.
async fn answered<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// A random number, for the jitter of the refreshes: nodes that start together must not ask
/// together for ever.
pub fn random() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's own random keys; nothing here needs to be secret.
    RandomState::new().hash_one(Duration::ZERO) as u32
}
