//! This node: what it heard, what it decided, and what it told the kernel and the plugin.
//!
//! Every call of [`Node::reconcile`] reads what the kernel holds at that moment, and trusts nothing
//! else. What was found right last only serves to add new peers before the reading.

mod describe;
mod place;
mod report;
mod settle;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use minionet_core::addr::{Cidr, Family};
use minionet_core::cni::attachment::HOST_IFNAME_PREFIX;
use minionet_core::config::Config;
use minionet_core::constants::{DEVICE, NFT_TABLE, ROUTE_PROTOCOL_PEER};
use minionet_core::handoff::{self, NodeFacts};
use minionet_core::identity::{Identity, IdentityError};
use minionet_core::membership::{Event, Liveness, Membership, Round};
use minionet_core::overlay::{self, Local};
use minionet_core::plan::{AddressPlan, NodePlan};
use minionet_core::state::Journal;
use minionet_netlink::Socket;
use minionet_netlink::monitor::Interest;
use tracing::{debug, error, info};

use crate::causes::chain;
use crate::clock::Clock;
use crate::firewall::{Basis, Firewall};
use crate::forwarding::Forwarding;
use crate::health::State;
use crate::probe::Probe;
use crate::register::Register;
use crate::run::random;
use crate::trace::Service;
use crate::{keep, memory, sysctls};

use self::report::log;
use self::settle::{Settler, Wanted};

/// MTU of Ethernet in octets (RFC 894); assumed until an interface says another.
const ETHERNET_MTU: u32 = 1500;

/// The least time between two audits for each route to a peer: reading and comparing it takes some
/// microseconds, which are to be a small share of the time.
const AUDIT_PER_ROUTE: Duration = Duration::from_millis(12);

/// This node.
pub struct Node {
    config: Config,
    socket: Socket,
    /// Opened when it is needed first.
    firewall: Option<Firewall>,
    forwarding: Forwarding,
    membership: Membership,
    clock: Clock,
    probe: Probe,
    trace: Service,
    register: Register,
    /// What this node is, once that is known.
    own: Option<Own>,
    /// Why it is not known, or why the kernel is not right, as it was last logged.
    trouble: Option<String>,
    /// Whether a round of lookups has ended since the start.
    asked: bool,
    /// What the kernel should hold, as it was computed last.
    wanted: State,
    settler: Settler,
    /// When the last complete answer came; the start, while there was none.
    answered: Instant,
    /// Whether a complete answer came since the start; nothing is removed before.
    trusted: bool,
    /// The peers as they were last saved.
    saved: keep::Saved,
    /// Which notifications of the kernel matter.
    interest: Interest,
    /// MTU of the underlay in octets, as it was known last.
    underlay_mtu: u32,
    /// What was done, for those who ask.
    journal: Journal,
}

/// What follows from this node's own address.
#[derive(Clone, PartialEq)]
struct Own {
    identity: Identity,
    plan: AddressPlan,
    me: NodePlan,
    /// Who is in it is a neighbour on the underlay.
    subnet: Cidr,
}

impl Node {
    /// Opens the kernel's door and takes over what an earlier run left.
    ///
    /// # Errors
    /// When netlink cannot be used, or the thresholds of the membership contradict each other.
    pub fn new(config: Config) -> Result<Self> {
        let socket = Socket::open()?;
        socket.enlarge_buffers();
        let membership = Membership::new(&config.cluster_name, &config.names(), config.thresholds.clone())?;
        let clock = Clock::start();
        let mut node = Node {
            probe: Probe::new(&config),
            trace: Service::new(&config, clock),
            register: Register::start(&config, clock),
            config,
            socket,
            firewall: None,
            forwarding: Forwarding::default(),
            membership,
            clock,
            own: None,
            trouble: None,
            asked: false,
            wanted: State::default(),
            settler: Settler::new(clock),
            answered: Instant::now(),
            trusted: false,
            saved: keep::Saved::default(),
            interest: Interest {
                device: DEVICE.to_owned(),
                links: Vec::new(),
                protocol: ROUTE_PROTOCOL_PEER,
                table: NFT_TABLE.to_owned(),
                chains: Vec::new(),
                pod_links: HOST_IFNAME_PREFIX.to_owned(),
                settings: sysctls::silent(),
                refused: None,
            },
            underlay_mtu: ETHERNET_MTU,
            journal: Journal::default(),
        };
        keep::restore(&mut node.membership, &mut node.socket, clock.now());
        Ok(node)
    }

