//! A peer as a daemon leaves it to the next one; see [`super::super::kept`].

use std::time::Duration;

use super::super::kept::{KeptPeer, LATE, hex, millis};
use super::super::{Local, Target};
use super::Peer;
use crate::membership::{Liveness, Now};

impl Peer {
    /// One that an earlier daemon knew, if that is still to be believed with so long an interval: until
    /// the next request to it is due, or just was; see [`LATE`].
    pub(in super::super) fn resume(
        target: Target,
        kept: &KeptPeer,
        local: &Local,
        interval: Duration,
        now: Now,
    ) -> Option<Self> {
        let next = Duration::from_millis(kept.next);
        let due = next + LATE >= now.monotonic && next <= now.monotonic + latest(interval);
        let about = kept.about(local.about.plan).filter(|_| due && kept.is_of(&target, now))?;
        let mut peer = Peer::new(target, local, next.max(now.monotonic), now);
        if let Some((size, at)) = kept.path {
            peer.path.recall(size, Duration::from_millis(at));
        }
        let (replied, unix) = kept.replied;
        Some(Peer {
            liveness: Liveness::Alive,
            since: Now { unix: kept.since, ..now },
            losses: u32::from(next < now.monotonic),
            window: kept.window,
            rtt: kept.rtt,
            last_reply: Some(Now { monotonic: Duration::from_millis(replied), unix }),
            about: Some(about),
            deaf: 0,
            ..peer
        })
    }

    /// What [`Peer::resume`] takes, of a peer that answers and has our plan. Nobody will hear the reply to
    /// a request under way; the time of its visit stays until then, and so it is due already.
    pub(in super::super) fn keep(&self, ours: u64) -> Option<KeptPeer> {
        let about = self.about.as_ref().filter(|about| self.hears() && about.plan == ours)?;
        let replied = self.last_reply?;
        Some(KeptPeer {
            node: self.target.node,
            vtep: self.target.vtep,
            since: self.since.unix,
            replied: (millis(replied.monotonic), replied.unix),
            next: millis(self.visit),
            window: self.window,
            rtt: self.rtt,
            path: self.path.settled().map(|(size, at)| (size, millis(at))),
            mtu: about.mtu,
            boot: hex(about.boot),
            version: about.version.clone(),
        })
    }
}

/// The longest time until the next request, and a moment that rounding may cost.
fn latest(interval: Duration) -> Duration {
    interval * 11 / 10 + Duration::from_millis(1)
}
