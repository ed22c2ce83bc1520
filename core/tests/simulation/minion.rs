//! One minion: the real membership, plan and difference, on a model of its kernel.
//!
//! It does what the daemon does around them, in the same order. Without an own address it stands
//! for all nodes that hear the same: see [`Minion::seen_by`].

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use minionet_core::addr::Cidr;
use minionet_core::membership::{Event, Membership, Now, Round, Scope, Snapshot, Thresholds};
use minionet_core::overlay::object::{self, Objects};
use minionet_core::overlay::{
    Change, Device, Encapsulation, Local, Observed, Overlay, desired, diff, keep_peers,
};
use minionet_core::plan::{AddressPlan, NodePlan};

use crate::kernel;
use crate::random::Random;
use crate::world::{NAMES, Seconds, World, node};

const CLUSTER: &str = "simulation";

/// When the simulated clock began, by the wall clock; any number would do.
const EPOCH: u64 = 1_700_000_000;

/// What is not in any history: the node that a minion without an own address is in the plan.
fn nobody() -> IpAddr {
    node(0xffff)
}

pub fn clock(at: Seconds) -> Now {
    Now { monotonic: Duration::from_secs(at), unix: EPOCH + at }
}

/// What happened, as a number and as counts.
#[derive(Clone, Debug)]
pub struct Log {
    /// FNV-1a over the text of everything that happened.
    pub digest: u64,
    pub events: u64,
    pub removals: u64,
    pub changes: u64,
    /// Removals of those that live.
    pub wrongful: Vec<String>,
    line: String,
}

impl Log {
    pub fn new() -> Self {
        let digest = 0xcbf2_9ce4_8422_2325;
        Log { digest, events: 0, removals: 0, changes: 0, wrongful: Vec::new(), line: String::new() }
    }

    pub fn note(&mut self, at: Seconds, what: &dyn std::fmt::Display) {
        self.line.clear();
        // Writing to a string cannot fail.
        let _always = writeln!(self.line, "{at} {what}");
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.digest = self.line.bytes().fold(self.digest, fnv);
    }

    pub fn add(&mut self, other: &Log) {
        self.note(other.digest, &other.events);
        self.events += other.events;
        self.removals += other.removals;
        self.changes += other.changes;
        self.wrongful.extend(other.wrongful.iter().cloned());
    }
}

/// What a start finds.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The saved peers.
    pub snapshot: bool,
    /// The tables of the kernel; not after a reboot.
    pub tables: bool,
}

#[derive(Clone, Debug)]
pub struct Minion {
    pub own: Option<IpAddr>,
    me: NodePlan,
    plan: AddressPlan,
    /// The networks of all possible nodes' pods.
    assigned: Vec<Cidr>,
    pub membership: Membership,
    pub kernel: Observed,
    /// Whether a complete answer came since the start; nothing is removed from the kernel before.
    trusted: bool,
    /// Whether the tables may differ from what they should be.
    dirty: bool,
}

/// A kernel that holds nothing yet.
fn bare() -> Observed {
    let objects = Objects { possible: true, ..Objects::default() };
    Observed { objects, ..Observed::default() }
}

impl Minion {
    /// A machine that starts for the first time.
    pub fn new(own: Option<IpAddr>, plan: &AddressPlan, at: Seconds) -> Self {
        let mut minion = Minion {
            own,
            me: plan.node(own.unwrap_or_else(nobody)).unwrap(),
            plan: plan.clone(),
            assigned: plan.assigned(),
            membership: empty(),
            kernel: bare(),
            trusted: false,
            dirty: true,
        };
        minion.set_scope(at);
        minion
    }

    /// The daemon ends, in whichever way, and starts anew.
    pub fn restart(&mut self, found: Start, at: Seconds) {
        let text = self.membership.snapshot(clock(at)).to_text();
        self.membership = empty();
        if !found.tables {
            self.kernel = bare();
        }
        if found.snapshot {
            let snapshot = Snapshot::parse(&text).unwrap();
            self.membership.restore(&snapshot, clock(at)).unwrap();
        }
        self.membership.adopt(self.kernel.nodes(), clock(at));
        (self.trusted, self.dirty) = (false, true);
        self.set_scope(at);
    }

    /// The machine gets another address.
    pub fn renumber(&mut self, own: IpAddr, at: Seconds) {
        self.own = Some(own);
        self.me = self.plan.node(own).unwrap();
        self.dirty = true;
        self.set_scope(at);
    }

    fn set_scope(&mut self, at: Seconds) {
        let scope =
            Scope { plan: Some(self.plan.clone()), own: self.own, local: self.own.into_iter().collect() };
        self.membership.set_scope(scope, clock(at));
    }

    /// A round of lookups has ended.
    pub fn observe(&mut self, round: &Round, world: &World, at: Seconds, log: &mut Log) -> Vec<Event> {
        let events = self.membership.apply(round, clock(at));
        for event in &events {
            log.note(at, event);
            log.events += 1;
            if let Event::Removed { peer, .. } = event {
                log.removals += 1;
                if world.lives(*peer, at) && Some(*peer) != self.own {
                    log.wrongful.push(format!("{at} s, on {:?}: {event}", self.own));
                }
            }
        }
        let trusted = self.trusted || self.membership.is_complete();
        self.dirty |= trusted != self.trusted || events.iter().any(Event::changes_peers);
        self.trusted = trusted;
        if self.dirty {
            self.reconcile(world, at, log);
        }
        events
    }

