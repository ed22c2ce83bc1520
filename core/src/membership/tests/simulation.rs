//! A seeded history of a cluster: joins, leaves, and every fault that DNS can have, one after
//! the other, seen by one node. The same seed gives the same history.

use super::random::Random;
use super::*;

/// What is wrong with DNS for a while.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Failing,
    Truncated,
    HalfMissing,
    AllReplaced,
    RandomEight,
    Flapping,
    LiarBesideTheTruth,
}

impl Fault {
    /// A fault, and for how many seconds it lasts. DNS that keeps saying something wrong for
    /// longer than the mass hold is believed, by design; so those end before.
    fn any(random: &mut Random) -> (Fault, u64) {
        let kinds = [
            (Fault::Failing, 7200),
            (Fault::Truncated, 7200),
            (Fault::HalfMissing, 480),
            (Fault::AllReplaced, 480),
            (Fault::RandomEight, 7200),
            (Fault::Flapping, 3600),
            (Fault::LiarBesideTheTruth, 7200),
        ];
        let (fault, most) = kinds[random.below(kinds.len())];
        (fault, random.between(30, most))
    }
}

struct Simulation {
    random: Random,
    world: World,
    /// The records that DNS should give, this node's included.
    truth: Arc<AddressSet>,
    fault: Fault,
    fault_ends: u64,
    /// For how many rounds in a row the flapping records have been gone.
    flap: u32,
    /// FNV-1a over everything that happened.
    digest: u64,
    wrongful: Vec<Event>,
}

fn node(n: usize) -> IpAddr {
    IpAddr::from([172, 20, (n >> 8) as u8, n as u8])
}

impl Simulation {
    fn new(seed: u64, nodes: usize) -> Self {
        let limits = Thresholds { refresh_min: Duration::from_secs(5), ..Thresholds::default() };
        let mut world = World::with(&[NAME], limits);
        world.now.unix = 0;
        let truth = Arc::new((1..=nodes).map(node).collect());
        let (fault, fault_ends) = (Fault::None, 7200);
        let digest = 0xcbf2_9ce4_8422_2325;
        Simulation {
            random: Random(seed),
            world,
            truth,
            fault,
            fault_ends,
            flap: 0,
            digest,
            wrongful: Vec::new(),
        }
    }

    /// Runs for so many seconds with a change of the cluster about every `churn` seconds.
    fn run(&mut self, seconds: u64, churn: u64) {
        let end = self.world.now.unix + seconds;
        let mut next_change = self.world.now.unix + churn;
        while self.world.now.unix < end {
            let wait = self.world.members.next_refresh(self.random.bits() as u32).as_secs();
            self.world.pass(wait);
            if self.world.now.unix >= next_change {
                self.change();
                next_change = self.world.now.unix + self.random.between(1, 2 * churn);
            }
            if self.world.now.unix >= self.fault_ends {
                self.next_fault();
            }
            self.round();
        }
    }

    /// Runs with a DNS that works and a cluster that does not change.
    fn settle(&mut self) {
        (self.fault, self.fault_ends) = (Fault::None, u64::MAX);
        self.run(3600, u64::MAX / 4);
    }

    /// One to three nodes join or leave, or are replaced; this node stays.
    fn change(&mut self) {
        let mut truth: BTreeSet<IpAddr> = self.truth.iter().collect();
        for _ in 0..self.random.between(1, 3) {
            let join = self.random.below(2) == 0;
            if join {
                truth.insert(node(self.random.between(2, 60_000) as usize));
            } else if let Some(gone) = self.random.pick(&truth).filter(|a| *a != ip(1)) {
                truth.remove(&gone);
            }
        }
        self.truth = Arc::new(truth.into_iter().collect());
    }

    /// A fault, or after one an hour of quiet.
    fn next_fault(&mut self) {
        let (fault, lasts) = match self.fault {
            Fault::None => Fault::any(&mut self.random),
            _ => (Fault::None, 3600),
        };
        (self.fault, self.fault_ends) = (fault, self.world.now.unix + lasts);
    }

