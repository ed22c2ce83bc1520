//! The normal life of a peer, refusals, restarts.

use super::*;

#[test]
fn first_sight_adds_at_once() {
    let mut world = World::new();
    let events = world.say(&ips([1, 2, 3]));
    assert_eq!(world.peers(), ips([2, 3]));
    assert!(events.contains(&Event::Added { peer: ip(2) }));
    assert_eq!(world.state(ip(1)), Some(PeerState::Refused { refusal: Refusal::Own }));
    assert!(world.members.is_settled());
}

#[test]
fn a_missing_peer_goes_after_the_answers_and_the_hold_down() {
    let mut world = World::new();
    world.say(&ips([1, 2, 3]));
    let gone = world.now.unix;
    for n in 1..=6 {
        // Missed first after 5 s, so that the sixth answer comes 25 s later.
        world.say(&ips([1, 2]));
        assert_eq!(world.peers(), ips([2, 3]), "answer {n}");
        assert_eq!(world.state(ip(3)), Some(PeerState::Missing { answers: n }));
    }
    assert!(!world.members.is_settled());
    let view = world.members.view();
    let peer = view.peers.iter().find(|p| p.address == ip(3)).unwrap();
    assert_eq!((peer.last_seen, peer.since), (gone, gone + 5));
    let events = world.say(&ips([1, 2]));
    let (missing, liveness) = (Duration::from_secs(30), Liveness::Unknown);
    assert_eq!(events, [Event::Removed { peer: ip(3), missing, answers: 7, liveness }]);
    assert_eq!(world.peers(), ips([2]));
    assert_eq!(world.members.view().departed[0].address, ip(3));
    assert!(world.members.is_settled());
}

#[test]
fn the_hold_down_alone_is_not_enough() {
    let mut world = World::new();
    world.say(&ips([1, 2, 3]));
    world.say(&ips([1, 2]));
    world.pass(40);
    world.say(&ips([1, 2]));
    assert_eq!(world.peers(), ips([2, 3]), "two answers");
    world.say(&ips([1, 2]));
    assert_eq!(world.peers(), ips([2]), "three answers");
}

#[test]
fn a_peer_that_comes_back_starts_anew() {
    let mut world = World::new();
    world.say(&ips([1, 2, 3]));
    world.say_for(30, &ips([1, 2]));
    assert_eq!(world.say(&ips([1, 2, 3])), [Event::Returned { peer: ip(3), flaps: 1 }]);
    assert_eq!(world.state(ip(3)), Some(PeerState::Active));
    world.say_for(30, &ips([1, 2]));
    assert_eq!(world.peers(), ips([2, 3]));
    world.say(&ips([1, 2]));
    assert_eq!(world.peers(), ips([2]));
}

#[test]
fn several_names_make_a_union_and_all_of_them_must_agree_on_an_absence() {
    let mut world = World::with(&[NAME, MASTERS], Thresholds::default());
    let both = |a: Outcome, b: Outcome| vec![reply(NAME, "r", a), reply(MASTERS, "r", b)];
    world.round(both(answer(ips([1, 2, 3])), answer(ips([3, 9]))));
    assert_eq!(world.peers(), ips([2, 3, 9]));
    let view = world.members.view();
    let names = |a| view.peers.iter().find(|p| p.address == a).unwrap().names.clone();
    assert_eq!(names(ip(3)), [MASTERS, NAME], "listed twice, one peer");
    // 2 moves from one name to the other, and 3 is dropped from one of its two.
    world.round(both(answer(ips([1, 3])), answer(ips([2, 9]))));
    assert!(world.events.iter().all(|e| !matches!(e, Event::Missing { .. })));
    // 9 is dropped while the other name cannot be read: nobody goes.
    for _ in 0..100 {
        world.round(both(failure(FailureKind::ServFail), answer(ips([2]))));
    }
    assert_eq!(world.peers(), ips([2, 3, 9]));
    assert_eq!(world.members.view().removals_wait_for, [NAME]);
    for _ in 0..10 {
        world.round(both(answer(ips([1, 3])), answer(ips([2]))));
    }
    assert_eq!(world.peers(), ips([2, 3]));
}

