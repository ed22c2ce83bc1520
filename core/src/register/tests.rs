//! The rules one by one, and a world in which everything happens at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::membership::{Complete, FailureKind, Liveness, Now, Outcome, Reply, Round};

mod world;

use world::World;

const NAME: &str = "minions.cncfdemo.k8s.";

fn ip(n: u8) -> IpAddr {
    IpAddr::from([172, 20, 0, n])
}

fn settings() -> Settings {
    Settings {
        enabled: true,
        role: "minions".into(),
        server: None,
        zone: None,
        key_file: "/etc/minionet/register.key".into(),
        ttl: Duration::from_secs(30),
        lease: Some(Duration::from_secs(3600)),
    }
}

fn at(seconds: u64) -> Now {
    Now { monotonic: Duration::from_secs(seconds), unix: 1_764_000_000 + seconds }
}

fn sight(own: u8, listed: Listed) -> Sight {
    Sight { own: Some(ip(own)), listed, ..Sight::default() }
}

fn fresh() -> Registrar {
    Registrar::new(&settings(), NAME, "id", Ledger::default())
}

fn refused() -> Failure {
    Failure::Refused { server: "s".into(), zone: "z".into(), key: "k".into() }
}

/// The update of the task, which must be a registration.
fn update(task: Option<Task>) -> Update {
    match task {
        Some(Task::Register { update, .. }) => update,
        other => panic!("{other:?} instead of a registration"),
    }
}

fn lease_of(update: &Update) -> String {
    let text = |change: &Change| match change {
        Change::SetLease(lease, _) => Some(lease.text.clone()),
        _ => None,
    };
    update.changes.iter().find_map(text).unwrap()
}

#[test]
fn names_of_leases_are_labels() {
    assert_eq!(lease_name(NAME, ip(1)), "172-20-0-1._lease.minions.cncfdemo.k8s.");
    assert_eq!(lease_name("n.", "fd00:20::1".parse().unwrap()), "fd00-20-0-0-0-0-0-1._lease.n.");
    assert_eq!(lease_name("n.", "::".parse().unwrap()), "0-0-0-0-0-0-0-0._lease.n.");
}

#[test]
fn a_node_registers_as_soon_as_it_knows_its_address_and_not_before() {
    let mut registrar = fresh();
    assert_eq!(registrar.poll(at(0)), None);
    assert_eq!(registrar.next_wake(), None);
    registrar.observe(sight(1, Listed::Unknown), at(1));
    let Some(Task::Register { ledger, update }) = registrar.poll(at(1)) else { panic!() };
    assert_eq!(update.requires, None);
    let ttl = Duration::from_secs(30);
    let lease = Lease { name: lease_name(NAME, ip(1)), text: "minionet id=id n=1 at=1764000001".into() };
    let add = Change::Add { name: NAME.into(), address: ip(1), ttl };
    assert_eq!(update.changes, [add, Change::SetLease(lease.clone(), ttl)]);
    assert_eq!(ledger.standings[0].leases, [lease.text], "it is on record before it is sent");
    let events = registrar.registered(Ok(()), at(1), 0);
    assert_eq!(events, [Event::Registered { address: ip(1), instead_of: None }]);
    assert_eq!(registrar.poll(at(2)), None);
}

#[test]
fn the_lease_is_renewed_every_third_of_its_length() {
    let mut registrar = fresh();
    registrar.observe(sight(1, Listed::Yes), at(0));
    let first = lease_of(&update(registrar.poll(at(0))));
    registrar.registered(Ok(()), at(0), 0);
    assert_eq!(registrar.next_wake(), Some(Duration::from_secs(1200)));
    assert_eq!(registrar.poll(at(1199)), None);
    assert_ne!(lease_of(&update(registrar.poll(at(1200)))), first);
    // Up to a tenth earlier, by chance.
    assert_eq!(registrar.registered(Ok(()), at(1200), 19), []);
    assert_eq!(registrar.next_wake(), Some(Duration::from_secs(1200 + 1092)));
}

#[test]
fn a_record_that_is_missing_is_registered_again_and_ever_more_patiently() {
    let mut registrar = fresh();
    registrar.observe(sight(1, Listed::No), at(0));
    let mut now = 0;
    let mut gaps = Vec::new();
    let mut events = Vec::new();
    let mut last = 0;
    while now < 1000 {
        registrar.observe(sight(1, Listed::No), at(now));
        if registrar.poll(at(now)).is_some() {
            events.extend(registrar.registered(Ok(()), at(now), 0));
            gaps.push(now - last);
            last = now;
        }
        now += 1;
    }
    // Twice the TTL and two seconds; then doubled.
    assert_eq!(gaps, [0, 62, 124, 248, 496]);
    assert_eq!(events.last(), Some(&Event::Unseen { address: ip(1) }));
    assert_eq!(events.iter().filter(|e| **e == Event::Unseen { address: ip(1) }).count(), 1);
    // Seen once, and removed by somebody: no more patience than at first.
    registrar.observe(sight(1, Listed::Yes), at(1000));
    registrar.observe(sight(1, Listed::No), at(1001));
    assert!(registrar.poll(at(1001)).is_some());
}

