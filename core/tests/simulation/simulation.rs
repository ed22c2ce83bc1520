//! The whole: what happens to the cluster, in the order of time, and the nodes living in between.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Mutex;
use std::thread;

use minionet_core::membership::PeerState;
use minionet_core::plan::{AddressPlan, NodePlan, PlanSpec, PodNetwork};

use crate::cohort::Cohort;
use crate::minion::{Log, Minion, Start, is_exact};
use crate::random::Random;
use crate::world::{Fault, LAG, RESOLVERS, SITES, Seconds, World, node};

/// Who is a peer in what state, as one membership sees it.
type Seen = Vec<(IpAddr, PeerState)>;

/// An address is not given to another machine for so long.
const COOLING: Seconds = 3 * 3600;

/// Machines have addresses below this number, all others are for faults.
const ADDRESSES: u64 = 50_000;

/// How many nodes are computed one by one.
const SINGLES: usize = 5;

/// Something that happens.
#[derive(Debug)]
pub enum Action {
    /// A resolver learns what is registered.
    Sync(usize),
    /// A fault begins, and ends.
    Begin(Fault),
    End(u64),
    /// So many nodes join.
    Join(usize),
    /// So many leave.
    Leave(usize),
    /// So many change their address.
    Renumber(usize),
    /// A node's record is lost and restored so many seconds later.
    Bounce(Seconds),
    Restore(usize, IpAddr),
    /// So many nodes of one cohort, at most, start anew.
    Restart(usize, Start),
    /// So many nodes of one cohort, at most, do not reach DNS for so long.
    Cut(usize, Seconds),
    /// The nodes that these are a cohort with reach DNS again.
    Mend(BTreeSet<IpAddr>),
    /// The resolv.conf of a site's nodes names these resolvers from now on.
    Ask(usize, Vec<usize>),
    /// Something damages the tables of all nodes of a cohort.
    Damage,
    /// Everything has been calm for long enough: the tables must be exact.
    Check,
}

pub struct Simulation {
    pub random: Random,
    pub world: World,
    pub plan: AddressPlan,
    pub cohorts: Vec<Cohort>,
    pub log: Log,
    pub wanted: usize,
    pub rounds: u64,
    pub node_rounds: u64,
    /// The most cohorts there were at once.
    pub most: usize,
    pub checks: u64,
    queue: BTreeMap<(Seconds, u64), Action>,
    sequence: u64,
    left: BTreeMap<IpAddr, Seconds>,
}

impl Simulation {
    /// A cluster of `wanted` nodes that all start at once.
    pub fn new(seed: u64, wanted: usize) -> Self {
        let pods = PodNetwork { network: "10.0.0.0/8".parse().unwrap(), node_prefix: 24 };
        let node_networks = vec!["172.20.0.0/16".parse().unwrap()];
        let mut simulation = Simulation {
            random: Random(seed),
            world: World::new(),
            plan: AddressPlan::new(PlanSpec { node_networks, pod_networks: vec![pods] }).unwrap(),
            cohorts: Vec::new(),
            log: Log::new(),
            wanted,
            rounds: 0,
            node_rounds: 0,
            most: 0,
            checks: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            left: BTreeMap::new(),
        };
        // Two cohorts to a site, so that not all of a site ask at the same time.
        let groups = 2 * SITES.len();
        for n in 0..groups {
            simulation.join(wanted * (n + 1) / groups - wanted * n / groups);
        }
        simulation
    }

    pub fn at(&mut self, when: Seconds, action: Action) {
        self.sequence += 1;
        self.queue.insert((when, self.sequence), action);
    }

