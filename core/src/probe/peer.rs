//! What is known of one peer, and what is under way to it.

mod restart;

use std::time::Duration;

use super::event::Event;
use super::kept::hex;
use super::message::About;
use super::path_mtu::PathMtu;
use super::stats::{Rtt, Times, Window};
use super::view::{Agreement, PathState, PeerProbe, RttView};
use super::{Limits, Local, Target};
use crate::membership::{Liveness, Now};

/// A large packet counts as lost sooner than a small one, because small ones that were sent with
/// it tell that the path is well; this is added to four round-trip times.
const SIZED_MARGIN: Duration = Duration::from_millis(500);

/// So many requests in a row that say that the peer does not hear us any more are no chance: it asks
/// once without knowing after a start of its own.
const DEAF: u8 = 2;

/// For so many intervals at most others' requests take the place of our own, which alone measure.
const MEASURE: u32 = 3;

/// A peer.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) target: Target,
    liveness: Liveness,
    /// Since when, and for people the same on the wall clock.
    since: Now,
    /// When it became a peer.
    added: Duration,
    /// Requests lost in a row.
    losses: u32,
    window: Window,
    rtt: Rtt,
    path: PathMtu,
    last_reply: Option<Now>,
    about: Option<About>,
    /// When to send the next small request.
    visit: Duration,
    /// The small request under way.
    small: Option<Sent>,
    /// The large request under way.
    sized: Option<Sent>,
    /// The size of a large request to send right after the small one.
    next_size: Option<u16>,
    /// Whether the latest small request was answered.
    small_passed: bool,
    /// How many requests have come since one that said that the peer hears us.
    deaf: u8,
    /// The time under which the peer stands in the queue.
    pub(super) queued: Duration,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    token: u64,
    at: Duration,
    size: u16,
}

impl Peer {
    pub(super) fn new(target: Target, local: &Local, visit: Duration, now: Now) -> Self {
        Peer {
            target,
            liveness: Liveness::Unknown,
            since: now,
            added: now.monotonic,
            losses: 0,
            window: Window::default(),
            rtt: Rtt::default(),
            path: PathMtu::new(local.about.mtu, local.least()),
            last_reply: None,
            about: None,
            visit,
            small: None,
            sized: None,
            next_size: None,
            small_passed: false,
            deaf: u8::MAX,
            queued: visit,
        }
    }

    pub(super) fn liveness(&self) -> Liveness {
        self.liveness
    }

    pub(super) fn set_full(&mut self, mtu: u16) {
        if mtu != self.path.full() {
            self.path.set_full(mtu);
            self.next_size = None;
        }
    }

    /// When there is something to do for it.
    pub(super) fn due(&self) -> Duration {
        if self.next_size.is_some() {
            // As soon as may be: it belongs to the small request before it.
            return Duration::ZERO;
        }
        let small = self.small.map(|sent| sent.at + self.timeout());
        let sized = self.sized.map(|sent| sent.at + self.sized_timeout());
        let under_way = match (small, sized) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        under_way.unwrap_or(self.visit)
    }

    /// Whether a request is to be sent now.
    pub(super) fn sends(&self, now: Duration) -> bool {
        self.next_size.is_some() || self.small.is_none() && self.sized.is_none() && self.visit <= now
    }

    /// The size of the request to send now, in octets of IP; takes note that it is sent.
    pub(super) fn send(&mut self, token: u64, local: &Local, limits: &Limits, now: Duration) -> u16 {
        if let Some(size) = self.next_size.take() {
            self.sized = Some(Sent { token, at: now, size });
            return size;
        }
        let settled = self.liveness == Liveness::Alive && self.losses == 0;
        if settled
            && limits.share
            && let Some(size) = self.path.again(now, limits)
        {
            // Alone it tells the same as both while it is answered; if it is not, both follow at once.
            self.sized = Some(Sent { token, at: now, size });
            self.small_passed = false;
            return size;
        }
        self.small = Some(Sent { token, at: now, size: local.least() });
        if settled {
            self.next_size = self.path.wanted(now, limits);
        }
        local.least()
    }

