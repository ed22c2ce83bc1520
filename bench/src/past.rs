//! The past of a cluster, lived through in a second.
//!
//! How a node of thousands of peers is after twenty minutes cannot be waited for. But what it
//! knows by then is what its state machine and those of its peers have told each other, and these are
//! here: they meet in a loop without a network, by the kernel's own clock, and end at the present. What
//! the node has learned is written as a daemon writes it that stops, for the true one to go on with;
//! the peers go on with what they have become.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use minionet_core::addr::Family;
use minionet_core::constants::{DEFAULT_PORT, DEFAULT_VNI};
use minionet_core::membership::Now;
use minionet_core::overlay::overlay_mtu;
use minionet_core::plan::{AddressPlan, NodePlan};
use minionet_core::probe::{About, HEADER, Kind, Limits, Local, Message, Prober, Target, Transmit, Way};
use nix::time::{ClockId, clock_gettime};

/// The default of `probe_port`.
pub const PROBE_PORT: u16 = 4797;
/// The default of `probe_interval`.
const INTERVAL: Duration = Duration::from_secs(30);
/// The last minute.
const LATELY: Duration = Duration::from_secs(60);
/// Between two groups that come.
const STEP: Duration = Duration::from_secs(1);
/// A packet and its reply.
const ROUND_TRIP: Duration = Duration::from_micros(100);

/// What a minion has sent so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    /// Requests of the least size.
    pub small: usize,
    /// Larger ones.
    pub large: usize,
    /// Replies to others' requests.
    pub replies: usize,
}

impl Heard {
    /// Counts a message.
    pub fn count(&mut self, message: &Message) {
        match message.kind {
            Kind::Request if usize::from(message.size) == HEADER => self.small += 1,
            Kind::Request => self.large += 1,
            Kind::Reply => self.replies += 1,
            // To peers that do not answer.
            Kind::Hello => {}
        }
    }
}

/// A peer as it has become.
pub struct Acquainted {
    /// Who it is.
    pub plan: NodePlan,
    /// What it knows of the minion.
    pub prober: Prober,
}

/// The present.
pub struct Past {
    /// What the minion's daemon would have left in its file of results.
    pub left: String,
    /// The peers.
    pub peers: Vec<Acquainted>,
    /// How many small requests, large requests, and replies to others' the minion sent a second, in the
    /// last minute.
    pub rates: [f64; 3],
}

/// The time by the kernel's monotonic clock.
///
/// # Errors
/// When the kernel has none.
pub fn now() -> Result<Now> {
    let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).context("the monotonic clock")?;
    Ok(Now { monotonic: monotonic.into(), unix: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() })
}

/// Lets a minion and its peers get to know each other until now. Where the machine has not run for that
/// long, they come faster.
///
/// # Errors
/// When a node is outside of the plan, or the machine has only just started.
pub fn live(plan: &AddressPlan, minion: IpAddr, peers: &[IpAddr]) -> Result<Past> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("the number of the boot")?;
    let boot = u128::from_str_radix(&boot.trim().replace('-', ""), 16)?.to_be_bytes();
    let mtu = u16::try_from(overlay_mtu(Family::V4, 1500))?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let local = |node: &NodePlan| -> Result<Local> {
        let about = About { node: node.node, plan: plan.digest(), mtu, boot, version: version.clone() };
        Ok(Local { vtep: vtep(node)?, about })
    };
    let end = now()?;
    let limits = Limits::every(INTERVAL).with(peers.len(), 1);
    // The peers come one after the other within the time in which each is sent one packet of the full
    // size, so that these too are spread evenly; afterwards each is in touch once more.
    let afterwards = limits.interval * 13 / 10;
    let coming = (limits.mtu_recheck * 9 / 8).min(end.monotonic.saturating_sub(afterwards)).max(STEP);
    let minion = plan.node(minion)?;
    let own = local(&minion)?;
    let mut world = World {
        minion: Prober::new(limits.clone(), 1),
        target: Target { node: minion.node, vtep: own.vtep, missing: false },
        own,
        limits,
        peers: BTreeMap::new(),
        due: BTreeSet::new(),
        heard: Heard::default(),
        time: Duration::ZERO,
    };
    let mut expected = Vec::new();
    for address in peers {
        let plan = plan.node(*address)?;
        expected.push((local(&plan)?, plan));
    }
    let begin = end.monotonic.saturating_sub(coming + afterwards);
    let at = |monotonic: Duration| Now {
        monotonic,
        unix: end.unix - end.monotonic.saturating_sub(monotonic).as_secs(),
    };
    let mut time = begin;
    while time < begin + coming {
        time += STEP;
        let share = (time - begin).as_secs_f64() / coming.as_secs_f64();
        let here = ((peers.len() as f64 * share).ceil() as usize).min(peers.len());
        world.come(&expected[..here], at(time));
        world.go_on(at, time + STEP);
    }
    world.go_on(at, end.monotonic.saturating_sub(LATELY));
    let before = world.heard;
    world.go_on(at, end.monotonic);
    let rate = |before: usize, after: usize| (after - before) as f64 / LATELY.as_secs_f64();
    let after = world.heard;
    let rates = [
        rate(before.small, after.small),
        rate(before.large, after.large),
        rate(before.replies, after.replies),
    ];
    let way = Way { port: PROBE_PORT, vxlan_port: DEFAULT_PORT, vni: DEFAULT_VNI };
    let view = world.minion.view(end).context("the minion has no place")?;
    let left = world.minion.leave(way, end).context("the minion leaves nothing")?.to_text(&view);
    let mut peers = Vec::new();
    for (local, plan) in expected {
        let prober = world.peers.remove(&local.vtep).context("a peer was never met")?;
        peers.push(Acquainted { plan, prober });
    }
    Ok(Past { left, peers, rates })
}

