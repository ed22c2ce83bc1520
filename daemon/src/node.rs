//! This node: what it heard, what it decided, and what it told the kernel and the plugin.
//!
//! Every call of [`Node::reconcile`] starts from what the kernel holds at that moment; nothing
//! that was programmed earlier is remembered.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use minionet_core::addr::{Cidr, Family};
use minionet_core::config::Config;
use minionet_core::constants::{DEVICE, NFT_TABLE, ROUTE_PROTOCOL_PEER};
use minionet_core::handoff::{self, NodeFacts};
use minionet_core::identity::{self, Evidence, Identity, IdentityError, Overrides};
use minionet_core::membership::{Liveness, Membership, Outcome, Round, Scope};
use minionet_core::overlay::{self, Change, Device, Local, Overlay};
use minionet_core::plan::{AddressPlan, NodePlan};
use minionet_netlink::Socket;
use minionet_netlink::link::{Link, Which};
use minionet_netlink::monitor::Interest;
use minionet_netlink::overlay::{self as kernel, Failure};
use tracing::{error, info};

use crate::clock::Clock;
use crate::firewall::{self, Firewall};
use crate::forwarding::Forwarding;
use crate::health::State;
use crate::probe::Probe;
use crate::register::Register;
use crate::run::random;
use crate::trace::Service;
use crate::{keep, local, sysctls};

use self::report::{log, report};

/// How often a difference is computed, applied and verified before the next event is awaited.
const ROUNDS: usize = 3;

/// MTU of Ethernet in octets (RFC 894); assumed until an interface says another.
const ETHERNET_MTU: u32 = 1500;

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