#[test]
fn failures_are_tried_again_with_the_same_lease_ever_later_and_at_most_a_minute_apart() {
    for random in [0, u32::MAX / 2, u32::MAX] {
        let mut registrar = fresh();
        registrar.observe(sight(1, Listed::No), at(0));
        let lease = lease_of(&update(registrar.poll(at(0))));
        let mut now = at(0);
        for n in 0..20u32 {
            registrar.registered(Err(&refused()), now, random);
            let wake = registrar.next_wake().unwrap();
            let most = Duration::from_secs(1 << n.min(6)).min(Duration::from_secs(60));
            let pause = wake - now.monotonic;
            assert!(pause <= most && pause >= most / 2, "{n}: {pause:?}");
            assert_eq!(registrar.poll(Now { monotonic: wake - Duration::from_millis(1), ..now }), None);
            now.monotonic = wake;
            assert_eq!(lease_of(&update(registrar.poll(now))), lease);
        }
        registrar.registered(Ok(()), now, 0);
        assert!(registrar.is_registered());
    }
}

#[test]
fn another_address_replaces_the_former_in_one_update() {
    let mut registrar = fresh();
    registrar.observe(sight(1, Listed::Yes), at(0));
    let lease = lease_of(&update(registrar.poll(at(0))));
    registrar.registered(Ok(()), at(0), 0);
    registrar.observe(sight(2, Listed::No), at(1));
    let moved = update(registrar.poll(at(1)));
    assert_eq!(moved.requires, Some(Lease { name: lease_name(NAME, ip(1)), text: lease }));
    let removes = |update: &Update| update.changes[0] == Change::Remove { name: NAME.into(), address: ip(1) };
    assert!(removes(&moved) && matches!(moved.changes[2], Change::Add { address, .. } if address == ip(2)));
    assert_eq!(registrar.ledger().standings.len(), 2, "both are on record while it is under way");
    let events = registrar.registered(Ok(()), at(1), 0);
    assert_eq!(events, [Event::Registered { address: ip(2), instead_of: Some(ip(1)) }]);
    assert_eq!(registrar.ledger().standings.len(), 1);
}

#[test]
fn a_former_address_that_another_has_by_now_stays() {
    // A crash between sending and hearing left two texts of which one may be there.
    let standing = Standing { name: NAME.into(), address: ip(1), leases: vec!["old".into(), "new".into()] };
    let mut registrar = Registrar::new(&settings(), NAME, "id", Ledger::new(vec![standing]));
    registrar.observe(sight(2, Listed::No), at(0));
    for text in ["new", "old"] {
        assert_eq!(update(registrar.poll(at(0))).requires.unwrap().text, text);
        let events = registrar.registered(Err(&Failure::Changed), at(0), 0);
        assert_eq!(events.is_empty(), text == "new");
    }
    let alone = update(registrar.poll(at(0)));
    assert_eq!((alone.requires, alone.changes.len()), (None, 2), "nothing is removed any more");
    registrar.registered(Ok(()), at(0), 0);
    assert_eq!(registrar.ledger().standings.len(), 1);
}

#[test]
fn a_former_name_in_another_zone_does_not_keep_a_node_from_registering() {
    let standing = Standing { name: "minions.old.k8s.".into(), address: ip(1), leases: vec!["l".into()] };
    let mut registrar = Registrar::new(&settings(), NAME, "id", Ledger::new(vec![standing]));
    registrar.observe(sight(1, Listed::No), at(0));
    assert!(update(registrar.poll(at(0))).requires.is_some());
    let failure = Failure::NotZone { server: "s".into(), zone: "z".into() };
    let events = registrar.registered(Err(&failure), at(0), 0);
    assert_eq!(events, [Event::LeftBehind { name: "minions.old.k8s.".into(), address: ip(1) }]);
    assert_eq!(update(registrar.poll(at(0))).requires, None);
}

#[test]
fn who_left_does_nothing_until_called_back() {
    let mut registrar = fresh();
    registrar.observe(sight(1, Listed::Yes), at(0));
    registrar.poll(at(0));
    registrar.registered(Ok(()), at(0), 0);
    registrar.left();
    assert!(!registrar.is_registered() && registrar.ledger().standings.is_empty());
    // Back again: at once, with a lease that was never there before.
    assert!(lease_of(&update(registrar.poll(at(5)))).contains("n=2"));
}

