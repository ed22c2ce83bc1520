//! What 5000 peers cost.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Limits, Message, Prober, Transmit};
use super::network::{at, local, target, vtep};
use crate::membership::Liveness;

const PEERS: u16 = 5000;

/// Runs a prober with peers that answer as `answers` says, for some seconds. Returns the packets
/// of each second.
fn run(prober: &mut Prober, from: u64, seconds: u64, answers: impl Fn(u16) -> bool) -> Vec<(u32, usize)> {
    let indices: BTreeMap<_, u16> = (1..=PEERS).map(|i| (vtep(i), i)).collect();
    let end = Duration::from_secs(from + seconds);
    let mut now = Duration::from_secs(from);
    let mut sums = vec![(0, 0); seconds as usize];
    while now < end {
        let mut replies = Vec::new();
        let sum = &mut sums[(now.as_secs() - from) as usize];
        while let Some(transmit) = prober.poll(at(now)) {
            let Transmit::Datagram { to, payload } = transmit else { continue };
            sum.0 += 1;
            sum.1 += payload.len() + 28;
            let index = indices[&to];
            if answers(index) {
                let message = Message::decode(&payload).unwrap();
                let about = local(index).about;
                replies.push((to, Message { kind: super::super::Kind::Reply, about, ..message }.encode()));
            }
        }
        now += Duration::from_millis(1);
        for (from, payload) in replies {
            assert_eq!(prober.receive(from, &payload, at(now)), None);
        }
    }
    sums
}

fn prober() -> Prober {
    let mut prober = Prober::new(Limits::every(Duration::from_secs(30)), 1);
    prober.update(local(PEERS + 1), (1..=PEERS).map(target), at(Duration::from_secs(100)));
    prober
}

#[test]
fn packets_are_bounded_from_the_first_second() {
    let mut prober = prober();
    let sums = run(&mut prober, 100, 230, |_| true);
    // All are new: three requests to each of 5000 within 209 seconds.
    assert!(sums.iter().all(|(packets, _)| *packets <= 180), "{sums:?}");
    let alive = prober.liveness().filter(|(_, l)| *l == Liveness::Alive).count();
    assert_eq!(alive, usize::from(PEERS));
    // Afterwards 5000 every 208 s; the full size, every 833 s, is not due again within these.
    let sums = run(&mut prober, 330, 416, |_| true);
    let packets: u32 = sums.iter().map(|(packets, _)| packets).sum();
    let octets: usize = sums.iter().map(|(_, octets)| octets).sum();
    assert!((21..=27).contains(&(packets / 416)), "{}", packets / 416);
    // Not all at the same time.
    assert!(sums.iter().all(|(packets, _)| *packets <= 80), "{sums:?}");
    // A tenth of a megabit a second.
    assert!(octets / 416 < 12_500, "{}", octets / 416);
}

#[test]
fn nobody_is_hurried_by_thousands_that_never_answer() {
    let mut prober = prober();
    let sums = run(&mut prober, 100, 300, |i| i <= 10);
    assert!(sums.iter().all(|(packets, _)| *packets <= 80), "{sums:?}");
    let alive = prober.liveness().filter(|(_, l)| *l == Liveness::Alive).count();
    assert_eq!(alive, 10);
    // One that comes alone is met at once, and found dead as soon as in a small cluster.
    let mut prober = Prober::new(Limits::every(Duration::from_secs(30)), 1);
    prober.update(local(PEERS + 1), (1..PEERS).map(target), at(Duration::from_secs(100)));
    run(&mut prober, 100, 230, |_| true);
    prober.update(local(PEERS + 1), (1..=PEERS).map(target), at(Duration::from_secs(330)));
    run(&mut prober, 330, 15, |i| i < PEERS);
    let view = prober.view(at(Duration::from_secs(345))).unwrap();
    let late = view.peers.iter().find(|peer| peer.vtep == vtep(PEERS)).unwrap();
    assert_eq!((late.state, late.requests), (Liveness::Dead, 5), "{late:?}");
}

#[test]
fn the_dead_do_not_starve_the_living() {
    let mut prober = prober();
    run(&mut prober, 100, 230, |_| true);
    let sums = run(&mut prober, 330, 540, |i| i % 2 == 0);
    // 250 a second, and a burst of 32.
    assert!(sums.iter().all(|(packets, _)| *packets <= 282), "{sums:?}");
    let dead = prober.liveness().filter(|(_, l)| *l == Liveness::Dead).count();
    assert_eq!(dead, usize::from(PEERS) / 2);
    let view = prober.view(at(Duration::from_secs(870))).unwrap();
    for peer in view.peers.iter().filter(|p| p.state == Liveness::Alive) {
        let age = view.written - peer.last_reply.unwrap();
        assert!(age <= 240, "{} has not been asked for {age} s", peer.address);
    }
}

#[test]
fn memory_is_a_few_hundred_octets_for_each_peer() {
    assert!(size_of::<super::super::peer::Peer>() <= 448, "{}", size_of::<super::super::peer::Peer>());
}

#[test]
fn patience_ends_where_something_waits_for_the_rate() {
    let mut prober = prober();
    let now = |ms| at(Duration::from_millis(ms));
    assert!(prober.is_patient(now(100_000)), "everything is yet to come");
    while prober.poll(now(110_000)).is_some() {}
    assert!(!prober.is_patient(now(110_000)), "hundreds are due, and 32 were sent");
    let mut few = Prober::new(Limits::every(Duration::from_secs(30)), 1);
    few.update(local(PEERS + 1), (1..=10).map(target), now(100_000));
    assert!(!few.is_patient(now(100_000)), "a small cluster never waits");
}