    /// Takes in what a round of lookups found, and makes the kernel follow.
    pub fn observe(&mut self, round: &Round) {
        self.asked = true;
        let heard_at = Instant::now();
        if let Err(error) = self.welcome(round) {
            // The look at the tables that follows makes up for it, and says what is wrong.
            debug!("newcomers are not added early: {error:#}");
        }
        self.journal.heard(round);
        let before = (self.own.clone(), self.trusted, self.membership.peers().collect::<Vec<_>>());
        // The own address comes first: by it and the plan that follows from it the addresses of
        // the answer are judged. Whatever is wrong with it is said by the reconciliation below.
        let identified = self.identify(Some(round)).is_ok();
        self.probe.testify(&mut self.membership, self.clock.now());
        let events = self.membership.apply(round, self.clock.now());
        self.note(&events);
        if self.membership.is_complete() {
            self.answered = Instant::now();
            self.journal.complete(self.clock.now());
        }
        self.trusted |= self.membership.is_complete();
        // An answer like the one before is no reason to read the kernel's tables: the kernel tells
        // of its changes, and the audit looks without being told.
        let news = before != (self.own.clone(), self.trusted, self.membership.peers().collect());
        if news || !identified || self.trouble.is_some() || !self.settler.is_settled() {
            self.reconcile();
        }
        if news && self.trouble.is_none() && events.iter().any(Event::changes_peers) {
            self.journal.converged(heard_at.elapsed());
        }
        self.trusted |= self.membership.is_complete();
        self.tell_register(round);
        self.saved.save(&self.membership, news || !events.is_empty(), self.clock.now());
    }

    /// Which notifications of the kernel are worth another look at its tables.
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// Takes over another configuration, and makes the kernel follow at once.
    ///
    /// # Errors
    /// When the new configuration cannot work; the old one stays.
    pub fn reconfigure(&mut self, config: Config) -> Result<()> {
        self.membership.reconfigure(&config.names(), config.thresholds.clone())?;
        self.config = config;
        // Who changes the configuration may have changed more.
        self.settler.hurry();
        self.journal.reconfigured();
        self.register.reconfigure(&self.config, self.clock);
        if let Some(identity) = self.own.as_ref().map(|own| own.identity.clone()) {
            // The plan may be another one now.
            self.own = Some(self.become_node(identity)?);
        }
        self.reconcile();
        Ok(())
    }

    /// How pods are connected, for those who ask.
    pub fn state(&self) -> State {
        let silent = self.answered.elapsed();
        let dns = (silent >= self.config.dns_silence).then(|| {
            let names = self.config.names().join(", ");
            let minutes = silent.as_secs() / 60;
            format!("DNS has not answered {names} completely for {minutes} minutes, so new peers are not known: see journalctl -u minionetd")
        });
        let troubles = self.trouble.iter().cloned().chain(dns).collect();
        let forward_policies = self.forwarding.policies().to_vec();
        State { troubles, forward_policies, ..self.wanted.clone() }
    }

    /// How long to wait between two audits: as configured, and longer where there are so many peers
    /// that reading their tables would take a noticeable share of the time.
    pub fn audit_interval(&self) -> Duration {
        let routes = self.wanted.peer_routes.and_then(|routes| u32::try_from(routes).ok()).unwrap_or(0);
        self.config.audit_interval.max(AUDIT_PER_ROUTE.saturating_mul(routes))
    }

    /// The probe of its peers.
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// Lets the probe do what there is to do.
    pub fn work_probe(&mut self) {
        self.probe.work();
    }

    /// The far end of others' traces.
    pub fn trace(&self) -> &Service {
        &self.trace
    }

    /// Answers what there is to answer.
    pub fn work_trace(&mut self) {
        self.trace.work();
    }

    /// When to ask again.
    pub fn next_refresh(&mut self) -> Duration {
        let wait = self.membership.next_refresh(random());
        self.journal.next_refresh(wait, self.clock.now());
        wait
    }

    /// Compares what the kernel holds with what it should hold, and repairs.
    pub fn reconcile(&mut self) {
        let start = Instant::now();
        let result = self.try_reconcile();
        self.settler.rest();
        self.conclude(result);
        memory::give_back();
        self.journal.round(start.elapsed(), self.trouble.as_deref(), self.clock.now());
    }