/// What the kernel refused.
struct Refused {
    /// For people.
    text: String,
    /// Whether the device itself is as it should be: single peers may be missing then.
    device_works: bool,
    /// How many routes to peers are missing because of it.
    routes: usize,
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
            probe: Probe::new(&config, clock),
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
            answered: Instant::now(),
            trusted: false,
            saved: keep::Saved::default(),
            interest: Interest {
                device: DEVICE.to_owned(),
                links: Vec::new(),
                protocol: ROUTE_PROTOCOL_PEER,
                table: NFT_TABLE.to_owned(),
                chains: Vec::new(),
            },
            underlay_mtu: ETHERNET_MTU,
        };
        keep::restore(&mut node.membership, &mut node.socket, clock.now());
        Ok(node)
    }

    /// Takes in what a round of lookups found, and makes the kernel follow.
    pub fn observe(&mut self, round: &Round) {
        self.asked = true;
        // The own address comes first: by it and the plan that follows from it the addresses of
        // the answer are judged. Whatever is wrong with it is said by the reconciliation below.
        let heard = round.replies.iter().filter_map(|reply| match &reply.outcome {
            Outcome::Answer { addresses, .. } => Some(addresses.iter().copied()),
            Outcome::Failure { .. } => None,
        });
        let _said_below = self.identify(heard.flatten().collect());
        self.probe.testify(&mut self.membership, self.clock.now());
        log(&self.membership.apply(round, self.clock.now()));
        if self.membership.is_complete() {
            self.answered = Instant::now();
        }
        self.trusted |= self.membership.is_complete();
        self.reconcile();
        self.trusted |= self.membership.is_complete();
        self.tell_register(round);
        self.saved.save(self.membership.snapshot(self.clock.now()));
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
    pub fn next_refresh(&self) -> Duration {
        self.membership.next_refresh(random())
    }

    /// Compares what the kernel holds with what it should hold, and repairs.
    pub fn reconcile(&mut self) {
        match self.try_reconcile() {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    info!("the trouble is over");
                }
            }
            // Nothing is wrong yet while the first question is on its way.
            Err(error) if !self.asked && error.is::<IdentityError>() => info!("waiting for DNS"),
            Err(error) => {
                let text = format!("{error:#}");
                // Once, not with every round.
                if self.trouble.as_ref() != Some(&text) {
                    error!("{text}");
                }
                self.trouble = Some(text);
            }
        }
    }

    fn try_reconcile(&mut self) -> Result<()> {
        let identified = self.identify(BTreeSet::new());
        // An address that is lost for a while is no reason to let the overlay decay.
        let Some(own) = self.own.clone() else { return identified };
        let (device, underlay) = self.device(&own)?;
        let (encapsulation, assigned) = (self.config.encapsulation, &own.plan.assigned());
        let local = Local { me: &own.me, subnet: own.subnet, underlay, encapsulation, assigned };
        let peers: Vec<NodePlan> =
            self.membership.peers().filter_map(|addr| own.plan.node(addr).ok()).collect();
        let wanted = overlay::desired(device, &local, &peers);
        let ipv6_pods = own.me.block(Family::V6).is_some();
        sysctls::forwarding(ipv6_pods)?;
        let refused = self.settle(&wanted)?;
        // What the kernel refuses is told here, and is no fault of single attachments.
        let routes = refused.as_ref().map_or(0, |refused| refused.routes);
        self.wanted.peer_routes = Some((wanted.routes.len() + wanted.refused.len()).saturating_sub(routes));
        sysctls::device(ipv6_pods)?;
        sysctls::both_ways(&own.identity.interface)?;
        self.probe.update(&own.plan, &own.me, wanted.device.mtu, &peers, &self.membership);
        self.trace.update(&self.config, &own.me, &peers);
        // Pods can be attached while a rule or a peer is missing; what is wrong is said below.
        let filtered = self.filter(&own);
        self.interest.chains = self.forwarding.look(&own.plan);
        self.hand_over(&own)?;
        if refused.as_ref().is_none_or(|r| r.device_works) {
            keep::announce(&self.config.cni_conf_dir)?;
        }
        identified?;
        filtered?;
        refused.map_or(Ok(()), |r| Err(anyhow!(r.text)))
    }

    /// Tells the registration what there is to see.
    fn tell_register(&self, round: &Round) {
        if !self.config.register.enabled {
            return;
        }
        let mut peers: BTreeMap<IpAddr, Liveness> =
            self.membership.peers().map(|peer| (peer, Liveness::Unknown)).collect();
        for (peer, liveness) in self.probe.liveness() {
            peers.entry(peer).and_modify(|known| *known = liveness);
        }
        self.register.tell(round, self.own.as_ref().map(|own| own.identity.address), peers);
    }

    /// Finds this node's own address among the local ones, and everything that follows from it.
    /// The candidates are what the membership lists and what was heard just now.
    fn identify(&mut self, heard: BTreeSet<IpAddr>) -> Result<()> {
        let local = local::addresses(&mut self.socket)?;
        let mut answered = self.membership.addresses();
        answered.extend(heard);
        let mut overrides =
            Overrides { node_ip: self.config.node_ip, interface: self.config.interface.clone() };
        if self.config.register.enabled && overrides.interface.is_none() {
            // Nobody lists a node that has yet to register.
            overrides.interface = identity::sole_interface(&local);
        }
        let identity = identity::choose(&Evidence {
            local: &local,
            answered: &answered,
            node_networks: &self.config.node_networks,
            overrides: &overrides,
            current: self.own.as_ref().map(|own| own.identity.address).or_else(keep::last_address),
        })?;
        let own = match self.own.clone().filter(|own| own.identity.is_same_place(&identity)) {
            Some(own) => Own { identity, ..own },
            None => self.become_node(identity)?,
        };
        let scope = Scope {
            plan: Some(own.plan.clone()),
            own: Some(own.identity.address),
            local: local.iter().map(|l| l.address).collect(),
        };
        self.own = Some(own);
        log(&self.membership.set_scope(scope, self.clock.now()));
        Ok(())
    }

    /// Everything that follows from an own address that is new.
    fn become_node(&self, identity: Identity) -> Result<Own> {
        let networks = &self.config.node_networks;
        let subnet = if networks.is_empty() { Some(identity.default_node_network()?) } else { None };
        let plan = self.config.plan(subnet)?;
        let me = plan.node(identity.address)?;
        let blocks: Vec<String> = me.blocks.iter().map(|b| b.cidr.to_string()).collect();
        info!(node = %me.node, interface = identity.interface, pods = blocks.join(" "), mac = %me.mac, "this node");
        let subnet = Cidr::containing(identity.address, identity.prefix_len)?;
        Ok(Own { identity, plan, me, subnet })
    }

    /// What the VTEP should be, and the number of the interface below it, if that is there.
    fn device(&mut self, own: &Own) -> Result<(Device, Option<u32>)> {
        let link = self.socket.link(Which::Name(&own.identity.interface))?;
        let underlay = own.plan.underlay();
        let mtu = self.config.underlay_mtu.or(link.as_ref().map(|l| l.mtu));
        // While the interface is gone, what it was.
        self.underlay_mtu = mtu.unwrap_or(self.underlay_mtu);
        let device = Device {
            name: DEVICE.to_owned(),
            vni: self.config.vni,
            port: self.config.port,
            local: own.identity.address,
            mac: own.me.mac,
            mtu: overlay::overlay_mtu(underlay, self.underlay_mtu),
        };
        Ok((device, link.map(|l| l.index)))
    }

    /// Makes the kernel hold what it should; says what it refused.
    fn settle(&mut self, wanted: &Overlay) -> Result<Option<Refused>> {
        let mut refused = None;
        for _ in 0..ROUNDS {
            let observed = kernel::read(&mut self.socket, DEVICE)?;
            self.interest.links = observed.device.iter().map(|d| d.index).chain(wanted.underlay).collect();
            let mut changes = overlay::diff(wanted, &observed)?;
            if !self.trusted {
                // DNS has not spoken yet.
                overlay::keep_peers(&mut changes, wanted);
            }
            if changes.is_empty() {
                return Ok(None);
            }
            report(&changes);
            let failures = kernel::apply(&mut self.socket, &wanted.device, &changes)?;
            refused = self.explain(&wanted.device, &failures)?;
        }
        Ok(refused)
    }

    /// Says what the kernel refused: the first refusal in full, and how many more there are.
    fn explain(&mut self, device: &Device, failures: &[Failure]) -> Result<Option<Refused>> {
        let texts: BTreeSet<String> = failures.iter().map(|f| f.error.to_string()).collect();
        let Some(first) = texts.first() else { return Ok(None) };
        let more = match texts.len() {
            1 => String::new(),
            n => format!(", and {} more", n - 1),
        };
        let taken = |f: &Failure| matches!(f.change, Change::CreateDevice(_)) && f.error.is_exists();
        let hint = if failures.iter().any(taken) { self.rival(device)? } else { String::new() };
        let device_works = !failures.iter().any(|f| f.change.object() == "device");
        let route = |f: &&Failure| matches!(f.change, Change::AddRoute { .. } | Change::AddRefusal(_));
        let routes = failures.iter().filter(route).count();
        Ok(Some(Refused { text: format!("{first}{hint}{more}"), device_works, routes }))
    }

    /// Names the device that has our VNI and port, if one does.
    fn rival(&mut self, device: &Device) -> Result<String> {
        let same = |l: &&Link| l.vxlan.as_ref().is_some_and(|v| v.vni == device.vni && v.port == device.port);
        Ok(self.socket.links()?.iter().find(same).map_or(String::new(), |link| {
            format!(
                ": the device {} has them already; remove it, or set vni or port on every node",
                link.name
            )
        }))
    }

    /// Makes the nft table what it should be.
    fn filter(&mut self, own: &Own) -> Result<()> {
        let mut firewall = match self.firewall.take() {
            Some(firewall) => firewall,
            None => Firewall::open()?,
        };
        let members = self.membership.peers().collect();
        let wanted = firewall::ruleset(&self.config, &own.plan, &own.me, members);
        self.wanted.rules = Some(wanted.chains.iter().map(|chain| chain.rules.len()).sum());
        let result = firewall.reconcile(&wanted, self.trusted);
        self.firewall = Some(firewall);
        result
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
