//! Of two nodes one asks.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::super::{Event, Limits, Prober};
use super::network::{Network, at, local, node, target};
use crate::membership::Liveness;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Nodes that behave as in a large cluster.
fn network(count: u16) -> Network {
    Network::new(count, &Limits { share: true, ..Limits::every(30 * SECOND) })
}

#[test]
fn each_measures_and_together_they_ask_once_in_an_interval() {
    let mut net = network(2);
    net.run(10 * SECOND);
    let before = [1, 2].map(|i| net.view(i).counters.requests_sent);
    // Two hundred intervals; every fourth has a request of the full size from each of them.
    net.run(6000 * SECOND);
    let sent = [1, 2].map(|i| net.view(i).counters.requests_sent);
    let sent = [sent[0] - before[0], sent[1] - before[1]];
    // Alone each would have sent 250.
    assert!(sent.iter().all(|sent| (75..=190).contains(sent)), "{sent:?}");
    assert!(sent.iter().sum::<u64>() <= 350, "{sent:?}");
    for (of, about) in [(1, 2), (2, 1)] {
        let peer = net.opinion(of, about);
        assert_eq!((peer.state, peer.lost), (Liveness::Alive, 0));
        // Its own last measurement is at most four intervals old.
        assert!(net.view(of).written - peer.last_reply.unwrap() <= 4 * 33, "{peer:?}");
    }
}

#[test]
fn a_peer_that_falls_silent_is_dead_as_soon_as_where_both_ask() {
    for phase in 0..40 {
        let mut net = network(3);
        net.run(40 * SECOND + phase * SECOND);
        net.rule = Box::new(|p| (p.from != 2 && p.to != 2).then_some(MILLISECOND));
        net.run(33 * SECOND + 10 * SECOND);
        let states = [(1, 2), (3, 2), (1, 3)].map(|(of, about)| net.opinion(of, about).state);
        assert_eq!(states, [Liveness::Dead, Liveness::Dead, Liveness::Alive], "after {phase} s");
    }
}

#[test]
fn a_way_that_fails_in_one_direction_is_found_by_both() {
    for phase in 0..40 {
        let mut net = network(2);
        net.run(40 * SECOND + phase * SECOND);
        // What 1 sends is lost: 2 hears neither requests nor replies, 1 hears the requests of 2.
        net.rule = Box::new(|p| (p.from != 1).then_some(MILLISECOND));
        net.run(33 * SECOND + 15 * SECOND);
        assert_eq!(net.opinion(2, 1).state, Liveness::Dead, "after {phase} s");
        assert_eq!(net.opinion(1, 2).state, Liveness::Dead, "after {phase} s");
    }
}

#[test]
fn a_peer_that_only_asks_is_asked_all_the_same() {
    let mut net = network(2);
    net.run(40 * SECOND);
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    net.rule = Box::new(move |p| {
        count.set(count.get() + u32::from(p.from == 1 && p.request));
        Some(MILLISECOND)
    });
    // One that asks every second, and always says that it hears.
    let mut busy = Prober::new(Limits::every(SECOND), 2);
    busy.update(local(2), [target(1)], at(net.now));
    net.nodes.insert(2, busy);
    net.run(600 * SECOND);
    // Once in four intervals, with the full size every time.
    assert!((6..=14).contains(&asked.get()), "{}", asked.get());
}

#[test]
fn a_large_packet_that_vanishes_is_noticed_as_soon() {
    let mut net = network(2);
    net.run(20 * SECOND);
    net.rule = Box::new(|p| (p.size <= 1200).then_some(MILLISECOND));
    net.run(160 * SECOND);
    for (of, about) in [(1, 2), (2, 1)] {
        assert_eq!(net.opinion(of, about).path_mtu, Some(1200));
        let event = Event::PathMtu { peer: node(about), size: 1200, full: 1450 };
        assert!(net.events(of).contains(&event));
    }
}

/// How many small and how many large requests node 1 sends within a time.
fn requests(net: &mut Network, time: Duration) -> [u32; 2] {
    let counts = Rc::new([Cell::new(0), Cell::new(0)]);
    let count = Rc::clone(&counts);
    let mut rule = std::mem::replace(&mut net.rule, Box::new(|_| None));
    net.rule = Box::new(move |p| {
        if p.from == 1 && p.request {
            let count = &count[usize::from(p.size > 1000)];
            count.set(count.get() + 1);
        }
        rule(p)
    });
    net.run(time);
    [counts[0].get(), counts[1].get()]
}

#[test]
fn the_full_size_goes_alone_where_it_passed() {
    let mut net = network(2);
    net.run(20 * SECOND);
    // Every four intervals; and half of the others.
    let [small, large] = requests(&mut net, 6000 * SECOND);
    assert!((35..=50).contains(&large), "{large}");
    let visits = small + large;
    assert!((75..=150).contains(&visits) && small < 110, "{small} and {large}");
    assert_eq!(net.events(1).len(), 1, "that the peer answers");
}

#[test]
fn a_large_request_that_is_lost_alone_is_followed_by_both() {
    let mut net = network(2);
    net.run(20 * SECOND);
    net.events(1);
    // The next one of the full size is lost, and no other.
    let mut lost = false;
    net.rule = Box::new(move |p| {
        let first = !lost && p.from == 1 && p.size > 1000;
        lost |= first;
        (!first).then_some(MILLISECOND)
    });
    let mut before = net.view(1).counters.requests_sent;
    loop {
        net.run(100 * MILLISECOND);
        let sent = net.view(1).counters.requests_sent;
        if sent >= before + 2 {
            break;
        }
        before = sent;
        assert!(net.now < 300 * SECOND, "it was never sent");
    }
    net.run(SECOND);
    let peer = net.opinion(1, 2);
    assert_eq!((peer.state, peer.lost, peer.path_mtu), (Liveness::Alive, 0, Some(1450)));
    assert_eq!(net.events(1), []);
}