    /// Takes note of requests whose time is over. `dice` is any number, for the jitter.
    pub(super) fn expire(&mut self, now: Now, limits: &Limits, dice: u32) -> Option<Event> {
        let over = |sent: &Sent, timeout: Duration| sent.at + timeout <= now.monotonic;
        let mut event = None;
        if self.small.is_some_and(|sent| over(&sent, self.timeout())) {
            self.small = None;
            self.small_passed = false;
            self.window.push(true);
            self.losses = self.losses.saturating_add(1);
            if self.losses >= limits.dead_after && self.liveness != Liveness::Dead {
                self.enter(Liveness::Dead, now);
                event = Some(Event::Dead {
                    peer: self.target.node,
                    losses: self.losses,
                    answered: self.last_reply.is_some(),
                });
            }
            self.plan_visit(now.monotonic, limits, dice);
        }
        if let Some(sent) = self.sized.filter(|sent| over(sent, self.sized_timeout())) {
            self.sized = None;
            // Where small packets are lost as well, the loss says nothing about the size.
            if self.small.is_none() && self.small_passed {
                let before = self.path.known();
                let found = self.path.lost(sent.size, now.monotonic, limits);
                event = event.or(self.path_event(before, found));
            }
            self.plan_visit(now.monotonic, limits, dice);
        }
        event
    }

