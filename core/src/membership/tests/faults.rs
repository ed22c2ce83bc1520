//! Everything that DNS can do wrong, for long enough to hurt.

use super::*;

const FAILURES: [FailureKind; 12] = [
    FailureKind::ServFail,
    FailureKind::NxDomain,
    FailureKind::Refused,
    FailureKind::OtherCode,
    FailureKind::Empty,
    FailureKind::Timeout,
    FailureKind::Truncated,
    FailureKind::Malformed,
    FailureKind::NoResolver,
    FailureKind::Unreachable,
    FailureKind::Bogus,
    FailureKind::NotAsked,
];

/// A day of five-second rounds.
const DAY: usize = 17_280;

#[test]
fn no_kind_of_failure_removes_anybody() {
    for kind in FAILURES {
        let mut world = World::new();
        world.say(&ips([1, 2, 3, 4]));
        // One is missing already: not even that one comes nearer to removal.
        world.say(&ips([1, 2, 3]));
        let events = world.fail(kind);
        assert!(matches!(&events[..], [Event::NameFailed { kind: k, .. }] if *k == kind), "{events:?}");
        for _ in 0..1000 {
            world.fail(kind);
        }
        world.pass(86_400);
        world.fail(kind);
        assert_eq!(world.peers(), ips([2, 3, 4]), "{kind}");
        assert_eq!(world.state(ip(4)), Some(PeerState::Missing { answers: 1 }), "{kind}");
        let view = world.members.view();
        assert_eq!(view.names[0].last_failure.as_ref().unwrap().kind, kind);
        assert_eq!(view.names[0].failures, 1002);
        assert_eq!(view.removals_wait_for, [NAME]);
        assert_eq!(world.say(&ips([1, 2, 3])), [Event::NameAnswered { name: NAME.into() }]);
    }
}

#[test]
fn a_round_without_replies_is_a_failure() {
    let mut world = World::new();
    world.say(&ips([1, 2]));
    world.round(vec![]);
    let failure = world.members.view().names[0].last_failure.clone().unwrap();
    assert_eq!(failure.kind, FailureKind::NotAsked);
    assert_eq!(world.peers(), ips([2]));
}

#[test]
fn answers_without_addresses_of_the_underlay_are_failures() {
    let mut world = World::new();
    world.say(&ips([1, 2]));
    let answered = world.now.unix;
    for addrs in [vec![], vec!["fd00::1".parse().unwrap()]] {
        for _ in 0..DAY / 10 {
            world.say(&addrs);
        }
        assert_eq!(world.peers(), ips([2]));
        let failure = world.members.view().names[0].last_failure.clone().unwrap();
        assert_eq!(failure.kind, FailureKind::Empty);
        assert_eq!(world.members.view().names[0].last_success, Some(answered));
        assert!(!world.members.is_complete());
    }
}

#[test]
fn an_incomplete_answer_only_adds() {
    let mut world = World::new();
    world.say(&ips([1, 2, 3]));
    let (addresses, ttl) = (Arc::new(AddressSet::from_iter([ip(1), ip(4)])), Duration::from_secs(5));
    for complete in [Complete::NEITHER, Complete { v4: false, v6: true }] {
        let outcome = Outcome::Answer { addresses: Arc::clone(&addresses), ttl, complete };
        for _ in 0..1000 {
            world.round(vec![reply(NAME, "r", outcome.clone())]);
        }
        assert_eq!(world.peers(), ips([2, 3, 4]));
    }
    // The AAAA lookup failed, which says nothing about peers with an IPv4 underlay.
    let outcome = Outcome::Answer { addresses, ttl, complete: Complete { v4: true, v6: false } };
    for _ in 0..8 {
        world.round(vec![reply(NAME, "r", outcome.clone())]);
    }
    assert_eq!(world.peers(), ips([4]));
}

#[test]
fn one_resolver_that_knows_a_peer_is_enough() {
    let mut world = World::new();
    let lie = |outcome| vec![reply(NAME, "a", answer(ips([1, 2, 3]))), reply(NAME, "b", outcome)];
    for outcome in [answer(ips([1])), answer(ips([1, 9])), failure(FailureKind::NxDomain)] {
        for _ in 0..1000 {
            world.round(lie(outcome.clone()));
        }
        assert!(world.peers().starts_with(&ips([2, 3])));
        let expected = if matches!(outcome, Outcome::Answer { .. }) { 2 } else { 0 };
        let name = &world.members.view().names[0];
        assert_eq!(
            (name.resolvers[0].lacking > 0, name.resolvers[1].lacking),
            (expected == 2 && name.records == 4, expected)
        );
    }
    // The one that lied about 9 has taken that back, and the other one died.
    for _ in 0..300 {
        world.round(vec![
            reply(NAME, "a", failure(FailureKind::Timeout)),
            reply(NAME, "b", answer(ips([1, 2, 3]))),
        ]);
    }
    assert_eq!(world.peers(), ips([2, 3]));
    assert_eq!(world.members.view().names[0].failures, 0);
}

#[test]
fn half_of_the_records_missing_is_survived_for_the_mass_hold() {
    let mut world = World::new();
    let all = ips(1..=50);
    world.say_for(100, &all);
    world.say_for(550, &ips(1..=25));
    assert_eq!(world.peers(), ips(2..=50));
    world.say(&all);
    assert!(world.members.is_settled());
    assert_eq!(world.members.view().mass_hold, None);
}

#[test]
fn all_records_replaced_keeps_the_old_ones_and_ends_exact() {
    let mut world = World::new();
    let truth = ips(1..=20);
    world.say_for(100, &truth);
    // More newcomers than there are peers: they must not outvote those that they replaced.
    let lies: Vec<_> = ips(100..=250);
    world.say_for(550, &lies);
    assert!(world.peers().starts_with(&ips(2..=20)));
    for _ in 0..200 {
        world.say(&truth);
    }
    assert_eq!(world.peers(), ips(2..=20));
}

#[test]
fn an_alternating_failure_does_not_keep_the_dead_for_ever() {
    let mut world = World::new();
    world.say(&ips([1, 2, 3]));
    for _ in 0..5 {
        world.say(&ips([1, 2]));
        world.fail(FailureKind::ServFail);
    }
    assert_eq!(world.peers(), ips([2]));
}

#[test]
fn the_time_of_an_outage_does_not_count() {
    let mut world = World::new();
    world.say(&ips(1..=50));
    world.say(&ips(1..=25));
    for _ in 0..DAY {
        world.fail(FailureKind::Timeout);
    }
    // A resolver that comes up with half of its records must not remove the others at once.
    world.say_for(400, &ips(1..=25));
    assert_eq!(world.peers(), ips(2..=50));
}
