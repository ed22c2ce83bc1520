//! The probe through the tunnel: gives the decisions of [`minionet_core::probe`] sockets, a clock
//! and a file for the results.
//!
//! It lives in the daemon's loop, and each visit to it is bounded: so many messages are read and
//! sent, and then others have their turn.

mod sockets;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use minionet_core::config::Config;
use minionet_core::constants::RUN_DIR;
use minionet_core::membership::{Liveness, Membership, Now};
use minionet_core::plan::{AddressPlan, NodePlan};
use minionet_core::probe::view::ProbeView;
use minionet_core::probe::{
    About, Event, Kept, Limits, Local, Prober, Target, Times, Transmit, Way, hello, view,
};
use tokio::time::sleep;
use tracing::{debug, info, warn};

pub use self::sockets::unfragmented;
use self::sockets::{Place, Sockets};
use crate::causes::chain;
use crate::clock::Clock;
use crate::run::random;
use crate::{files, memory};

/// The kernel's number for the present boot, random(4).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Most messages that are read at once, and most that are sent.
const BATCH: usize = 64;

/// Most findings that are logged at once; a failing switch is one event and not a thousand.
const LOGGED: usize = 20;

/// The least time between two opportunities to send: what is due in between goes together, so that
/// thousands of peers do not wake the daemon for each of them, and for each of their replies.
const GATHER: Duration = Duration::from_millis(50);

/// The same where the intervals are minutes, see [`Prober::is_patient`].
const GATHER_PATIENT: Duration = Duration::from_millis(500);

/// The largest UDP payload (RFC 768).
const DATAGRAM: usize = 65535;

/// Between two writings of the results; for a large cluster more, see [`Probe::pause`].
const WRITE_MIN: Duration = Duration::from_secs(1);

/// The longest pause between two writings of the results.
const WRITE_MAX: Duration = Duration::from_secs(120);

/// The pause for each peer.
const WRITE_PER_PEER: Duration = Duration::from_millis(24);

/// The probe of this node.
pub struct Probe {
    port: Option<u16>,
    vxlan_port: u16,
    vni: u32,
    boot: [u8; 16],
    /// One that goes on after this process.
    clock: Clock,
    prober: Prober,
    sockets: Option<Sockets>,
    buffer: Vec<u8>,
    /// Whether what an earlier daemon left was looked for.
    recalled: bool,
    /// Why there are no sockets, as it was last logged.
    trouble: Option<String>,
    /// When the results are to be written next.
    write: Duration,
    /// When there was last an opportunity to send.
    sent: Duration,
    /// How long to wait until the next one.
    gather: Duration,
    peers: usize,
}

impl Probe {
    /// A probe that waits to be told where it is.
    pub fn new(config: &Config) -> Self {
        let seed = u64::from(random()) << 32 | u64::from(random());
        Probe {
            port: config.probe_port,
            vxlan_port: config.port,
            vni: config.vni,
            boot: boot_id(),
            clock: Clock::of_boot(),
            prober: Prober::new(Limits::every(config.probe_interval), seed),
            sockets: None,
            buffer: if config.probe_port.is_some() { vec![0; DATAGRAM] } else { Vec::new() },
            recalled: false,
            trouble: None,
            write: Duration::ZERO,
            sent: Duration::ZERO,
            gather: GATHER,
            peers: 0,
        }
    }

    /// Takes over where this node is and who its peers are. The overlay is in place by then.
    pub fn update(
        &mut self,
        plan: &AddressPlan,
        me: &NodePlan,
        mtu: u32,
        peers: &[NodePlan],
        membership: &Membership,
    ) {
        let Some(port) = self.port else { return };
        let Some(block) = me.blocks.first() else { return };
        let place = Place { vtep: block.gateway, node: me.node, port };
        if !self.sockets.as_ref().is_some_and(|s| s.are_at(place)) {
            self.sockets = None;
            match Sockets::open(place) {
                Ok(sockets) => {
                    self.sockets = Some(sockets);
                    self.trouble = None;
                    info!(address = %block.gateway, port, "peers are probed through the tunnel");
                }
                Err(error) => {
                    let text = format!("peers are not probed: {}", chain(&error));
                    if self.trouble.as_ref() != Some(&text) {
                        warn!("{text}");
                    }
                    self.trouble = Some(text);
                }
            }
        }
        let about = About {
            node: me.node,
            plan: plan.digest(),
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            boot: self.boot,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let missing: std::collections::BTreeSet<_> = membership.missing().collect();
        let target = |peer: &NodePlan| {
            let block = peer.blocks.first()?;
            Some(Target { node: peer.node, vtep: block.gateway, missing: missing.contains(&peer.node) })
        };
        self.peers = peers.len();
        let local = Local { vtep: block.gateway, about };
        let recalled = std::mem::replace(&mut self.recalled, true);
        if !recalled {
            self.recall(port);
        }
        self.prober.update(local, peers.iter().filter_map(target), self.clock.now());
        let alive = |(_, liveness): &(_, _)| *liveness == Liveness::Alive;
        let known = if recalled { 0 } else { self.prober.liveness().filter(alive).count() };
        if known > 0 {
            info!(known, peers = self.peers, "these answered an earlier run, and are not met anew");
        }
    }

    /// Takes what an earlier daemon left when it was asked to stop. Where there is nothing of use, all
    /// peers are met anew, which is no trouble.
    fn recall(&mut self, port: u16) {
        let text = std::fs::read_to_string(Path::new(RUN_DIR).join(view::FILE)).unwrap_or_default();
        if let Some(kept) = Kept::parse(&text) {
            self.prober.take_over(kept, self.way(port));
        }
    }

    fn way(&self, port: u16) -> Way {
        Way { port, vxlan_port: self.vxlan_port, vni: self.vni }
    }

    /// What is known of the peers that are probed.
    pub fn liveness(&self) -> impl Iterator<Item = (IpAddr, Liveness)> + '_ {
        self.prober.liveness()
    }

