//! The outside of the minions: who is registered, what each resolver knows of it and when, and
//! what is wrong with DNS at the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use minionet_core::membership::{AddressSet, Complete, FailureKind, Outcome, Reply, Round};

use crate::random::Random;

/// A moment or a time, in seconds of the simulated clock.
pub type Seconds = u64;

/// The configured names: those of two roles, each in a zone of its own.
pub const NAMES: [&str; 2] = ["minions.simulation.k8s", "masters.simulation.k8s"];

/// The resolvers.
pub const RESOLVERS: [&str; 3] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];

/// Which two resolvers the nodes of each site ask at first.
pub const SITES: [[usize; 2]; 3] = [[0, 1], [1, 2], [0, 2]];

/// The longest that a resolver without a fault takes to learn of a change.
pub const LAG: Seconds = 30;

const TTL: Duration = Duration::from_secs(30);

/// For how long the records of a flapping resolver are there, and for how long then gone; with
/// rounds every 24 to 30 s they are never missed three times in a row.
const FLAP: Seconds = 20;

/// Addresses by name.
type Zones = [Arc<AddressSet>; 2];

/// What a resolver with a fault does. Whatever is chosen is the same for the fault's whole time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any failure, another with each question.
    Failing,
    /// An incomplete part of the records.
    Truncated,
    /// No AAAA records, which an IPv4 underlay does not need.
    NoV6,
    /// So many per cent of the records are missing from answers that look complete.
    Lacking(u64),
    /// So many other addresses are told instead.
    Replaced(usize),
    /// Eight random records at a time.
    Eight,
    /// A few records come and go.
    Flapping,
    /// What was right when the fault began.
    Stale,
    /// The right answers, so many seconds after the question.
    Slow(Seconds),
}

/// A fault of some resolvers, for some names, as seen by some sites.
#[derive(Clone, Debug)]
pub struct Fault {
    pub id: u64,
    /// Decides which records it is about.
    pub salt: u64,
    pub kind: Kind,
    pub resolvers: [bool; 3],
    pub names: [bool; 2],
    pub sites: [bool; 3],
    said: [Zones; 3],
}

impl Fault {
    pub fn new(id: u64, kind: Kind) -> Self {
        let said = Default::default();
        Fault { id, salt: id, kind, resolvers: [true; 3], names: [true; 2], sites: [true; 3], said }
    }
}

#[derive(Debug)]
pub struct World {
    pub now: Seconds,
    /// Per name: who is registered, and since when.
    registry: [BTreeMap<IpAddr, Seconds>; 2],
    /// What each resolver knows.
    copies: [Zones; 3],
    faults: Vec<Fault>,
    /// Which resolvers the nodes of each site ask now: what their resolv.conf names.
    sites: [Vec<usize>; 3],
}

/// A machine's address: `n` is below 65,536.
pub fn node(n: usize) -> IpAddr {
    IpAddr::from([172, 20, (n >> 8) as u8, n as u8])
}

/// Records that are always there and never peers: one of the other family, one of another network.
fn strangers() -> [IpAddr; 2] {
    [IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 9]), IpAddr::from([198, 51, 100, 9])]
}

/// A number that depends on an address and a salt alone.
fn spread(addr: IpAddr, salt: u64) -> u64 {
    let IpAddr::V4(v4) = addr else { return 0 };
    Random((u64::from(v4.to_bits()) << 20) ^ salt).bits()
}

impl World {
    pub fn new() -> Self {
        World {
            now: 0,
            registry: Default::default(),
            copies: Default::default(),
            faults: Vec::new(),
            sites: SITES.map(|two| two.to_vec()),
        }
    }

    pub fn register(&mut self, role: usize, addr: IpAddr) {
        self.registry[role].insert(addr, self.now);
    }

    /// Whether nobody has a role.
    pub fn is_unused(&self, role: usize) -> bool {
        self.registry[role].is_empty()
    }

    /// Takes an address out. Returns its role, if it was registered. The last one of a role
    /// stays: a name without any address is a fault.
    pub fn unregister(&mut self, addr: IpAddr) -> Option<usize> {
        let mut roles = 0..NAMES.len();
        roles.find(|role| self.registry[*role].len() > 1 && self.registry[*role].remove(&addr).is_some())
    }

    /// Everybody who is registered, in the order of the addresses.
    pub fn registered(&self) -> BTreeSet<IpAddr> {
        self.registry.iter().flat_map(|r| r.keys().copied()).collect()
    }

    /// Whether an address is registered, and has been for long enough that every resolver without
    /// a fault lists it. To remove such a one is wrong, whatever DNS says.
    pub fn lives(&self, addr: IpAddr, at: Seconds) -> bool {
        self.registry.iter().filter_map(|r| r.get(&addr)).any(|since| since + 2 * LAG <= at)
    }

