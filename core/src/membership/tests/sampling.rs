//! Resolvers that answer with random samples.

use super::random::Random;
use super::*;

#[test]
fn samples_are_recognised_and_lose_nobody() {
    for (size, of) in [(1, 2), (1, 9), (3, 5), (8, 9), (8, 20), (8, 250), (29, 30)] {
        for seed in 1..=10 {
            let (mut random, mut world) = (Random(seed), World::new());
            let all = ips(1..=of);
            let mut seen = BTreeSet::new();
            for _ in 0..300 {
                let sample = random.sample(&all, size);
                seen.extend(sample.iter().copied().filter(|a| *a != ip(1)));
                world.say(&sample);
            }
            let removed = world.events.iter().filter(|e| matches!(e, Event::Removed { .. })).count();
            assert_eq!(removed, 0, "{size} of {of}, seed {seed}");
            assert!(world.members.view().sampling, "{size} of {of}, seed {seed}");
            assert_eq!(world.peers(), seen.into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_peer_goes_from_samples_when_dead_and_long_absent() {
    let (mut random, mut world) = (Random(7), World::new());
    let all = ips(1..=20);
    let run = |world: &mut World, random: &mut Random, from: &[IpAddr], rounds| {
        for _ in 0..rounds {
            let sample = random.sample(from, 8);
            world.say(&sample);
        }
    };
    run(&mut world, &mut random, &all, 50);
    assert_eq!(world.peers(), ips(2..=20));
    // 19 and 20 are taken down; only 20 is known to be dead.
    world.members.set_liveness(ip(20), Liveness::Dead, world.now);
    world.members.set_liveness(ip(19), Liveness::Alive, world.now);
    world.members.set_liveness(ip(2), Liveness::Dead, world.now);
    run(&mut world, &mut random, &ips(1..=18), 300);
    assert_eq!(world.peers(), ips(2..=20), "after 25 minutes");
    assert!(matches!(world.state(ip(20)), Some(PeerState::Held { hold: HoldReason::Sampling, .. })));
    run(&mut world, &mut random, &ips(1..=18), 100);
    assert_eq!(world.peers(), ips(2..=19), "2 is dead but listed, 19 is not listed but alive");
    assert_eq!(world.members.view().own.missing_since, None, "samples need not list this node");
}

#[test]
fn the_end_of_sampling_is_noticed_and_the_rules_begin_anew() {
    let (mut random, mut world) = (Random(3), World::new());
    let all = ips(1..=20);
    for _ in 0..50 {
        let sample = random.sample(&all, 8);
        world.say(&sample);
    }
    // The resolver was replaced by one that tells everything, and 19 and 20 are gone.
    let rest = ips(1..=18);
    let limit = Thresholds::default().sampling_exit as usize;
    let over = (1..=limit + 1).find(|_| world.say(&rest).contains(&Event::SamplingOver));
    assert!(over.is_some_and(|n| n >= limit), "{over:?}");
    assert_eq!(world.peers(), ips(2..=20));
    world.say_for(35, &rest);
    assert_eq!(world.peers(), ips(2..=18));
}

#[test]
fn a_replaced_node_is_no_sample() {
    let mut world = World::new();
    world.say_for(100, &ips(1..=20));
    for new in 30..40 {
        let rest = 1..(50 - new);
        let replaced = 30..=new;
        world.say_for(120, &ips(rest.chain(replaced)));
    }
    assert!(!world.events.contains(&Event::Sampling));
    assert_eq!(world.peers(), ips((2..11).chain(30..40)));
}

#[test]
fn a_swap_needs_more_answers() {
    let limits = Thresholds { hold_down: Duration::ZERO, ..Thresholds::default() };
    let mut world = World::with(&[NAME], limits);
    world.say(&ips([1, 2, 3]));
    world.say_for(25, &ips([1, 2, 4]));
    let held = PeerState::Held { hold: HoldReason::SamplingSuspected, answers: 5 };
    assert_eq!(world.state(ip(3)), Some(held));
    world.say(&ips([1, 2, 4]));
    assert_eq!(world.peers(), ips([2, 4]));
}

#[test]
fn a_resolver_that_tells_everything_overrules_one_that_samples() {
    let (mut random, mut world) = (Random(5), World::new());
    let all = ips(1..=20);
    for _ in 0..100 {
        let sample = random.sample(&all, 8);
        world.round(vec![reply(NAME, "a", answer(sample)), reply(NAME, "b", answer(all.iter().copied()))]);
    }
    let view = world.members.view();
    assert!(view.names[0].resolvers[0].sampling && !view.names[0].resolvers[1].sampling);
    assert_eq!(world.peers(), ips(2..=20));
    assert!(world.events.iter().all(|e| !matches!(e, Event::Missing { .. })));
}
