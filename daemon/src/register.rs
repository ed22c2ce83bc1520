//! Self-registration: gives the decisions of [`minionet_core::register`] a server, files and a
//! clock.
//!
//! It is a task of its own, so that a slow server delays nothing else. It hears of the cluster
//! after every round of lookups, and tells how it goes in a file.

mod command;
mod place;
mod wire;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use minionet_core::config::Config;
use minionet_core::constants::RUN_DIR;
use minionet_core::membership::{Liveness, Round};
use minionet_core::register::{
    Event, Failure, Finding, Ledger, Registrar, Registration, Report, Sight, Task, Update, lease_name,
};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

pub use self::command::{deregister, register};
use self::place::Lock;
use self::wire::Primary;
use crate::causes::chain;
use crate::clock::Clock;
use crate::files;
use crate::resolve;
use crate::run::random;

/// How long to wait when one of the operator's commands is at work.
const BUSY: Duration = Duration::from_millis(200);

/// The kubelet's port. Whether it is open or closed, a machine that lives answers there.
const KUBELET: u16 = 10250;

/// How long a machine may take to answer, at most.
const KNOCK: Duration = Duration::from_secs(2);

/// The registration of this node, if it registers itself.
pub struct Register {
    running: Option<Running>,
}

struct Running {
    config: Config,
    sights: watch::Sender<Sight>,
    /// How it goes.
    told: watch::Receiver<Registration>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // At whatever point: the ledger tells the next run what may have been sent.
        self.task.abort();
    }
}

impl Register {
    /// Starts, if the configuration says so.
    pub fn start(config: &Config, clock: Clock) -> Self {
        if !config.register.enabled {
            // What an earlier run told is so no more.
            let _not_there = fs::remove_file(report_file());
            return Register { running: None };
        }
        let (sights, heard) = watch::channel(Sight::default());
        let first = Registration { name: config.registered_name(), ..Registration::default() };
        let (tell, told) = watch::channel(first);
        let task = tokio::spawn(Worker::new(config, clock, heard, tell).run());
        Register { running: Some(Running { config: config.clone(), sights, told, task }) }
    }

    /// How registration goes; none where this node does not register itself.
    pub fn registration(&self) -> Option<Registration> {
        self.running.as_ref().map(|running| running.told.borrow().clone())
    }

    /// Whether that has changed since this was asked last.
    pub fn has_news(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| {
            let changed = running.told.has_changed().unwrap_or_default();
            running.told.mark_unchanged();
            changed
        })
    }

    /// Takes over another configuration.
    pub fn reconfigure(&mut self, config: &Config, clock: Clock) {
        let same = |running: &Running| running.config == *config;
        if !self.running.as_ref().is_some_and(same) {
            // The old one ends before the new one begins.
            self.running = None;
            *self = Register::start(config, clock);
        }
    }

    /// Tells what a round of lookups and the probe show.
    pub fn tell<P>(&self, round: &Round, own: Option<IpAddr>, peers: P)
    where
        P: IntoIterator<Item = (IpAddr, Liveness)>,
    {
        if let Some(running) = &self.running {
            if running.task.is_finished() {
                warn!("registration has ended unexpectedly: restart minionetd");
            }
            let name = running.config.registered_name();
            running.sights.send_replace(Sight::new(round, &name, own, peers));
        }
    }
}

struct Worker {
    config: Config,
    clock: Clock,
    sights: watch::Receiver<Sight>,
    registrar: Registrar,
    primary: Option<Primary>,
    registration: Registration,
    tell: watch::Sender<Registration>,
    /// How it was last told in the file.
    written: Option<Registration>,
}