    fn round(&mut self) {
        let replies = self.replies();
        let events = self.world.members.apply(&Round { replies }, self.world.now);
        for event in events {
            let line = format!("{} {:?} {event}\n", self.world.now.unix, self.fault);
            let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            self.digest = line.bytes().fold(self.digest, fnv);
            if matches!(&event, Event::Removed { peer, .. } if self.truth.contains(peer)) {
                self.wrongful.push(event);
            }
        }
    }

    fn replies(&mut self) -> Vec<Reply> {
        let random = &mut self.random;
        let complete = |addresses: Arc<_>| Outcome::Answer {
            addresses,
            ttl: Duration::from_secs(60),
            complete: Complete::BOTH,
        };
        let half = || Arc::new(self.truth.iter().step_by(2).collect());
        let outcome = match self.fault {
            Fault::None => complete(Arc::clone(&self.truth)),
            Fault::Failing => match random.below(4) {
                0 => failure(FailureKind::ServFail),
                1 => failure(FailureKind::NxDomain),
                2 => failure(FailureKind::Timeout),
                _ => complete(Arc::default()),
            },
            Fault::Truncated => {
                let (addresses, ttl) = (half(), Duration::from_secs(60));
                Outcome::Answer { addresses, ttl, complete: Complete { v4: false, v6: true } }
            }
            Fault::HalfMissing => complete(half()),
            Fault::AllReplaced => complete(Arc::new((60_100..60_400).map(node).collect())),
            Fault::RandomEight => {
                let all: Vec<_> = self.truth.iter().collect();
                complete(Arc::new(random.sample(&all, 8).into_iter().collect()))
            }
            Fault::Flapping => {
                let mut some: BTreeSet<IpAddr> = self.truth.iter().collect();
                // Always the same two, never for more than two rounds in a row: from three on,
                // with the hold-down over, they would rightly be believed to be gone.
                self.flap = if self.flap < 2 && random.below(2) == 0 { self.flap + 1 } else { 0 };
                if self.flap > 0 {
                    some.pop_last();
                    some.remove(&node(2));
                }
                complete(Arc::new(some.into_iter().collect()))
            }
            Fault::LiarBesideTheTruth => complete(Arc::new((1..100).map(|n| node(3 * n)).collect())),
        };
        let mut replies = vec![reply(NAME, "a", outcome)];
        if matches!(self.fault, Fault::LiarBesideTheTruth) {
            replies.push(reply(NAME, "b", complete(Arc::clone(&self.truth))));
        }
        replies
    }

    /// Whether the peers are exactly the other nodes.
    fn assert_exact(&self) {
        let expected = self.truth.iter().filter(|a| *a != ip(1));
        assert!(self.world.members.peers().eq(expected));
        assert!(self.world.members.is_settled());
        self.world.check();
    }
}

#[test]
fn weeks_of_faults_remove_nobody_wrongly_and_end_exact() {
    for seed in 1..=5 {
        let mut simulation = Simulation::new(seed, 60);
        for _ in 0..7 {
            simulation.run(86_400, 1800);
            simulation.settle();
            assert_eq!(simulation.wrongful, [], "seed {seed}");
            simulation.assert_exact();
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let run = |seed| {
        let mut simulation = Simulation::new(seed, 40);
        simulation.run(86_400, 600);
        (simulation.digest, simulation.world.now)
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11).0, run(12).0);
}

#[test]
fn thousands_of_peers_are_cheap() {
    let mut simulation = Simulation::new(1, 5000);
    simulation.run(86_400, 600);
    simulation.settle();
    assert_eq!(simulation.wrongful, []);
    simulation.assert_exact();
    // A quiet round does not look at the records at all: a million of them would take minutes.
    let round = Round { replies: simulation.replies() };
    for _ in 0..100_000 {
        simulation.world.pass(30);
        assert_eq!(simulation.world.members.apply(&round, simulation.world.now), []);
    }
}
