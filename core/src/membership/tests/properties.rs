//! What holds whatever happens.

use proptest::prelude::*;

use super::random::Random;
use super::*;

/// Something that happens to membership.
#[derive(Clone, Debug)]
enum Step {
    /// A round: what each of two resolvers says about each of two names.
    Round([Said; 4]),
    /// Time goes by without a round, in seconds.
    Pass(u64),
    /// The probe has something to say.
    Probe(u8, Liveness),
    /// The node takes another address.
    Own(u8),
}

#[derive(Clone, Debug)]
enum Said {
    Nothing,
    Failure,
    Answer(BTreeSet<u8>, Complete),
}

const ASKED: [(&str, &str); 4] = [(NAME, "a"), (NAME, "b"), (MASTERS, "a"), (MASTERS, "b")];

fn said() -> impl Strategy<Value = Said> {
    let some = prop::collection::btree_set(0u8..12, 0..10);
    // Nearly everything, so that the normal rules get their turn and not the guard alone.
    let most =
        prop::collection::btree_set(0u8..12, 0..3).prop_map(|s| (0..12).filter(|n| !s.contains(n)).collect());
    let complete = (prop::bool::weighted(0.8), prop::bool::weighted(0.8));
    prop_oneof![
        1 => Just(Said::Nothing),
        1 => Just(Said::Failure),
        6 => (prop_oneof![some, most], complete)
            .prop_map(|(set, (v4, v6))| Said::Answer(set, Complete { v4, v6 })),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let liveness = prop_oneof![Just(Liveness::Unknown), Just(Liveness::Alive), Just(Liveness::Dead)];
    prop_oneof![
        12 => prop::array::uniform4(said()).prop_map(Step::Round),
        2 => (0u64..1000).prop_map(Step::Pass),
        1 => (0u8..12, liveness).prop_map(|(n, l)| Step::Probe(n, l)),
        1 => (1u8..4).prop_map(Step::Own),
    ]
}

/// The address that a number stands for: most are in the plan, some are not.
fn addr(n: u8) -> IpAddr {
    match n {
        10 => IpAddr::from([172, 21, 0, 1]),
        11 => "fd00::1".parse().unwrap(),
        n => ip(n + 1),
    }
}

fn replies(said: &[Said; 4]) -> Vec<Reply> {
    let outcome = |said: &Said| match said {
        Said::Nothing => None,
        Said::Failure => Some(failure(FailureKind::ServFail)),
        Said::Answer(set, complete) => {
            let addresses = Arc::new(set.iter().map(|n| addr(*n)).collect());
            Some(Outcome::Answer { addresses, ttl: Duration::from_secs(5), complete: *complete })
        }
    };
    let replies = ASKED
        .iter()
        .zip(said)
        .filter_map(|((name, resolver), said)| outcome(said).map(|outcome| reply(name, resolver, outcome)));
    replies.collect()
}

fn world() -> World {
    World::with(&[NAME, MASTERS], Thresholds::default())
}

impl World {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Round(said) => drop(self.round(replies(said))),
            Step::Pass(seconds) => self.pass(*seconds),
            Step::Probe(n, liveness) => self.members.set_liveness(addr(*n), *liveness, self.now),
            Step::Own(n) => {
                let local = BTreeSet::from([ip(*n)]);
                drop(self.members.set_scope(Scope { own: Some(ip(*n)), local, ..scope() }, self.now));
            }
        }
    }

    fn after(steps: &[Step]) -> World {
        let mut world = world();
        for step in steps {
            world.step(step);
            world.check();
        }
        world
    }
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_sequence_of_failures_removes_anybody(
        steps in history(),
        failures in prop::collection::vec((0usize..5, 0u64..100_000), 1..40),
    ) {
        let mut world = World::after(&steps);
        let before = world.peers();
        for (how, seconds) in failures {
            world.pass(seconds);
            let partial = Said::Answer(BTreeSet::new(), Complete::BOTH);
            let said = match how {
                0 => [Said::Nothing, Said::Nothing, Said::Nothing, Said::Nothing],
                1 => [Said::Failure, Said::Failure, Said::Failure, Said::Failure],
                2 => [Said::Failure, Said::Nothing, Said::Nothing, Said::Failure],
                3 => [partial.clone(), partial.clone(), partial.clone(), partial],
                // Truncated: the records that came are of the other family.
                _ => {
                    let cut = Said::Answer(BTreeSet::from([11]), Complete::NEITHER);
                    [cut.clone(), Said::Failure, Said::Failure, cut]
                }
            };
            world.step(&Step::Round(said));
            prop_assert_eq!(world.peers(), before.clone());
        }
        world.check();
    }

    #[test]
    fn the_order_of_replies_is_irrelevant(steps in history()) {
        let (mut forwards, mut backwards) = (world(), world());
        for step in &steps {
            let Step::Round(said) = step else {
                forwards.step(step);
                backwards.step(step);
                continue;
            };
            let mut reversed = replies(said);
            reversed.reverse();
            prop_assert_eq!(forwards.round(replies(said)), backwards.round(reversed));
        }
        let json = |world: &World| serde_json::to_string(&world.members.view()).unwrap();
        prop_assert_eq!(json(&forwards), json(&backwards));
    }

    #[test]
    fn whoever_is_listed_is_programmed(steps in history(), last in prop::array::uniform4(said())) {
        let mut world = World::after(&steps);
        world.step(&Step::Round(last.clone()));
        let own = world.members.view().own.address;
        for said in last {
            let Said::Answer(set, _) = said else { continue };
            for listed in set.iter().filter(|n| **n < 10).map(|n| addr(*n)).filter(|a| Some(*a) != own) {
                prop_assert!(world.peers().contains(&listed), "{}", listed);
            }
        }
    }

    #[test]
    fn whoever_is_dropped_for_good_goes_in_the_end(
        steps in history(),
        last in prop::collection::btree_set(0u8..10, 1..10),
    ) {
        let mut world = World::after(&steps);
        let said = Said::Answer(last.clone(), Complete::BOTH);
        let said = replies(&[said.clone(), said.clone(), said, Said::Failure]);
        // Longer than recognising the end of sampling and the longest hold together.
        for _ in 0..(3600 / 5) {
            world.round(said.clone());
        }
        world.check();
        let own = world.members.view().own.address;
        let expected: Vec<_> = last.iter().map(|n| addr(*n)).filter(|a| Some(*a) != own).collect();
        prop_assert_eq!(world.peers(), expected);
        prop_assert!(world.members.is_settled());
    }

    #[test]
    fn events_tell_the_peers_and_a_snapshot_keeps_them(steps in history()) {
        let mut world = world();
        let mut told = BTreeSet::new();
        for step in &steps {
            world.events.clear();
            let events = match step {
                Step::Own(n) => {
                    let local = BTreeSet::from([ip(*n)]);
                    world.members.set_scope(Scope { own: Some(ip(*n)), local, ..scope() }, world.now)
                }
                step => {
                    world.step(step);
                    world.events.clone()
                }
            };
            for event in events {
                match event {
                    Event::Added { peer } => prop_assert!(told.insert(peer)),
                    Event::Removed { peer, .. } => prop_assert!(told.remove(&peer)),
                    Event::Refused { address, was_peer, .. } => prop_assert_eq!(told.remove(&address), was_peer),
                    _ => {}
                }
            }
            prop_assert!(told.iter().copied().eq(world.peers()));
        }
        let text = world.members.snapshot(world.now).to_text();
        let mut restored = World { members: world.members.clone(), ..self::world() };
        restored.members = Membership::new("cncfdemo", &[NAME.into()], Thresholds::default()).unwrap();
        restored.members.set_scope(world.members.scope.clone(), world.now);
        restored.members.restore(&Snapshot::parse(&text).unwrap(), world.now).unwrap();
        restored.check();
        prop_assert_eq!(restored.peers(), world.peers());
    }

    #[test]
    fn memory_and_events_are_bounded(
        rounds in prop::collection::vec((any::<u64>(), 0usize..3000, 0usize..40), 1..12),
    ) {
        let limits = Thresholds { max_peers: 100, ..Thresholds::default() };
        let mut world = World::with(&[NAME, MASTERS], limits);
        let mut most = 0;
        for (seed, size, resolver) in rounds {
            // Anything that an answer could hold, from any resolver; most is outside of the plan.
            let mut random = Random(seed);
            let mut any = || {
                let [a, b, c, ..] = random.bits().to_le_bytes();
                IpAddr::from([172, 16 + a % 8, b, c])
            };
            let answers: BTreeSet<IpAddr> = (0..size).map(|_| any()).collect();
            most = most.max(answers.len());
            let resolver = format!("r{resolver}");
            let events = world.round(vec![
                reply(NAME, &resolver, answer(answers)),
                reply(MASTERS, &resolver, failure(FailureKind::Timeout)),
            ]);
            // What came, what left, who got the room that became free, and what is said in general.
            prop_assert!(events.len() <= 2 * most + 100 + 10);
            let members = &world.members;
            prop_assert!(members.entries.len() <= 100 + MAX_REFUSED + 1);
            prop_assert!(members.unlisted.len() <= members.entries.len());
            prop_assert!(members.departed.len() <= MAX_DEPARTED);
            prop_assert!(members.names.iter().all(|n| n.resolvers.len() <= 16 && n.last.len() <= most));
            prop_assert!(members.snapshot(world.now).peers.len() <= 100);
        }
    }

    #[test]
    fn a_refresh_stays_within_its_limits(steps in history(), random: u32) {
        let world = World::after(&steps);
        let limits = Thresholds::default();
        let wait = world.members.next_refresh(random);
        prop_assert!(wait <= limits.refresh_max);
        prop_assert!(wait >= limits.refresh_min || world.members.rounds == 0);
    }
}