impl Worker {
    fn new(
        config: &Config,
        clock: Clock,
        sights: watch::Receiver<Sight>,
        tell: watch::Sender<Registration>,
    ) -> Self {
        let name = config.registered_name();
        // Twice 32 random bits: the lease of another run must never be taken for one of this.
        let id = format!("{:08x}{:08x}", random(), random());
        Worker {
            registrar: Registrar::new(&config.register, &name, &id, place::ledger()),
            registration: Registration { name, ..Registration::default() },
            tell,
            written: None,
            config: config.clone(),
            clock,
            sights,
            primary: None,
        }
    }

    async fn run(mut self) {
        info!(name = self.registrar.name(), "this node registers itself in DNS");
        loop {
            // What was seen before a registration must not be taken for what is seen after it.
            if self.sights.has_changed().unwrap_or_default() {
                self.observe();
            }
            let left = place::has_left();
            if left != self.registration.left {
                info!(
                    "{}",
                    if left { "this node was taken out of DNS" } else { "this node is taken in again" }
                );
            }
            self.registration.left = left;
            if left {
                self.registrar.left();
            } else if let Some(task) = self.registrar.poll(self.clock.now()) {
                if !self.work(task).await {
                    sleep(BUSY).await;
                }
                self.tell();
                continue;
            }
            self.tell();
            let wake = self.registrar.next_wake().filter(|_| !left);
            let pause = wake.map(|wake| wake.saturating_sub(self.clock.now().monotonic));
            tokio::select! {
                changed = self.sights.changed() => match changed {
                    // To wait for a change counts as having seen it.
                    Ok(()) => self.observe(),
                    Err(_) => return,
                },
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    fn observe(&mut self) {
        let sight = self.sights.borrow_and_update().clone();
        self.registrar.observe(sight, self.clock.now());
    }

    /// Does one thing; says whether it could be tried.
    async fn work(&mut self, task: Task) -> bool {
        match task {
            Task::Register { ledger, update } => {
                let Some((_lock, result)) = self.register(&ledger, &update).await else { return false };
                let now = self.clock.now();
                log(&self.registrar.registered(result.as_ref().copied(), now, random()));
                match result {
                    Ok(()) => {
                        if self.registration.trouble.take().is_some() {
                            info!("registration works again");
                        }
                        self.registration.renewed = Some(now.unix);
                        self.registration.acknowledged += 1;
                        self.registration.failures = 0;
                    }
                    Err(Failure::Changed) => {}
                    Err(failure) => self.trouble(&failure),
                }
                // What is known now; where it cannot be written, the next registration says so.
                let _said_later = place::save(&self.registrar.ledger());
            }
            Task::Inspect(peers) => self.inspect(&peers).await,
            Task::Remove(peer, update) => {
                let result = self.send(&update).await;
                match &result {
                    Ok(()) => self.registration.removed += 1,
                    Err(failure) => debug!(%peer, "the record is not removed: {failure}"),
                }
                log(&self.registrar.removed(peer, result.as_ref().copied()));
            }
        }
        true
    }

    /// Registers, unless one of the operator's commands is at work or has taken this node out.
    async fn register(
        &mut self,
        ledger: &Ledger,
        update: &Update,
    ) -> Option<(Option<Lock>, Result<(), Failure>)> {
        let local = |error: anyhow::Error| Err(Failure::Local(chain(&error)));
        let lock = match Lock::try_take() {
            Ok(lock) => Some(lock?),
            Err(error) => return Some((None, local(error))),
        };
        if place::has_left() {
            return None;
        }
        let result = match place::save(ledger) {
            Ok(()) => self.send(update).await,
            Err(error) => local(error),
        };
        Some((lock, result))
    }

    async fn send(&mut self, update: &Update) -> Result<(), Failure> {
        let key = place::key(&self.config.register.key_file)?;
        let primary = self.primary().await?;
        let result = primary.update(&key, update).await;
        self.forget_after(&result);
        result
    }

    /// Looks after peers that seem dead: all of them at once, as each may take its time.
    async fn inspect(&mut self, peers: &[IpAddr]) {
        // Short beside the time between two looks, which must not have a gap.
        let knock = self.config.register.lease.map_or(KNOCK, |lease| KNOCK.min(lease / 10));
        let mut knocks = JoinSet::new();
        for peer in peers.iter().copied() {
            knocks.spawn(async move { (peer, answers(peer, knock).await) });
        }
        let mut alive = BTreeSet::new();
        while let Some(knocked) = knocks.join_next().await {
            alive.extend(knocked.ok().filter(|(_, answers)| *answers).map(|(peer, _)| peer));
        }
        for peer in peers.iter().copied() {
            let lease = self.lease(peer).await;
            if let Err(failure) = &lease {
                debug!(%peer, "the lease cannot be read: {failure}");
            }
            let finding = lease.ok().map(|lease| Finding { lease, answers: alive.contains(&peer) });
            log(&self.registrar.inspected(peer, finding, self.clock.now()));
        }
    }

    async fn lease(&mut self, peer: IpAddr) -> Result<Option<String>, Failure> {
        let key = place::key(&self.config.register.key_file)?;
        let primary = self.primary().await?;
        let lease = primary.text(&key, &lease_name(self.registrar.name(), peer)).await;
        self.forget_after(&lease);
        lease
    }

    /// The server of the zone, looked up anew after a failure.
    async fn primary(&mut self) -> Result<Primary, Failure> {
        if let Some(primary) = &self.primary {
            return Ok(primary.clone());
        }
        let primary = find(&self.config, self.registrar.name()).await?;
        info!(zone = primary.zone, server = primary.label(), "updates go to the primary server");
        self.registration.zone = Some(primary.zone.clone());
        self.registration.server = Some(primary.label());
        self.primary = Some(primary.clone());
        Ok(primary)
    }

    fn forget_after<T>(&mut self, result: &Result<T, Failure>) {
        if !matches!(result, Ok(_) | Err(Failure::Changed)) {
            self.primary = None;
        }
    }

    fn trouble(&mut self, failure: &Failure) {
        let text = failure.to_string();
        // Once, not with every attempt.
        if self.registration.trouble.as_ref() != Some(&text) {
            warn!("this node cannot register itself: {text}");
        }
        self.registration.trouble = Some(text);
        self.registration.failed += 1;
        self.registration.failures += 1;
    }

    /// Tells how it goes, if that has changed.
    fn tell(&mut self) {
        self.registration.address = self.registrar.sight().own.filter(|_| self.registrar.is_registered());
        self.registration.suspects = self.registrar.suspects();
        if self.written.as_ref() == Some(&self.registration) {
            return;
        }
        self.tell.send_replace(self.registration.clone());
        let text = Report::new(self.registration.clone()).to_text();
        match files::replace(&report_file(), &text, 0o644) {
            Ok(_) => self.written = Some(self.registration.clone()),
            Err(error) => warn!("how registration goes cannot be told: {}", chain(&error)),
        }
    }
}

/// Where others read how it goes.
fn report_file() -> PathBuf {
    Path::new(RUN_DIR).join(Report::FILE)
}

/// The zone and the primary server of a name.
async fn find(config: &Config, name: &str) -> Result<Primary, Failure> {
    let settings = &config.register;
    let resolvers: Vec<SocketAddr> = match (&settings.zone, &settings.server) {
        // Nothing has to be looked up.
        (Some(_), Some(minionet_core::register::Server::Address(_))) => Vec::new(),
        _ => resolve::servers(&config.resolvers)
            .map_err(|cause| Failure::NoZone { name: name.to_owned(), cause })?,
    };
    wire::find(settings, name, &resolvers, config.dns_timeout).await
}

/// Whether a machine answers: a connection that is taken, and one that is refused.
async fn answers(peer: IpAddr, limit: Duration) -> bool {
    match timeout(limit, TcpStream::connect((peer, KUBELET))).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

fn log(events: &[Event]) {
    for event in events {
        if event.is_problem() {
            warn!("{event}");
        } else {
            info!("{event}");
        }
    }
}
