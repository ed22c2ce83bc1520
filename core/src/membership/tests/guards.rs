//! The mass-removal guard, flap damping, liveness, limits, refresh.

use super::*;

#[test]
fn too_many_at_once_are_held_and_go_in_the_end() {
    let mut world = World::new();
    world.say(&ips(1..=10));
    let events = world.say(&ips(1..=5));
    assert!(events.contains(&Event::MassHold { missing: 5, of: 9 }), "{events:?}");
    world.say_for(595, &ips(1..=5));
    assert_eq!(world.peers(), ips(2..=10));
    let held = PeerState::Held { hold: HoldReason::MassRemoval, answers: 120 };
    assert_eq!(world.state(ip(6)), Some(held));
    assert_eq!(world.members.view().mass_hold, Some(MassView { missing: 5, of: 9 }));
    let events = world.say(&ips(1..=5));
    assert!(events.contains(&Event::MassHoldOver));
    assert_eq!(world.peers(), ips(2..=5));
}

#[test]
fn up_to_a_third_or_two_go_normally() {
    for (before, after) in [(10, 7), (3, 1), (2, 1)] {
        let mut world = World::new();
        world.say(&ips(1..=before));
        world.say_for(35, &ips(1..=after));
        assert_eq!(world.peers(), ips(2..=after), "{before} to {after}");
    }
    let mut world = World::new();
    world.say(&ips(1..=4));
    world.say_for(100, &ips([1]));
    assert_eq!(world.peers(), ips(2..=4), "three of three");
}

#[test]
fn a_fault_that_heals_by_halves_does_not_remove_the_other_half() {
    let mut world = World::new();
    world.say(&ips(1..=30));
    world.say_for(300, &ips(1..=15));
    world.say_for(200, &ips(1..=24));
    assert_eq!(world.peers(), ips(2..=30));
    world.say_for(200, &ips(1..=24));
    assert_eq!(world.peers(), ips(2..=24));
}

#[test]
fn a_flapping_peer_is_kept_longer_and_longer_but_not_for_ever() {
    let mut world = World::new();
    let (with, without) = (ips([1, 2, 3]), ips([1, 2]));
    world.say(&with);
    // Absent for 60 s, present for 60 s: removed in the first two rounds, kept in the others.
    let mut removals = 0;
    for _ in 0..10 {
        world.events.clear();
        world.say_for(60, &without);
        removals += world.events.iter().filter(|e| matches!(e, Event::Removed { .. })).count();
        world.say_for(60, &with);
        assert_eq!(world.peers(), ips([2, 3]), "added at once each time");
    }
    assert_eq!(removals, 2);
    world.say_for(60, &without);
    let held = PeerState::Held { hold: HoldReason::Flapping, answers: 12 };
    assert_eq!(world.state(ip(3)), Some(held));
    world.say_for(600, &without);
    assert_eq!(world.peers(), ips([2]));
}

#[test]
fn old_returns_are_forgotten() {
    let mut world = World::new();
    let (with, without) = (ips([1, 2, 3]), ips([1, 2]));
    world.say(&with);
    for _ in 0..5 {
        world.say(&without);
        world.say(&with);
    }
    assert_eq!(world.members.view().peers[2].flaps, 5);
    world.say_for(3700, &with);
    assert_eq!(world.members.view().peers[2].flaps, 0);
    world.say_for(35, &without);
    assert_eq!(world.peers(), ips([2]));
}

#[test]
fn liveness_never_removes_and_never_keeps_but_is_told() {
    let mut world = World::new();
    world.say(&ips([1, 2, 3, 4]));
    world.members.set_liveness(ip(2), Liveness::Dead, world.now);
    world.members.set_liveness(ip(3), Liveness::Alive, world.now);
    world.members.set_liveness(ip(77), Liveness::Alive, world.now);
    world.say_for(3600, &ips([1, 2, 3, 4]));
    assert_eq!(world.peers(), ips([2, 3, 4]), "dead by probe, but listed");
    world.events.clear();
    world.say_for(35, &ips([1, 2, 4]));
    assert_eq!(world.peers(), ips([2, 4]), "alive by probe, but dropped");
    let removed = world.events.last().unwrap();
    assert!(removed.is_problem() && removed.to_string().contains("still answers probes"), "{removed}");
    assert_eq!(world.members.view().departed[0].liveness, Liveness::Alive);
}

#[test]
fn there_is_no_room_for_more_than_max_peers_until_one_goes() {
    let limits = Thresholds { max_peers: 3, ..Thresholds::default() };
    let mut world = World::with(&[NAME], limits);
    world.say(&ips(1..=6));
    assert_eq!(world.peers(), ips([2, 3, 4]));
    assert_eq!(world.state(ip(5)), Some(PeerState::Refused { refusal: Refusal::TooMany }));
    world.say_for(35, &ips([1, 3, 4, 5, 6]));
    assert_eq!(world.peers(), ips([3, 4, 5]));
}

#[test]
fn refused_and_removed_addresses_are_remembered_within_bounds() {
    let mut world = World::new();
    let outside = |net: u8| (0..4000u32).map(move |n| IpAddr::from((u32::from(net) << 24 | n).to_be_bytes()));
    for net in 20..25 {
        world.say(&[ip(1), ip(2)].into_iter().chain(outside(net)).collect::<Vec<_>>());
        assert!(world.members.entries.len() <= 2 + MAX_REFUSED);
    }
    assert_eq!(world.members.view().refused_uncounted, 4000);
    world.say_for(300, &ips([1, 2]));
    assert_eq!(world.members.entries.len(), 2);

    let inside: Vec<_> = (0..1500u16).map(|n| IpAddr::from([172, 20, 1 + (n >> 8) as u8, n as u8])).collect();
    world.say(&[ips([1, 2]), inside].concat());
    world.say_for(605, &ips([1, 2]));
    assert_eq!(world.peers(), ips([2]));
    assert_eq!(world.members.departed.len(), MAX_DEPARTED);
    world.say_for(3700, &ips([1, 2]));
    assert!(world.members.departed.is_empty());
}

#[test]
fn the_next_refresh_follows_the_ttl_and_backs_off() {
    let secs = Duration::from_secs;
    let with_ttl = |ttl| {
        let addresses = Arc::new(ips([1, 2]).into_iter().collect());
        let outcome = Outcome::Answer { addresses, ttl: secs(ttl), complete: Complete::BOTH };
        reply(NAME, "r", outcome)
    };
    let mut world = World::new();
    assert_eq!(world.members.next_refresh(0), Duration::ZERO);
    for (ttl, expected) in [(0, 1), (5, 5), (300, 30)] {
        world.round(vec![with_ttl(ttl)]);
        assert_eq!(world.members.next_refresh(0), secs(expected), "TTL {ttl}");
    }
    assert_eq!(world.members.next_refresh(u32::MAX), secs(24), "a fifth earlier at most");
    for expected in [1, 2, 4, 8, 16, 30, 30] {
        world.fail(FailureKind::Timeout);
        assert_eq!(world.members.next_refresh(0), secs(expected));
    }
    for _ in 0..100 {
        world.fail(FailureKind::Timeout);
    }
    assert_eq!(world.members.next_refresh(0), secs(30));
    world.round(vec![with_ttl(7)]);
    assert_eq!(world.members.next_refresh(0), secs(7));
}