#[test]
fn what_an_answer_says_about_the_own_record() {
    let answer = |addresses: &[u8], complete| Outcome::Answer {
        addresses: Arc::new(addresses.iter().map(|n| ip(*n)).collect()),
        ttl: Duration::from_secs(1),
        complete,
    };
    let failure = |kind| Outcome::Failure { kind, text: String::new() };
    for (outcomes, listed) in [
        (vec![answer(&[1, 2], Complete::BOTH)], Listed::Yes),
        (vec![answer(&[2], Complete::BOTH)], Listed::No),
        (vec![answer(&[2], Complete::NEITHER)], Listed::Unknown),
        (vec![failure(FailureKind::NxDomain)], Listed::No),
        (vec![failure(FailureKind::Empty)], Listed::No),
        (vec![failure(FailureKind::Timeout)], Listed::Unknown),
        (vec![failure(FailureKind::ServFail)], Listed::Unknown),
        (vec![answer(&[2], Complete::BOTH), answer(&[1], Complete::NEITHER)], Listed::Yes),
        (vec![], Listed::Unknown),
    ] {
        let reply =
            |outcome: &Outcome| Reply { name: NAME.into(), resolver: "r".into(), outcome: outcome.clone() };
        let round = Round { replies: outcomes.iter().map(reply).collect() };
        let seen = Sight::new(&round, NAME, Some(ip(1)), [(ip(2), Liveness::Dead)]);
        assert_eq!(seen.listed, listed, "{outcomes:?}");
        assert_eq!(Sight::new(&round, "other.", Some(ip(1)), []).listed, Listed::Unknown);
    }
}

#[test]
fn two_thirds_must_live_and_three_judge() {
    let see = |alive: u8, dead: u8| {
        let peers = (0..alive).map(|n| (ip(100 + n), Liveness::Alive));
        let peers = peers.chain((0..dead).map(|n| (ip(200 + n), Liveness::Dead)));
        Sight { peers: peers.collect(), ..sight(150, Listed::Yes) }
    };
    for (alive, dead, trusted) in
        [(0, 1, false), (1, 1, true), (1, 2, false), (2, 1, true), (2, 2, false), (3, 2, true)]
    {
        assert_eq!(see(alive, dead).is_trustworthy(usize::from(alive + dead)), trusted, "{alive} {dead}");
    }
    assert!(!Sight { listed: Listed::Unknown, ..see(9, 1) }.is_trustworthy(10));
    assert_eq!(see(9, 1).rank(), Some(9));
}

#[test]
fn keys_are_read_as_bind_reads_them() {
    let secret = "c2l4dGVlbiBvY3RldHMhISE=";
    for text in [
        format!("key \"minions-key\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{secret}\";\n}};\n"),
        format!("# one\nkey Minions-Key. {{ secret {secret}; algorithm HMAC-SHA256; }}; // two\n/* three */"),
    ] {
        let key = Key::parse(&text).unwrap();
        assert_eq!((key.name.as_str(), key.algorithm), ("minions-key.", Algorithm::Sha256));
        assert_eq!(key.secret, b"sixteen octets!!!");
        assert!(!format!("{key:?}").contains(secret));
    }
    for (text, part) in [
        (String::new(), "the end of the file instead of key"),
        ("key \"a".into(), "without its closing quote"),
        ("key a { algorithm hmac-md5; secret \"AAAA\"; };".into(), "hmac-md5 is not supported"),
        ("key a { algorithm hmac-sha256; secret \"?\"; };".into(), "not base64"),
        ("key a { algorithm hmac-sha256; secret \"AAAA\"; };".into(), "3 octets"),
        ("key a { algorithm hmac-sha256; };".into(), "instead of secret"),
        (format!("key a {{ algorithm hmac-sha256; secret {secret}; }}; key b {{"), "one key alone"),
        (format!("key a {{ algorithm hmac-sha256; secret {secret}; }}"), "instead of ;"),
    ] {
        let error = Key::parse(&text).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains(secret), "{text}: {error}");
    }
}

#[test]
fn every_refusal_says_what_to_do() {
    let say = |rcode, tsig, ahead| {
        Failure::of(Verdict { rcode, tsig, ahead }, "s", "z.", "k.").map(|f| f.to_string())
    };
    assert_eq!(say(0, None, None), None);
    for (rcode, tsig, ahead, part) in [
        (9, Some(16), None, "(BADSIG): copy"),
        (9, Some(17), None, "(BADKEY): put"),
        (9, Some(18), Some(-3600), "3600 s behind this node's; set them right"),
        (9, Some(18), Some(7), "7 s ahead"),
        (9, Some(18), None, "another than this node's"),
        (9, None, None, "(NOTAUTH): set register_server"),
        (5, None, None, "(REFUSED): permit"),
        (10, None, None, "(NOTZONE): set register_zone"),
        (4, None, None, "(NOTIMP): use a server"),
        (2, None, None, "(SERVFAIL): see its log"),
        (8, None, None, "changed by another"),
        (1, None, None, "code 1"),
    ] {
        let text = say(rcode, tsig, ahead).unwrap();
        assert!(text.contains(part), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is cut off or killed, and for how long: who renews its lease, or is reached by the
    /// one that judges, is never removed; a machine that is dead in the end is gone in the
    /// end, where enough of the others live; and who lives in the end is registered in the end.
    #[test]
    fn only_the_dead_are_removed(seed in any::<u64>(), nodes in 3u8..8) {
        let mut world = World::new(nodes, seed);
        for _ in 0..12 {
            world.disturb();
            world.run(2000)?;
        }
        world.heal();
        world.run(4 * 3600)?;
        world.check_end()?;
    }

    #[test]
    fn no_text_makes_the_key_parser_panic(text in "[key{};\"/*# \\na-z=]{0,60}") {
        let _refused_or_not = Key::parse(&text);
    }
}