/// The address of a node's VTEP.
///
/// # Errors
/// When it has none.
pub fn vtep(node: &NodePlan) -> Result<IpAddr> {
    Ok(node.blocks.first().context("a node without pods")?.gateway)
}

struct World {
    minion: Prober,
    own: Local,
    target: Target,
    limits: Limits,
    peers: BTreeMap<IpAddr, Prober>,
    /// When there is something to do for which peer.
    due: BTreeSet<(Duration, IpAddr)>,
    heard: Heard,
    time: Duration,
}

impl World {
    /// Lets these be all peers that there are.
    fn come(&mut self, here: &[(Local, NodePlan)], now: Now) {
        for (local, _) in &here[self.peers.len()..] {
            let mut prober = Prober::new(self.limits.clone(), self.peers.len() as u64);
            prober.update(local.clone(), [self.target], now);
            self.due.extend(prober.next_wake(now).map(|at| (at, local.vtep)));
            self.peers.insert(local.vtep, prober);
        }
        let targets =
            here.iter().map(|(local, plan)| Target { node: plan.node, vtep: local.vtep, missing: false });
        self.minion.update(self.own.clone(), targets, now);
    }

    /// Lets time pass.
    fn go_on(&mut self, at: impl Fn(Duration) -> Now, end: Duration) {
        loop {
            let wakes = [self.minion.next_wake(at(self.time)), self.due.first().map(|(at, _)| *at)];
            let Some(next) = wakes.into_iter().flatten().min().filter(|next| *next < end) else { break };
            // What waits for the present to end waits for the next packet.
            self.time = if next > self.time { next } else { self.time + ROUND_TRIP };
            self.work(at(self.time));
        }
        self.time = self.time.max(end);
    }

    /// Does what is due.
    fn work(&mut self, now: Now) {
        let later = Now { monotonic: now.monotonic + ROUND_TRIP, ..now };
        while let Some(transmit) = self.minion.poll(now) {
            let Transmit::Datagram { to, payload } = transmit else { continue };
            self.note(&payload);
            let Some(peer) = self.peers.get_mut(&to) else { continue };
            if let Some(reply) = peer.receive(self.own.vtep, &payload, now) {
                self.minion.receive(to, &reply, later);
            }
            self.due.extend(peer.next_wake(later).map(|at| (at, to)));
        }
        while let Some((due, vtep)) = self.due.first().copied().filter(|(due, _)| *due <= now.monotonic) {
            self.due.remove(&(due, vtep));
            let Some(peer) = self.peers.get_mut(&vtep) else { continue };
            let mut replies = Vec::new();
            while let Some(transmit) = peer.poll(now) {
                let Transmit::Datagram { payload, .. } = transmit else { continue };
                replies.extend(self.minion.receive(vtep, &payload, now));
            }
            for reply in &replies {
                peer.receive(self.own.vtep, reply, later);
            }
            self.due.extend(peer.next_wake(later).map(|at| (at.max(later.monotonic), vtep)));
            replies.iter().for_each(|reply| self.note(reply));
        }
    }

    fn note(&mut self, payload: &[u8]) {
        if let Ok(message) = Message::decode(payload) {
            self.heard.count(&message);
        }
    }
}