#[test]
fn a_name_that_never_had_an_address_keeps_nobody_from_going() {
    let mut world = World::with(&[NAME, MASTERS], Thresholds::default());
    let both = |a: Outcome| vec![reply(NAME, "r", a), reply(MASTERS, "r", failure(FailureKind::NxDomain))];
    world.round(both(answer(ips([1, 2, 3]))));
    for _ in 0..8 {
        world.round(both(answer(ips([1, 2]))));
    }
    assert_eq!(world.peers(), ips([2]));
    // It keeps them once it had one.
    world.round(vec![reply(NAME, "r", answer(ips([1, 2]))), reply(MASTERS, "r", answer(ips([9])))]);
    for _ in 0..20 {
        world.round(both(answer(ips([1]))));
    }
    assert_eq!(world.peers(), ips([2, 9]));
}

#[test]
fn what_cannot_be_a_peer_is_refused_with_the_reason() {
    let mut world = World::new();
    let mut scope = scope();
    scope.local.insert(ip(100));
    world.members.set_scope(scope, world.now);
    let special = ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255"];
    let special6 = ["::", "::1", "ff02::1", "fe80::1", "::ffff:172.20.0.9"];
    let refused = ["172.21.0.1", "fd00::1", "172.20.0.1", "172.20.0.100"];
    let all = special.iter().chain(&special6).chain(&refused).map(|a| a.parse().unwrap());
    world.say(&all.chain([ip(2)]).collect::<Vec<_>>());
    assert_eq!(world.peers(), ips([2]));
    let reason = |a: &str| match world.state(a.parse().unwrap()) {
        Some(PeerState::Refused { refusal }) => refusal,
        other => panic!("{a}: {other:?}"),
    };
    for addr in special.iter().chain(&special6) {
        assert!(matches!(reason(addr), Refusal::Special { .. }), "{addr}");
    }
    let underlay = crate::addr::Family::V4;
    let reasons = [Refusal::OutsidePlan, Refusal::OtherFamily { underlay }, Refusal::Own, Refusal::Local];
    assert_eq!(refused.map(reason), reasons);
    assert_eq!(reasons.map(Refusal::is_problem), [true, false, false, true]);
}

#[test]
fn another_scope_judges_everybody_anew() {
    let names = [NAME.to_owned()];
    let mut members = Membership::new("cncfdemo", &names, Thresholds::default()).unwrap();
    let mut world = World { members: members.clone(), ..World::new() };
    world.say(&ips([1, 2, 3]));
    assert!(world.peers().is_empty(), "there is no plan yet");
    assert!(!world.members.is_complete());
    let events = world.members.set_scope(scope(), world.now);
    assert_eq!(world.peers(), ips([2, 3]));
    assert!(events.iter().any(Event::changes_peers));
    assert!(world.members.is_complete(), "the answer before the plan counts");
    // The node takes over the address of 3, and its own old one is still listed.
    let moved = Scope { own: Some(ip(3)), local: BTreeSet::from([ip(3)]), ..scope() };
    let events = world.members.set_scope(moved, world.now);
    world.check();
    assert_eq!(world.peers(), ips([1, 2]));
    assert_eq!(events.iter().filter(|e| e.changes_peers()).count(), 2);
    assert!(members.set_scope(Scope::default(), world.now).is_empty(), "nothing changed");
}

#[test]
fn the_own_address_missing_is_shown_and_removes_nothing() {
    let mut world = World::new();
    world.say(&ips([1, 2]));
    assert!(world.say(&ips([2])).contains(&Event::OwnMissing { own: ip(1) }));
    let since = world.now.unix;
    world.say_for(300, &ips([2]));
    assert_eq!(world.members.view().own, OwnView { address: Some(ip(1)), missing_since: Some(since) });
    assert_eq!(world.peers(), ips([2]));
    assert!(world.say(&ips([1, 2])).contains(&Event::OwnReturned { own: ip(1) }));
    assert_eq!(world.members.view().own.missing_since, None);
}