    /// A resolver learns what is registered now.
    pub fn sync(&mut self, resolver: usize) {
        for (name, registry) in self.registry.iter().enumerate() {
            let mut known: BTreeSet<IpAddr> = registry.keys().copied().collect();
            if name == 0 {
                known.extend(strangers());
            }
            let known = known.into_iter().collect();
            if *self.copies[resolver][name] != known {
                self.copies[resolver][name] = Arc::new(known);
            }
        }
        let copies = &self.copies;
        for fault in self.faults.iter_mut().filter(|f| f.kind != Kind::Stale) {
            prepare(fault, copies);
        }
    }

    pub fn begin(&mut self, mut fault: Fault) {
        prepare(&mut fault, &self.copies);
        self.faults.push(fault);
    }

    pub fn end(&mut self, id: u64) {
        self.faults.retain(|f| f.id != id);
    }

    /// The nodes of a site find other resolvers in their resolv.conf.
    pub fn ask(&mut self, site: usize, resolvers: Vec<usize>) {
        self.sites[site] = resolvers;
    }

    /// How long the slowest answer to a question of a site takes.
    pub fn delay(&self, site: usize) -> Seconds {
        let slow = |fault: &Fault| match fault.kind {
            Kind::Slow(seconds) if fault.sites[site] => Some(seconds),
            _ => None,
        };
        self.faults.iter().filter_map(slow).max().unwrap_or(0)
    }

    /// What a node of a site hears when it asks; nothing but silence when it is cut off.
    pub fn round(&self, site: usize, cut: bool, at: Seconds, random: &mut Random) -> Round {
        let mut round = Round::default();
        for resolver in self.sites[site].iter().copied() {
            for (name, text) in NAMES.iter().enumerate() {
                let outcome = match cut {
                    true => failure(FailureKind::Timeout),
                    false => self.outcome(site, resolver, name, at, random),
                };
                let (name, resolver) = ((*text).to_owned(), RESOLVERS[resolver].to_owned());
                round.replies.push(Reply { name, resolver, outcome });
            }
        }
        round
    }

    fn outcome(
        &self,
        site: usize,
        resolver: usize,
        name: usize,
        at: Seconds,
        random: &mut Random,
    ) -> Outcome {
        let truth = &self.copies[resolver][name];
        let hits = |f: &&Fault| f.resolvers[resolver] && f.names[name] && f.sites[site];
        let Some(fault) = self.faults.iter().find(hits) else { return answer(truth, Complete::BOTH) };
        let said = &fault.said[resolver][name];
        match fault.kind {
            Kind::Failing => any_failure(random),
            Kind::Slow(_) => answer(truth, Complete::BOTH),
            Kind::Truncated if random.below(2) == 0 => answer(said, Complete::NEITHER),
            Kind::Truncated => answer(said, Complete { v4: false, v6: true }),
            Kind::NoV6 => answer(truth, Complete { v4: true, v6: false }),
            Kind::Lacking(_) | Kind::Replaced(_) | Kind::Stale => answer(said, Complete::BOTH),
            Kind::Eight => {
                let all: Vec<IpAddr> = said.iter().collect();
                answer(&Arc::new(random.sample(&all, 8).into_iter().collect()), Complete::BOTH)
            }
            Kind::Flapping if (at / FLAP).is_multiple_of(2) => answer(truth, Complete::BOTH),
            Kind::Flapping => answer(said, Complete::BOTH),
        }
    }
}

/// Computes what a fault makes of what the resolvers know.
fn prepare(fault: &mut Fault, copies: &[Zones; 3]) {
    let salt = fault.salt;
    let lacking = |known: &Arc<AddressSet>, percent| {
        Arc::new(known.iter().filter(|a| spread(*a, salt) % 100 >= percent).collect())
    };
    for (said, copy) in fault.said.iter_mut().flatten().zip(copies.iter().flatten()) {
        *said = match fault.kind {
            Kind::Failing | Kind::NoV6 | Kind::Slow(_) => Arc::default(),
            Kind::Truncated => lacking(copy, 50),
            Kind::Lacking(percent) => lacking(copy, percent),
            Kind::Replaced(count) => Arc::new((0..count).map(|n| node(0xc800 + n)).collect()),
            Kind::Eight | Kind::Stale => Arc::clone(copy),
            Kind::Flapping => {
                Arc::new(copy.iter().filter(|a| !spread(*a, salt).is_multiple_of(1000)).collect())
            }
        };
    }
}

fn any_failure(random: &mut Random) -> Outcome {
    let kinds = [
        FailureKind::ServFail,
        FailureKind::NxDomain,
        FailureKind::Refused,
        FailureKind::Timeout,
        FailureKind::Truncated,
        FailureKind::Malformed,
        FailureKind::Unreachable,
        FailureKind::Bogus,
    ];
    match random.below(kinds.len() + 1) {
        n if n < kinds.len() => failure(kinds[n]),
        // No error, and no address either.
        _ => answer(&Arc::default(), Complete::BOTH),
    }
}

fn failure(kind: FailureKind) -> Outcome {
    Outcome::Failure { kind, text: "as simulated".to_owned() }
}

fn answer(addresses: &Arc<AddressSet>, complete: Complete) -> Outcome {
    Outcome::Answer { addresses: Arc::clone(addresses), ttl: TTL, complete }
}