    /// Makes the tables what they should be, and looks whether that worked.
    pub fn reconcile(&mut self, world: &World, at: Seconds, log: &mut Log) {
        let wanted = self.wanted();
        let mut lost: BTreeSet<Cidr> = BTreeSet::new();
        for change in &self.changes(&wanted) {
            log.note(at, change);
            log.changes += 1;
            if let Change::RemoveRoute(route) = change
                && !route.refuses
            {
                lost.insert(route.dst);
            }
            kernel::apply(&mut self.kernel, change);
        }
        // Not always, since it costs as much as the first time.
        if log.changes.is_multiple_of(4) {
            assert_eq!(self.changes(&wanted), [], "applying twice changes nothing");
        }
        // What was put in the place of another one is not gone.
        lost.retain(|dst| self.kernel.routes.iter().all(|route| route.refuses || route.dst != *dst));
        for dst in lost {
            let owner = self.plan.owner(dst.network()).filter(|o| Some(*o) != self.own);
            if owner.is_some_and(|o| world.lives(o, at)) {
                log.wrongful.push(format!("{at} s, on {:?}: the route {dst} is gone", self.own));
            }
        }
        self.dirty = false;
    }

    fn wanted(&self) -> Overlay {
        let peers: Vec<NodePlan> =
            self.membership.peers().map(|addr| self.plan.node(addr).unwrap()).collect();
        desired(device(&self.me), &local(&self.me, &self.assigned), &peers)
    }

    fn changes(&self, wanted: &Overlay) -> Vec<Change> {
        let mut changes = diff(wanted, &self.kernel).unwrap();
        if !self.trusted {
            keep_peers(&mut changes, wanted);
        }
        changes
    }

    /// Something else on the machine damages the tables.
    pub fn damage(&mut self, random: &mut Random) {
        let kernel = &mut self.kernel;
        match random.below(6) {
            0 => *kernel = bare(),
            1 => kernel.device.iter_mut().for_each(|d| (d.up, d.mtu) = (false, 1280)),
            2 => kernel.device.iter_mut().for_each(|d| d.foreign_features = true),
            3 => {
                kernel.neighbours.retain(|_, _| random.below(3) > 0);
                kernel.neighbours.values_mut().for_each(|n| n.permanent = random.below(3) > 0);
            }
            4 => {
                let objects = &mut kernel.objects.found;
                objects.retain(|_, _| random.below(3) > 0);
                // A route goes with its object.
                kernel.routes.retain(|r| r.object.is_none_or(|number| objects.contains_key(&number)));
            }
            _ => {
                kernel.fdb.retain(|_| random.below(3) > 0);
                kernel.routes.retain(|_| random.below(3) > 0);
                // Left over from a machine that never was one.
                let extra = self.plan.node(node(0xfff0)).unwrap();
                kernel.fdb.insert((extra.mac, extra.node));
            }
        }
        self.dirty = true;
    }

    /// The tables of the node `own`, if these are those of a minion without an own address: its
    /// own device and addresses, and no entries that lead to itself.
    pub fn seen_by(&self, own: IpAddr) -> Observed {
        let (me, mut kernel) = (self.plan.node(own).unwrap(), self.kernel.clone());
        for block in &me.blocks {
            kernel.neighbours.remove(&block.gateway);
            kernel.routes.retain(|r| r.dst != block.cidr);
            if let IpAddr::V4(gateway) = block.gateway {
                kernel.objects.found.remove(&object::number(gateway));
            }
        }
        kernel.fdb.remove(&(me.mac, own));
        if let Some(device) = &mut kernel.device {
            kernel.addresses = me.blocks.iter().map(|b| (b.gateway, 32)).collect();
            (device.local, device.mac) = (Some(own), Some(me.mac));
        }
        kernel
    }
}

/// Whether the tables of the node `own` are exactly what the plan says for a cluster of these
/// nodes, `own` among them.
pub fn is_exact(own: &NodePlan, assigned: &[Cidr], cluster: &[NodePlan], kernel: &Observed) -> bool {
    diff(&desired(device(own), &local(own, assigned), cluster), kernel) == Ok(Vec::new())
}

fn empty() -> Membership {
    Membership::new(CLUSTER, &NAMES.map(str::to_owned), Thresholds::default()).unwrap()
}

/// A node that encapsulates everything, so that its subnet does not matter.
fn local<'a>(me: &'a NodePlan, assigned: &'a [Cidr]) -> Local<'a> {
    let encapsulation = Encapsulation::Always;
    Local { me, subnet: Cidr::host(me.node), underlay: None, encapsulation, assigned }
}

fn device(me: &NodePlan) -> Device {
    Device { name: "minionet".into(), vni: 4097, port: 4789, local: me.node, mac: me.mac, mtu: 1450 }
}