#[test]
fn a_restart_without_dns_keeps_the_peers_and_their_history() {
    let mut before = World::new();
    before.say(&ips([1, 2, 3]));
    let text = before.members.snapshot(before.now).to_text();
    let snapshot = Snapshot::parse(&text).unwrap();
    assert!(snapshot.same_peers(&before.members.snapshot(Now::default())));

    let mut after = World::new();
    after.now.unix += 3600;
    assert_eq!(after.members.restore(&snapshot, after.now).unwrap(), 2);
    after.check();
    for _ in 0..100 {
        after.fail(FailureKind::Timeout);
    }
    assert_eq!(after.peers(), ips([2, 3]));
    let view = after.members.view();
    assert!(view.peers.iter().all(|p| !p.confirmed && p.last_seen == before.now.unix));
    // DNS is back: one is confirmed, the other is under the normal rules.
    after.say_for(30, &ips([1, 2]));
    assert_eq!(after.peers(), ips([2, 3]));
    after.say(&ips([1, 2]));
    assert_eq!(after.peers(), ips([2]));
    let view = after.members.view();
    let peer = view.peers.iter().find(|p| p.address == ip(2)).unwrap();
    assert!(peer.confirmed && peer.first_seen == before.now.unix);
}

#[test]
fn a_snapshot_is_kept_while_the_plan_is_unknown_and_names_are_remembered() {
    let mut before = World::with(&[NAME, MASTERS], Thresholds::default());
    before.round(vec![reply(NAME, "r", answer(ips([1, 2]))), reply(MASTERS, "r", answer(ips([9])))]);
    let snapshot = before.members.snapshot(before.now);
    let names = [NAME.to_owned(), MASTERS.to_owned()];
    let mut members = Membership::new("cncfdemo", &names, Thresholds::default()).unwrap();
    members.restore(&snapshot, Now::default()).unwrap();
    assert_eq!(members.snapshot(before.now), snapshot, "nothing is lost when it is written again");
    members.set_scope(scope(), Now::default());
    let mut after = World { members, ..before.clone() };
    assert_eq!(after.peers(), ips([2, 9]));
    for _ in 0..100 {
        after.round(vec![reply(NAME, "r", answer(ips([1, 2])))]);
    }
    assert_eq!(after.peers(), ips([2, 9]), "a name that was answered before the restart is waited for");
}

#[test]
fn snapshots_of_others_and_unreadable_ones_are_refused() {
    let mut world = World::new();
    world.say(&ips([1, 2]));
    let mut other = world.members.snapshot(world.now);
    other.cluster = "staging".into();
    let error = World::new().members.restore(&other, world.now).unwrap_err().to_string();
    assert!(error.contains("\"staging\"") && error.contains("\"cncfdemo\""), "{error}");
    for (text, part) in [("", "cannot be read"), ("{}", "cannot be read"), (r#"{"schema": 2}"#, "format 2")] {
        let error = Snapshot::parse(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn dropping_a_name_follows_the_rules() {
    let mut world = World::with(&[NAME, MASTERS], Thresholds::default());
    let both = || vec![reply(NAME, "r", answer(ips([1, 2]))), reply(MASTERS, "r", answer(ips([9])))];
    world.round(both());
    world.members.reconfigure(&[NAME.into()], Thresholds::default()).unwrap();
    world.check();
    for _ in 0..6 {
        world.round(both());
    }
    assert_eq!(world.peers(), ips([2, 9]));
    world.round(both());
    world.round(both());
    assert_eq!(world.peers(), ips([2]), "replies about a name that is not configured are ignored");
}

#[test]
fn impossible_settings_are_refused() {
    let error = Membership::new("c", &[], Thresholds::default()).unwrap_err();
    assert_eq!(error, SettingsError::NoName);
    let defaults = Thresholds::default;
    let secs = Duration::from_secs;
    for (limits, part) in [
        (Thresholds { missing_answers: 0, ..defaults() }, "missing_answers = 0"),
        (Thresholds { mass_percent: 101, ..defaults() }, "mass_percent = 101"),
        (Thresholds { refresh_min: secs(0), ..defaults() }, "refresh_min"),
        (Thresholds { refresh_max: Duration::from_millis(500), ..defaults() }, "refresh_max"),
        (Thresholds { hold_down: secs(601), ..defaults() }, "raise mass_hold or lower hold_down"),
    ] {
        let error = Membership::new("c", &["n".into()], limits).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