    /// Tells membership who answers.
    pub fn testify(&self, membership: &mut Membership, now: Now) {
        for (peer, liveness) in self.prober.liveness() {
            membership.set_liveness(peer, liveness, now);
        }
    }

    /// Waits until there is something to do; for ever where there is no probe.
    pub async fn due(&self) {
        let Some(sockets) = &self.sockets else { return std::future::pending().await };
        let now = self.clock.now();
        let wake = self.prober.next_wake(now).map(|wake| wake.max(self.sent + self.gather));
        let wake = wake.map_or(self.write, |wake| wake.min(self.write));
        tokio::select! {
            result = sockets.readable() => {
                if let Err(error) = result {
                    debug!("the probe's socket: {error}");
                }
            }
            () = sleep(wake.saturating_sub(now.monotonic)) => {}
        }
    }

    /// Does what there is to do: at most [`BATCH`] messages in each direction.
    pub fn work(&mut self) {
        // What has arrived in time must not count as lost because we come late: as long as there
        // is more to read, nothing else is done.
        if self.receive() {
            self.send();
            let now = self.clock.now();
            self.sent = now.monotonic;
            self.gather = if self.prober.is_patient(now) { GATHER_PATIENT } else { GATHER };
        }
        log(self.prober.events());
        let now = self.clock.now();
        if now.monotonic >= self.write {
            self.write = now.monotonic + self.pause();
            if let Err(error) = self.save(None, now) {
                warn!("the results of the probe are not written: {}", chain(&error));
            }
            memory::give_back();
        }
    }

    /// Takes what has arrived; says whether that was all.
    fn receive(&mut self) -> bool {
        let Some(sockets) = &self.sockets else { return true };
        for _ in 0..BATCH {
            let Some(len) = sockets.receive_hello(&mut self.buffer) else { break };
            self.prober.receive_hello(&self.buffer[..len]);
        }
        for _ in 0..BATCH {
            let Some((len, from)) = sockets.receive(&mut self.buffer) else { return true };
            let reply = self.prober.receive(from.ip(), &self.buffer[..len], self.clock.now());
            if let Some(reply) = reply
                && let Err(error) = sockets.send(from, &reply)
            {
                debug!(to = %from, "a reply is not sent: {error}");
            }
        }
        false
    }

    fn send(&mut self) {
        let (Some(sockets), Some(port)) = (&self.sockets, self.port) else { return };
        for _ in 0..BATCH {
            let Some(transmit) = self.prober.poll(self.clock.now()) else { return };
            // What cannot be sent is lost, and counts as such.
            let (to, result) = match transmit {
                Transmit::Datagram { to, payload } => (to, sockets.send((to, port).into(), &payload)),
                Transmit::Hello { to, payload } => {
                    let frame = hello::frame(self.vni, port, &payload);
                    (to, sockets.send_frame(SocketAddr::new(to, self.vxlan_port), &frame))
                }
            };
            if let Err(error) = result {
                debug!(%to, "a probe is not sent: {error}");
            }
        }
    }

    /// The results, where there are any.
    pub fn view(&self) -> Option<ProbeView> {
        self.prober.view(self.clock.now())
    }

    /// Times of all peers together since the start.
    pub fn times(&self) -> &Times {
        self.prober.times()
    }

    /// Leaves the results as they are now, for the commands, and what the next daemon goes on with.
    pub fn finish(&self) {
        let now = self.clock.now();
        let kept = self.port.and_then(|port| self.prober.leave(self.way(port), now));
        if let Err(error) = self.save(kept.as_ref(), now) {
            warn!("the results of the probe are not written: {}", chain(&error));
        }
    }

    fn save(&self, kept: Option<&Kept>, now: Now) -> Result<()> {
        let Some(view) = self.prober.view(now) else { return Ok(()) };
        let text = kept.map_or_else(|| view.to_text(), |kept| kept.to_text(&view));
        let path = Path::new(RUN_DIR).join(view::FILE);
        files::replace(&path, &text, 0o644).map(drop).context("the file of the results")
    }

    /// The pause between two writings: writing is to take a small share of the time, however many peers
    /// there are.
    fn pause(&self) -> Duration {
        let peers = u32::try_from(self.peers).unwrap_or(u32::MAX);
        WRITE_PER_PEER.saturating_mul(peers).clamp(WRITE_MIN, WRITE_MAX)
    }
}

/// The present boot, or zeros where the kernel does not tell.
pub fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string(BOOT_ID).unwrap_or_default().replace('-', "");
    u128::from_str_radix(text.trim(), 16).unwrap_or_default().to_be_bytes()
}

fn log(events: Vec<Event>) {
    let more = events.len().saturating_sub(LOGGED);
    for event in events.into_iter().take(LOGGED) {
        match event {
            problem if problem.is_problem() => warn!("{problem}"),
            // At the start, every peer is one.
            Event::Alive { dead: None, .. } => debug!("{event}"),
            other => info!("{other}"),
        }
    }
    if more > 0 {
        warn!("the probe found out about {more} more peers; see {RUN_DIR}/{}", view::FILE);
    }
}
