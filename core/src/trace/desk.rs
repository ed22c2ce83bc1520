//! Whom a node answers, and how much it does for others: the far end of a trace.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::message::{Kind, Message};

/// Most watches at the same time, of all peers together.
pub const WATCHES: usize = 8;

/// How long a watch lives after it was asked for.
pub const LIFE: Duration = Duration::from_secs(10);

/// Most messages of one peer that are looked at in a second: a trace has about ten, a visit of the
/// doctor three.
pub const RATE: u32 = 40;

/// The time over which messages are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// What is to be done about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing: no answer either.
    Ignore,
    /// Say that somebody is there.
    Answer,
    /// Begin to watch, or go on watching, and say so.
    Watch,
    /// Say that there are too many watches.
    Refuse,
    /// Say what was seen.
    Report,
}

/// Keeps the account of watches and messages. Times are those of any clock that never goes back.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    watches: BTreeMap<u64, Watch>,
    /// By peer: when the present window began, and how many messages it had.
    counts: BTreeMap<IpAddr, (Duration, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    peer: IpAddr,
    until: Duration,
}

impl Desk {
    /// A message came from a peer, which the caller knows to be one.
    pub fn receive(&mut self, peer: IpAddr, message: &Message, now: Duration) -> Order {
        if message.reply.is_some() || !self.admits(peer, now) {
            return Order::Ignore;
        }
        let known = self.watches.get(&message.token).map(|watch| watch.peer);
        match (message.kind, known) {
            (Kind::Echo, _) => Order::Answer,
            // Nobody learns what came of another's trace, or spoils it.
            (_, Some(other)) if other != peer => Order::Ignore,
            (Kind::Watch, Some(_)) => Order::Watch,
            (Kind::Watch, None) if self.watches.len() >= WATCHES => Order::Refuse,
            (Kind::Watch, None) => {
                self.watches.insert(message.token, Watch { peer, until: now + LIFE });
                Order::Watch
            }
            (Kind::Report, Some(_)) => Order::Report,
            // It was too late, or the daemon is a new one; to say that it is there helps.
            (Kind::Report, None) => Order::Answer,
        }
    }

    /// The watches whose time is over; they are forgotten.
    pub fn expire(&mut self, now: Duration) -> Vec<u64> {
        let over: Vec<u64> = self.watches.iter().filter(|(_, w)| w.until <= now).map(|(t, _)| *t).collect();
        self.watches.retain(|_, watch| watch.until > now);
        over
    }

    /// When the next watch is over.
    pub fn next_wake(&self) -> Option<Duration> {
        self.watches.values().map(|watch| watch.until).min()
    }

    /// Whether a peer has not sent too many messages; counts this one.
    fn admits(&mut self, peer: IpAddr, now: Duration) -> bool {
        // Those who have been silent are forgotten, so that only those who talk take room.
        self.counts.retain(|_, (start, _)| now.saturating_sub(*start) < WINDOW);
        let (_, count) = self.counts.entry(peer).or_insert((now, 0));
        *count = count.saturating_add(1);
        *count <= RATE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Account;

    const A: [u8; 4] = [172, 20, 0, 1];
    const B: [u8; 4] = [172, 20, 0, 2];

    fn ask(desk: &mut Desk, peer: [u8; 4], kind: Kind, token: u64, millis: u64) -> Order {
        let message = Message::request(kind, token, [10, 32, 1, 2].into());
        desk.receive(peer.into(), &message, Duration::from_millis(millis))
    }

    #[test]
    fn a_watch_is_begun_repeated_reported_and_over() {
        let mut desk = Desk::default();
        assert_eq!(ask(&mut desk, A, Kind::Watch, 1, 0), Order::Watch);
        assert_eq!(ask(&mut desk, A, Kind::Watch, 1, 10), Order::Watch, "it came by both channels");
        assert_eq!(ask(&mut desk, A, Kind::Report, 1, 20), Order::Report);
        assert_eq!(desk.next_wake(), Some(LIFE));
        assert!(desk.expire(LIFE - Duration::from_millis(1)).is_empty());
        assert_eq!(desk.expire(LIFE), [1]);
        assert_eq!((desk.next_wake(), ask(&mut desk, A, Kind::Report, 1, 10_000)), (None, Order::Answer));
    }

    #[test]
    fn repeating_does_not_prolong() {
        let mut desk = Desk::default();
        for millis in (0..10_000).step_by(500) {
            ask(&mut desk, A, Kind::Watch, 1, millis);
        }
        assert_eq!(desk.expire(LIFE), [1]);
    }

    #[test]
    fn nobody_hears_of_anothers_trace() {
        let mut desk = Desk::default();
        ask(&mut desk, A, Kind::Watch, 1, 0);
        assert_eq!(ask(&mut desk, B, Kind::Report, 1, 0), Order::Ignore);
        assert_eq!(ask(&mut desk, B, Kind::Watch, 1, 0), Order::Ignore);
        assert_eq!(ask(&mut desk, B, Kind::Echo, 1, 0), Order::Answer);
    }

    #[test]
    fn watches_and_messages_are_bounded() {
        let mut desk = Desk::default();
        for token in 0..WATCHES as u64 {
            assert_eq!(ask(&mut desk, A, Kind::Watch, token, 0), Order::Watch);
        }
        assert_eq!(ask(&mut desk, B, Kind::Watch, 99, 0), Order::Refuse);
        let answered = (0..1000).filter(|_| ask(&mut desk, B, Kind::Echo, 0, 1) == Order::Answer).count();
        assert_eq!(answered, RATE as usize - 1, "one was the watch");
        assert_eq!(ask(&mut desk, A, Kind::Echo, 0, 1), Order::Answer, "others do not suffer");
        assert_eq!(ask(&mut desk, B, Kind::Echo, 0, 1001), Order::Answer, "a second later");
        assert_eq!(desk.counts.len(), 1, "who is silent is forgotten");
    }

    #[test]
    fn a_reply_is_never_answered() {
        let mut desk = Desk::default();
        let mut message = Message::request(Kind::Echo, 1, A.into());
        message.reply = Some(Account::default());
        assert_eq!(desk.receive(B.into(), &message, Duration::ZERO), Order::Ignore);
    }
}