    /// A number that nothing else in the run has.
    pub fn unique(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Lets everything happen that is due until a check, the check included.
    pub fn run(&mut self) {
        while let Some(((when, _), action)) = self.queue.pop_first() {
            self.live(when);
            let last = matches!(action, Action::Check);
            self.act(action);
            if last {
                return;
            }
        }
    }

    /// The nodes live until a moment, on all processors. Between two actions, cohorts have
    /// nothing to do with each other, so the order in which they are computed is irrelevant.
    fn live(&mut self, until: Seconds) {
        // Comparing costs about as much as living.
        let (world, compared) = (&self.world, self.checks.is_multiple_of(4));
        let queue = Mutex::new(self.cohorts.iter_mut());
        let work = || {
            while let Some(cohort) = next(&queue) {
                cohort.run(world, until);
                if compared {
                    cohort.compare();
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(1, |n| n.get()) {
                scope.spawn(work);
            }
        });
        self.world.now = until;
    }

    fn act(&mut self, action: Action) {
        let now = self.world.now;
        match action {
            Action::Sync(resolver) => self.world.sync(resolver),
            Action::Begin(fault) => self.world.begin(fault),
            Action::End(id) => self.world.end(id),
            Action::Join(count) => self.join(count),
            Action::Leave(count) => self.leave(count),
            Action::Renumber(count) => self.renumber(count),
            Action::Bounce(seconds) => {
                let Some(addr) = self.random.pick(&self.world.registered()) else { return };
                let Some(role) = self.world.unregister(addr) else { return };
                self.at(now + seconds, Action::Restore(role, addr));
                self.announce();
            }
            Action::Restore(role, addr) => {
                self.world.register(role, addr);
                self.announce();
            }
            Action::Restart(most, found) => {
                let some = self.some(most);
                self.apart(&some).restart(found, now);
            }
            Action::Cut(most, seconds) => {
                let some = self.some(most);
                self.apart(&some).cut = true;
                self.at(now + seconds, Action::Mend(some));
            }
            Action::Mend(some) => {
                for cohort in self.cohorts.iter_mut().filter(|c| !c.members.is_disjoint(&some)) {
                    cohort.cut = false;
                }
            }
            Action::Ask(site, resolvers) => self.world.ask(site, resolvers),
            Action::Damage => {
                let (n, seed) = (self.random.below(self.cohorts.len()), self.random.bits());
                self.cohorts[n].damage(&self.world, seed);
            }
            Action::Check => self.check(),
        }
        self.most = self.most.max(self.cohorts.len());
    }

    /// Every resolver learns of a change, each in its own time.
    fn announce(&mut self) {
        for resolver in 0..RESOLVERS.len() {
            let when = self.world.now + self.random.between(1, LAG);
            self.at(when, Action::Sync(resolver));
        }
    }

    fn free(&mut self) -> IpAddr {
        let now = self.world.now;
        self.left.retain(|_, at| *at + COOLING > now);
        let registered = self.world.registered();
        loop {
            let addr = node(self.random.between(1, ADDRESSES) as usize);
            if !registered.contains(&addr) && !self.left.contains_key(&addr) {
                return addr;
            }
        }
    }

    /// New machines, which start at the same time at one site.
    fn join(&mut self, count: usize) {
        let (now, site) = (self.world.now, self.cohorts.len() % SITES.len());
        let common = Minion::new(None, &self.plan, now);
        let mut cohort = Cohort::new(site, common, now + self.random.between(0, LAG), self.random.bits());
        for _ in 0..count {
            let addr = self.free();
            // One in forty has the other role, and the first of all.
            let other = self.random.below(40) == 0 || self.world.is_unused(1);
            self.world.register(usize::from(other), addr);
            cohort.members.insert(addr);
            if self.cohorts.iter().map(|c| c.singles.len()).sum::<usize>() + cohort.singles.len() < SINGLES {
                cohort.singles.push(Minion::new(Some(addr), &self.plan, now));
            }
        }
        self.cohorts.push(cohort);
        self.announce();
    }

    fn leave(&mut self, count: usize) {
        let all: Vec<IpAddr> = self.world.registered().into_iter().collect();
        for addr in self.random.sample(&all, count) {
            if self.world.unregister(addr).is_none() {
                continue;
            }
            self.left.insert(addr, self.world.now);
            for cohort in &mut self.cohorts {
                cohort.members.remove(&addr);
                cohort.singles.retain(|s| s.own != Some(addr));
            }
        }
        self.retire();
        self.announce();
    }

    fn renumber(&mut self, count: usize) {
        let (now, all) = (self.world.now, self.world.registered().into_iter().collect::<Vec<_>>());
        for old in self.random.sample(&all, count) {
            let new = self.free();
            let Some(role) = self.world.unregister(old) else { continue };
            self.world.register(role, new);
            self.left.insert(old, now);
            for cohort in self.cohorts.iter_mut().filter(|c| c.members.contains(&old)) {
                cohort.members.remove(&old);
                cohort.members.insert(new);
                for single in cohort.singles.iter_mut().filter(|s| s.own == Some(old)) {
                    single.renumber(new, now);
                    single.reconcile(&self.world, now, &mut cohort.log);
                }
            }
        }
        self.announce();
    }

    /// Some nodes of one cohort, now and then all of them.
    fn some(&mut self, most: usize) -> BTreeSet<IpAddr> {
        let n = self.random.below(self.cohorts.len());
        let members: Vec<IpAddr> = self.cohorts[n].members.iter().copied().collect();
        let count = self.random.between(1, most as u64) as usize;
        self.random.sample(&members, count).into_iter().collect()
    }

    /// These nodes, which are all of one cohort, as a cohort of their own.
    fn apart(&mut self, some: &BTreeSet<IpAddr>) -> &mut Cohort {
        let whole = self.cohorts.iter().position(|c| c.members == *some);
        let n = whole.unwrap_or_else(|| {
            let from = self.cohorts.iter_mut().find(|c| c.members.is_superset(some));
            let apart = from.expect("nodes of one cohort").split(some);
            self.cohorts.push(apart);
            self.cohorts.len() - 1
        });
        &mut self.cohorts[n]
    }

    /// Forgets cohorts without nodes.
    fn retire(&mut self) {
        let (kept, gone): (Vec<_>, Vec<_>) = self.cohorts.drain(..).partition(|c| !c.members.is_empty());
        self.cohorts = kept;
        for cohort in gone {
            self.count(&cohort);
        }
    }

    fn count(&mut self, cohort: &Cohort) {
        self.log.add(&cohort.log);
        self.rounds += cohort.rounds;
        self.node_rounds += cohort.node_rounds;
    }

    /// After a calm: everybody knows exactly those who are registered, no table holds anything
    /// else, nothing was ever removed wrongly; those in the same state become one.
    fn check(&mut self) {
        let registered = self.world.registered();
        let cluster: Vec<NodePlan> = registered.iter().map(|a| self.plan.node(*a).unwrap()).collect();
        let members: usize = self.cohorts.iter().map(|c| c.members.len()).sum();
        assert_eq!(members, registered.len(), "every node is simulated once");
        let mut united: Vec<(Option<Seen>, Cohort)> = Vec::new();
        for mut cohort in std::mem::take(&mut self.cohorts) {
            let now = self.world.now;
            assert_eq!(cohort.log.wrongful, Vec::<String>::new(), "until {now} s");
            cohort.assert_exact(&registered);
            // One node of each cohort, and every single one; at the end of a run all of them.
            let first = cohort.members.first().copied().unwrap();
            assert!(self.is_exact(&cohort, first, &cluster), "{first} at {now} s");
            let rest = cohort.at_rest();
            if rest.is_some() {
                cohort.sampled = false;
            }
            cohort.compare();
            let same = |(state, other): &&mut (Option<Vec<_>>, Cohort)| {
                other.site == cohort.site && state == &rest && other.common.kernel == cohort.common.kernel
            };
            // Two for each site stay, so that they ask at different times.
            let alike = united.iter().filter(|(_, c)| c.site == cohort.site).count();
            match united.iter_mut().filter(|_| rest.is_some() && alike >= 2).find(same) {
                Some((_, other)) => other.unite(cohort),
                None => united.push((rest, cohort)),
            }
        }
        self.cohorts = united.into_iter().map(|(_, cohort)| cohort).collect();
        self.checks += 1;
    }

    fn is_exact(&self, cohort: &Cohort, own: IpAddr, cluster: &[NodePlan]) -> bool {
        is_exact(&self.plan.node(own).unwrap(), &self.plan.assigned(), cluster, &cohort.common.seen_by(own))
    }

    /// How many of all nodes' tables are exactly what the plan says.
    pub fn exact(&self) -> usize {
        let registered = self.world.registered();
        let cluster: Vec<NodePlan> = registered.iter().map(|a| self.plan.node(*a).unwrap()).collect();
        let nodes = self.cohorts.iter().flat_map(|c| c.members.iter().map(move |m| (c, *m)));
        let queue = Mutex::new(nodes);
        let work = || {
            let mut exact = 0;
            while let Some((cohort, own)) = next(&queue) {
                exact += usize::from(self.is_exact(cohort, own, &cluster));
            }
            exact
        };
        thread::scope(|scope| {
            let workers = [scope.spawn(work), scope.spawn(work)];
            workers.into_iter().map(|w| w.join().unwrap()).sum()
        })
    }

    /// The end: adds up what the cohorts have counted for themselves.
    pub fn conclude(&mut self) {
        for cohort in std::mem::take(&mut self.cohorts) {
            self.count(&cohort);
        }
    }
}

/// The next piece of work; the queue is free again before it is done.
fn next<T>(queue: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    queue.lock().unwrap().next()
}