    /// Says what is wrong, once.
    fn conclude(&mut self, result: Result<()>) {
        match result {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    info!("the trouble is over");
                }
            }
            // Nothing is wrong yet while the first question is on its way.
            Err(error) if !self.asked && error.is::<IdentityError>() => info!("waiting for DNS"),
            Err(error) => {
                let text = chain(&error);
                // Once, not with every round.
                if self.trouble.as_ref() != Some(&text) {
                    error!("{text}{}", self.settler.prospect());
                }
                self.trouble = Some(text);
            }
        }
    }

    /// How long to wait before what the kernel refused is tried again.
    pub fn again(&self) -> Option<Duration> {
        self.settler.again()
    }

    /// Takes in that what was in the way of what the kernel refused may be gone.
    pub fn way_free(&mut self) {
        self.settler.hurry();
    }

    fn try_reconcile(&mut self) -> Result<()> {
        let identified = self.identify(None);
        // An address that is lost for a while is no reason to let the overlay decay.
        let Some(own) = self.own.clone() else { return identified };
        let (device, underlay) = self.device(&own)?;
        let (encapsulation, assigned) = (self.config.encapsulation, &own.plan.assigned());
        let below = underlay.map(|(index, _)| index);
        let local = Local { me: &own.me, subnet: own.subnet, underlay: below, encapsulation, assigned };
        let peers: Vec<NodePlan> =
            self.membership.peers().filter_map(|addr| own.plan.node(addr).ok()).collect();
        let wanted = Arc::new(overlay::desired(device, &local, &peers));
        let ipv6_pods = own.me.block(Family::V6).is_some();
        self.journal.compare(&*wanted, wanted.routes.len());
        let mut set = sysctls::forwarding(ipv6_pods)?;
        let wanted_now = Wanted { overlay: &wanted, underlay, trusted: self.trusted };
        let settled = self.settler.settle(&mut self.socket, &wanted_now, &mut self.journal);
        self.journal.set_device(settled.is_ok() && self.settler.device_works());
        self.interest.links = settled?;
        let refused = self.settler.trouble();
        self.interest.refused = refused.is_some().then(|| self.settler.refused_routes().collect());
        // What the kernel refuses is told here, and is no fault of single attachments.
        let routes = self.settler.refused_routes().count();
        self.wanted.peer_routes = Some((wanted.routes.len() + wanted.refused.len()).saturating_sub(routes));
        set.extend(sysctls::device()?);
        set.extend(sysctls::both_ways(&own.identity.interface)?);
        self.journal.mended("sysctl", set, self.clock.now());
        self.probe.update(&own.plan, &own.me, wanted.device.mtu, &peers, &self.membership);
        self.trace.update(&self.config, &own.me, &peers);
        // Pods can be attached while a rule or a peer is missing; what is wrong is said below.
        let filtered = self.filter(&own);
        self.interest.chains = self.forwarding.look(&own.plan);
        self.hand_over(&own)?;
        self.journal.set_rules(filtered.is_ok());
        if self.settler.device_works() {
            keep::announce(&self.config.cni_conf_dir)?;
        }
        identified?;
        filtered?;
        refused.map_or(Ok(()), |text| Err(anyhow!(text)))
    }

    /// Tells the registration what there is to see.
    fn tell_register(&mut self, round: &Round) {
        if !self.config.register.enabled {
            return;
        }
        let mut peers: BTreeMap<IpAddr, Liveness> =
            self.membership.peers().map(|peer| (peer, Liveness::Unknown)).collect();
        for (peer, liveness) in self.probe.liveness() {
            peers.entry(peer).and_modify(|known| *known = liveness);
        }
        self.register.tell(round, self.own.as_ref().map(|own| own.identity.address), peers);
        if self.register.has_news() {
            self.journal.touch();
        }
    }

    /// Makes the nft table what it should be.
    fn filter(&mut self, own: &Own) -> Result<()> {
        let mut firewall = match self.firewall.take() {
            Some(firewall) => firewall,
            None => Firewall::open()?,
        };
        let members = self.membership.peers().collect();
        let basis = Basis { config: &self.config, plan: &own.plan, me: &own.me, members };
        let result = firewall.reconcile(basis, self.trusted);
        self.wanted.rules = firewall.rules().or(self.wanted.rules);
        self.firewall = Some(firewall);
        self.journal.mended("nft", result?, self.clock.now());
        Ok(())
    }

    /// Leaves the node's facts for the plugin.
    fn hand_over(&self, own: &Own) -> Result<()> {
        let underlay = own.plan.underlay();
        let mtu = overlay::pod_mtu(self.config.encapsulation, &own.me.blocks, underlay, self.underlay_mtu);
        let facts = NodeFacts {
            schema: handoff::SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster: self.config.cluster_name.clone(),
            node: own.me.node,
            mtu,
            blocks: own.me.blocks.clone(),
            pod_networks: own.plan.spec().pod_networks.iter().map(|p| p.network).collect(),
        };
        keep::hand_over(&facts)
    }
}