    /// Takes a reply. Returns nothing when it answers no request under way.
    pub(super) fn reply(
        &mut self,
        token: u64,
        now: Now,
        limits: &Limits,
        dice: u32,
        times: &mut Times,
    ) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        if let Some(sent) = self.small.filter(|sent| sent.token == token) {
            self.small = None;
            self.small_passed = true;
            self.window.push(false);
            let time = now.monotonic.saturating_sub(sent.at);
            self.rtt.push(time);
            times.round_trips.push(time);
        } else if let Some(sent) = self.sized.filter(|sent| sent.token == token) {
            self.sized = None;
            let before = self.path.known();
            let found = self.path.passed(sent.size, now.monotonic);
            events.extend(self.path_event(before, found));
        } else {
            return None;
        }
        self.losses = 0;
        if self.last_reply.is_none() {
            times.first_replies.push(now.monotonic.saturating_sub(self.added));
        }
        self.last_reply = Some(now);
        if self.liveness != Liveness::Alive {
            let dead =
                (self.liveness == Liveness::Dead).then(|| now.monotonic.saturating_sub(self.since.monotonic));
            events.push(Event::Alive { peer: self.target.node, dead });
            self.enter(Liveness::Alive, now);
            self.path.doubt();
        }
        self.plan_visit(now.monotonic, limits, dice);
        Some(events)
    }

    /// Takes what the peer says about itself.
    pub(super) fn learn(&mut self, about: About, ours: u64) -> Vec<Event> {
        let mut events = Vec::new();
        let peer = self.target.node;
        let before = self.about.as_ref();
        if before.is_some_and(|b| b.boot != about.boot) {
            events.push(Event::Rebooted { peer });
            self.path.doubt();
        }
        let theirs = about.plan;
        if before.map_or(ours, |b| b.plan) != theirs {
            events.push(Event::Plan { peer, theirs, ours });
        }
        if self.about.as_ref() != Some(&about) {
            self.about = Some(about);
        }
        events
    }

    /// Whether it answered the last request.
    pub(super) fn hears(&self) -> bool {
        self.liveness == Liveness::Alive && self.losses == 0
    }

    /// Takes a request of the peer, which `hears` us or does not. `dice` is any number, for the jitter.
    ///
    /// One that hears us need not be asked in a large cluster: its request came one way and our last
    /// reply went the other. One that does not hear us any more, or of which nothing is known, is asked
    /// at once.
    pub(super) fn asked(&mut self, hears: bool, now: Duration, limits: &Limits, dice: u32) {
        self.deaf = if hears { 0 } else { self.deaf.saturating_add(1) };
        if self.liveness != Liveness::Alive || self.deaf == DEAF {
            self.visit = self.visit.min(now);
        } else if hears && self.hears() && limits.share && self.is_measured(now, limits) {
            self.plan_visit(now, limits, dice);
        }
    }

    /// Whether nothing is due that only a request of our own can tell.
    fn is_measured(&self, now: Duration, limits: &Limits) -> bool {
        let lately = self.last_reply.is_some_and(|at| now < at.monotonic + limits.interval * MEASURE);
        lately && !self.path.is_open() && !self.path.is_stale(now, limits)
    }

    /// Whether it has never answered, or not for long, so that a hello is worth sending.
    pub(super) fn is_silent(&self) -> bool {
        self.liveness == Liveness::Dead
    }

    pub(super) fn view(&self, ours: u64) -> PeerProbe {
        let rtt = &self.rtt;
        let path = match self.path.known() {
            _ if self.path.is_searching() => PathState::Searching,
            None => PathState::Unknown,
            Some(_) if self.path.is_limited() => PathState::Limited,
            Some(_) => PathState::Full,
        };
        let about = self.about.as_ref();
        let plan = match about {
            None => Agreement::Unknown,
            Some(about) if about.plan == ours => Agreement::Same,
            Some(_) => Agreement::Different,
        };
        PeerProbe {
            address: self.target.node,
            vtep: self.target.vtep,
            state: self.liveness,
            since: self.since.unix,
            last_reply: self.last_reply.map(|at| at.unix),
            requests: self.window.len(),
            lost: self.window.lost(),
            rtt: rtt.is_known().then(|| RttView {
                last: rtt.last(),
                smoothed: rtt.smoothed(),
                min: rtt.least(),
                avg: rtt.mean(),
                max: rtt.most(),
            }),
            path_mtu: self.path.known(),
            path,
            mtu: about.map(|a| a.mtu),
            plan,
            version: about.map(|a| a.version.clone()),
            boot: about.map(|a| hex(a.boot)),
        }
    }

    fn enter(&mut self, liveness: Liveness, now: Now) {
        self.liveness = liveness;
        self.since = now;
    }

    /// Sets the time of the next small request, once nothing is under way any more.
    fn plan_visit(&mut self, now: Duration, limits: &Limits, dice: u32) {
        if self.small.is_some() || self.sized.is_some() || self.next_size.is_some() {
            return;
        }
        let interval = match self.liveness {
            // Each step of a search waits for the one before it, and for nothing else.
            Liveness::Alive if self.losses == 0 && self.path.is_open() => Duration::ZERO,
            Liveness::Alive if self.losses > 0 => limits.fast,
            Liveness::Alive if self.target.missing => limits.slow,
            Liveness::Alive => limits.interval,
            Liveness::Unknown => limits.first,
            Liveness::Dead => limits.slow,
        };
        self.visit = now + spread(interval, dice);
    }

    fn timeout(&self) -> Duration {
        self.rtt.timeout().clamp(Limits::TIMEOUT_MIN, Limits::TIMEOUT_MAX)
    }

    fn sized_timeout(&self) -> Duration {
        let smoothed = Duration::from_micros(u64::from(self.rtt.smoothed()));
        (4 * smoothed + SIZED_MARGIN).min(Limits::TIMEOUT_MAX)
    }

    /// What to tell about the largest size, when it is known anew: only what is new.
    fn path_event(&self, before: Option<u16>, found: Option<u16>) -> Option<Event> {
        let size = found?;
        let full = self.path.full();
        // The first time, only what is not as it should be.
        (before.unwrap_or(full) != size).then_some(Event::PathMtu { peer: self.target.node, size, full })
    }
}

/// A time within a tenth of the interval: peers that were added together are not asked together
/// for ever.
fn spread(interval: Duration, dice: u32) -> Duration {
    interval * 9 / 10 + interval.mul_f64(f64::from(dice) / f64::from(u32::MAX) / 5.0)
}
