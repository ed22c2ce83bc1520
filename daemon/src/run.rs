//! `minionetd run`: the loop that turns events into rounds of lookup and reconciliation.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ArgMatches;
use minionet_core::config::Config;
use minionet_core::membership::Round;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

use crate::causes::chain;
use crate::collector;
use crate::health::Reporter;
use crate::logging;
use crate::memory;
use crate::node::Node;
use crate::notices::Notices;
use crate::notify::Manager;
use crate::resolve::Lookups;
use crate::service::Service;
use crate::settings;

/// How long to wait after a notification for those that follow it, before looking at the tables.
const DEBOUNCE: Duration = Duration::from_millis(10);

/// Runs until a signal asks to stop. Nothing is torn down then: the overlay stays as it is, so
/// that a restart or an upgrade costs no packet.
///
/// # Errors
/// When the daemon cannot start: a bad setting, or no netlink.
pub fn run(matches: &ArgMatches) -> Result<()> {
    memory::set_up();
    let config = settings::gather(matches)?;
    logging::start(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the event loop")?.block_on(watch(config, matches))
}

async fn watch(config: Config, matches: &ArgMatches) -> Result<()> {
    let mut names = config.names();
    info!(version = env!("CARGO_PKG_VERSION"), names = names.join(" "), "minionetd starts");
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let mut audit = Instant::now();
    let mut lookups = Some(Lookups::new(&config));
    let mut asking: Option<JoinHandle<(Lookups, Round)>> = None;
    let mut refresh = Instant::now();
    // Listening begins before the first look at the tables, so that nothing falls between.
    let mut notices = Notices::open()?;
    let mut repair: Option<Instant> = None;
    let collector = collector::start(&config)?;
    let mut reporter = Reporter::default();
    let mut service = Service::start(&config, collector.clone());
    let mut node = Node::new(config)?;
    let mut manager = Manager::new();
    manager.ready();

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
            () = sleep_until(audit) => {
                node.reconcile();
                audit = Instant::now() + node.audit_interval();
            }
            noticed = notices.next(node.interest()) => {
                let noticed = noticed?;
                if noticed.way_free {
                    node.way_free();
                }
                if noticed.changed || noticed.way_free {
                    // Changes come in bursts: the first of them starts the wait.
                    repair.get_or_insert(Instant::now() + DEBOUNCE);
                }
            }
            () = sleep_until(repair.unwrap_or_else(Instant::now)), if repair.is_some() => {
                repair = None;
                node.reconcile();
            }
            () = sleep(node.again().unwrap_or_default()), if node.again().is_some() => node.reconcile(),
            _ = hangup.recv() => {
                manager.reloading();
                match reload(&mut node, matches) {
                    Ok(config) => {
                        info!("configuration taken over");
                        names = config.names();
                        audit = Instant::now();
                        collector.reconfigure(&config);
                        service.reconfigure(&config);
                        // A question that is on its way goes back to nobody; the next one asks anew.
                        asking = None;
                        lookups = Some(Lookups::new(&config));
                        refresh = Instant::now();
                    }
                    Err(error) => error!("the configuration stays as it was: {}", chain(&error)),
                }
                manager.ready();
            }
            () = node.probe().due() => {
                node.work_probe();
                // Dozens of times a second, and nothing of what is told below depends on it.
                continue;
            }
            () = node.trace().due() => node.work_trace(),
            work = service.next() => {
                service.work(work, &node);
                memory::give_back();
            }
            () = manager.due() => manager.alive(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        let state = node.state();
        manager.status(&state);
        reporter.report(state, node.audit_interval());
        service.notice(&node);
    }
    manager.stopping();
    service.stop(&node);
    node.probe().finish();
    warn!("minionetd stops; the overlay stays as it is");
    Ok(())
}

/// Reads the configuration anew and takes it over.
fn reload(node: &mut Node, matches: &ArgMatches) -> Result<Config> {
    let config = settings::gather(matches)?;
    node.reconfigure(config.clone())?;
    Ok(config)
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
