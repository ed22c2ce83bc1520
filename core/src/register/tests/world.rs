//! A cluster with a server, in which machines die and cables are cut.

use super::*;

/// How often nodes look at DNS and at their peers, in seconds.
const ROUND: u64 = 30;

struct Minion {
    registrar: Registrar,
    alive: bool,
    /// Its part of the underlay.
    part: u8,
    reaches_server: bool,
    starts: u64,
}

/// Machines, numbered from 1, and a server.
pub struct World {
    now: u64,
    random: u64,
    minions: BTreeMap<IpAddr, Minion>,
    /// What the server has: addresses, and their leases.
    records: BTreeSet<IpAddr>,
    leases: BTreeMap<String, String>,
    /// When each lease was last written.
    renewed: BTreeMap<String, u64>,
}

impl World {
    pub fn new(nodes: u8, seed: u64) -> Self {
        let minion = |n| {
            let registrar = Registrar::new(&settings(), NAME, &format!("{n}-0"), Ledger::default());
            (ip(n), Minion { registrar, alive: true, part: 0, reaches_server: true, starts: 0 })
        };
        let minions = (1..=nodes).map(minion).collect();
        World {
            now: 0,
            random: seed | 1,
            minions,
            records: BTreeSet::new(),
            leases: BTreeMap::new(),
            renewed: BTreeMap::new(),
        }
    }

    /// Xorshift: the same history for the same seed.
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Changes something about one machine.
    pub fn disturb(&mut self) {
        let victim = ip(1 + self.draw(self.minions.len() as u64) as u8);
        let what = self.draw(6);
        let Some(minion) = self.minions.get_mut(&victim) else { return };
        match what {
            0 => minion.alive = false,
            1 => minion.start(victim),
            2 => minion.part = 1 - minion.part,
            3 | 4 => minion.reaches_server = !minion.reaches_server,
            // The server is down for all.
            _ => self.minions.values_mut().for_each(|m| m.reaches_server = false),
        }
    }

    /// All cables are in place; who is dead stays dead.
    pub fn heal(&mut self) {
        self.minions.values_mut().for_each(|m| (m.part, m.reaches_server) = (0, true));
    }

    /// Lets time pass.
    pub fn run(&mut self, seconds: u64) -> Result<(), TestCaseError> {
        for _ in 0..seconds / ROUND {
            self.now += ROUND;
            let nodes: Vec<IpAddr> = self.minions.keys().copied().collect();
            for node in nodes {
                self.turn(node)?;
            }
        }
        Ok(())
    }

    /// One machine looks, and does what it decides.
    fn turn(&mut self, node: IpAddr) -> Result<(), TestCaseError> {
        let now = at(self.now);
        if !self.minions[&node].alive {
            return Ok(());
        }
        let sight = self.sight(node);
        let random = self.draw(u64::from(u32::MAX)) as u32;
        let Some(minion) = self.minions.get_mut(&node) else { return Ok(()) };
        minion.registrar.observe(sight, now);
        let reaches = minion.reaches_server;
        while let Some(task) = self.minions.get_mut(&node).and_then(|m| m.registrar.poll(now)) {
            let unreachable = Failure::Unreachable { server: "s".into(), cause: "cut".into() };
            let send = |world: &mut World, update: &Update| {
                if reaches { world.apply(update) } else { Err(unreachable) }
            };
            match task {
                Task::Register { update, .. } => {
                    let result = send(self, &update);
                    let Some(minion) = self.minions.get_mut(&node) else { break };
                    minion.registrar.registered(result.as_ref().copied(), now, random);
                }
                Task::Inspect(peers) => {
                    for peer in peers {
                        let finding = reaches.then(|| Finding {
                            lease: self.leases.get(&lease_name(NAME, peer)).cloned(),
                            answers: self.reaches(node, peer),
                        });
                        let Some(minion) = self.minions.get_mut(&node) else { break };
                        minion.registrar.inspected(peer, finding, now);
                    }
                }
                Task::Remove(peer, update) => {
                    let result = send(self, &update);
                    let rested = self.now - self.renewed[&lease_name(NAME, peer)];
                    let lives = self.reaches(node, peer) || rested < 3600;
                    prop_assert!(
                        !(result.is_ok() && lives),
                        "{node} removed {peer}, whose lease rested {rested} s"
                    );
                    let Some(minion) = self.minions.get_mut(&node) else { break };
                    minion.registrar.removed(peer, result.as_ref().copied());
                }
            }
        }
        Ok(())
    }

    fn reaches(&self, a: IpAddr, b: IpAddr) -> bool {
        self.minions[&a].alive && self.minions[&b].alive && self.minions[&a].part == self.minions[&b].part
    }

    fn sight(&self, node: IpAddr) -> Sight {
        let minion = &self.minions[&node];
        let probe = |peer: IpAddr| match self.reaches(node, peer) {
            true => Liveness::Alive,
            false => Liveness::Dead,
        };
        let peers = self.records.iter().filter(|peer| **peer != node).map(|peer| (*peer, probe(*peer)));
        let outcome = match minion.reaches_server {
            true => Outcome::Answer {
                addresses: Arc::new(self.records.iter().copied().collect()),
                ttl: Duration::from_secs(30),
                complete: Complete::BOTH,
            },
            false => Outcome::Failure { kind: FailureKind::Timeout, text: String::new() },
        };
        let round = Round { replies: vec![Reply { name: NAME.into(), resolver: "r".into(), outcome }] };
        Sight::new(&round, NAME, Some(node), peers)
    }

    /// RFC 2136 section 3.
    fn apply(&mut self, update: &Update) -> Result<(), Failure> {
        if let Some(lease) = &update.requires
            && self.leases.get(&lease.name) != Some(&lease.text)
        {
            return Err(Failure::Changed);
        }
        for change in &update.changes {
            match change {
                Change::Add { address, .. } => drop(self.records.insert(*address)),
                Change::Remove { address, .. } => drop(self.records.remove(address)),
                Change::SetLease(lease, _) => {
                    self.leases.insert(lease.name.clone(), lease.text.clone());
                    self.renewed.insert(lease.name.clone(), self.now);
                }
                Change::DropLease(name) => drop(self.leases.remove(name)),
            }
        }
        Ok(())
    }

    /// Who lives is there; who is dead is not, where two thirds of all that were left live.
    pub fn check_end(&self) -> Result<(), TestCaseError> {
        let alive: BTreeSet<IpAddr> = self.minions.iter().filter(|(_, m)| m.alive).map(|(a, _)| *a).collect();
        prop_assert!(alive.is_subset(&self.records), "{:?} live, {:?} are registered", alive, self.records);
        prop_assert_eq!(self.records.len(), self.leases.len(), "each record has its lease");
        if alive.len() >= 2 && alive.len() * 3 >= self.records.len() * 2 {
            prop_assert_eq!(&self.records, &alive, "the dead are still there");
        }
        Ok(())
    }
}

impl Minion {
    /// The machine starts, with what it wrote to its disk before.
    fn start(&mut self, own: IpAddr) {
        self.starts += 1;
        self.alive = true;
        let id = format!("{own}-{}", self.starts);
        self.registrar = Registrar::new(&settings(), NAME, &id, self.registrar.ledger());
    }
}
