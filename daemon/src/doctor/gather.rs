//! All facts, in an order in which one may need another. Every step is bounded in time.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ArgMatches;
use minionet_core::addr::Cidr;
use minionet_core::config::Config;
use minionet_core::constants::{RUN_DIR, STATE_DIR};
use minionet_core::doctor::facts::{DaemonFacts, Facts, Gathered, PlaceFacts, ResolverFacts};
use minionet_core::forward::judge;
use minionet_core::handoff::{self, NodeFacts};
use minionet_core::health::{self, Health};
use minionet_core::membership::snapshot;
use minionet_core::plan::NodePlan;
use minionet_core::probe::view::{self, ProbeView};
use minionet_core::register::Report;
use minionet_netlink::Socket;
use minionet_netlink::nft::Nft;
use minionet_pods::{boot, heartbeat};

use super::{cni, host, kernel, kube, peers, pods};
use crate::firewall::{self, Basis};
use crate::forwarding::Forwarding;
use crate::local::Place;
use crate::{keep, processes, resolve, settings};

/// Longest time for all questions to DNS together.
const DNS: Duration = Duration::from_secs(15);

/// Gathers everything.
pub fn facts(matches: &ArgMatches) -> Facts {
    let config = settings::gather_as_daemon(matches).map_err(|e| format!("{e:#}"));
    let plugins = matches.get_one::<PathBuf>("cni-bin-dir").cloned().unwrap_or_default();
    let processes = processes::here();
    let daemon = daemon();
    let resolvers = config.as_ref().map_err(String::clone).and_then(survey);
    let listed = listed(&resolvers);
    let socket = Socket::open().map_err(|e| e.to_string());
    let unknown = || "this node's own address is not known".to_owned();
    let (mut kernel, mut asked) = (Err(unknown()), Err(unknown()));
    let (mut rules, mut forward) = (Err(unknown()), Err(unknown()));
    let mut settings = std::collections::BTreeMap::new();
    let place = match (&config, socket) {
        (Ok(config), Ok(mut socket)) => match Place::find(config, &mut socket, &listed) {
            Ok(place) => {
                let known = known(&place, &listed, &daemon.saved);
                settings = kernel::settings(&place.identity.interface);
                kernel = kernel::facts(&mut socket, config, &place, &known, &processes);
                rules = drift(config, &place, &known);
                let pods: Vec<Cidr> = place.plan.spec().pod_networks.iter().map(|p| p.network).collect();
                forward = Forwarding::default().read(&pods).map(|tables| judge(&tables, &pods));
                asked = Ok(peers::ask(config, &place, &known, daemon.probe.as_ref()));
                Ok(place_facts(config, &mut socket, place, &known))
            }
            Err(e) => Err(format!("{e:#}")),
        },
        (Err(_), _) => Err("the settings cannot be used".to_owned()),
        (_, Err(e)) => Err(e),
    };
    Facts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        cni: cni::facts(config.as_ref().ok(), &plugins),
        host: host::facts(config.as_ref().ok(), &processes),
        kube: kube::facts(&processes),
        pods: pods::facts(),
        config,
        daemon,
        resolvers,
        place,
        kernel,
        peers: asked,
        settings,
        rules,
        forward,
    }
}

/// What the daemon left in its files.
fn daemon() -> DaemonFacts {
    let run = |file: &str| fs::read_to_string(Path::new(RUN_DIR).join(file)).ok();
    let state = |file: &str| fs::read_to_string(Path::new(STATE_DIR).join(file)).ok();
    let node = run(handoff::FILE).and_then(|text| NodeFacts::parse(&text).ok());
    let saved = state(snapshot::FILE).and_then(|text| snapshot::Snapshot::parse(&text).ok());
    let probe = run(view::FILE).and_then(|text| ProbeView::parse(&text).ok());
    let mut written = Vec::new();
    written.extend(saved.as_ref().map(|s| (format!("{STATE_DIR}/{}", snapshot::FILE), s.written)));
    written.extend(probe.as_ref().map(|p| (format!("{RUN_DIR}/{}", view::FILE), p.written)));
    DaemonFacts {
        ever: node.is_some() || state(handoff::FILE).is_some(),
        lives: heartbeat::is_alive(Path::new(RUN_DIR)),
        version: node.map(|facts| facts.version),
        health: run(health::FILE).and_then(|text| Health::parse(&text)),
        uptime: boot::uptime(),
        written,
        probe,
        registration: run(Report::FILE)
            .and_then(|text| Report::parse(&text))
            .map(|report| report.registration),
        saved: keep::saved_peers(),
    }
}

fn survey(config: &Config) -> Gathered<Vec<ResolverFacts>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("cannot start the event loop: {e}"))?;
    let within = async { tokio::time::timeout(DNS, resolve::survey(config)).await };
    runtime.block_on(within).unwrap_or_else(|_| Err(format!("DNS did not answer within {DNS:?}")))
}

/// Every address that any resolver listed.
fn listed(resolvers: &Gathered<Vec<ResolverFacts>>) -> BTreeSet<IpAddr> {
    let replies = resolvers.iter().flatten().flat_map(|r| r.udp.iter().chain([&r.tcp]));
    replies
        .filter_map(|reply| reply.as_ref().ok())
        .flat_map(|(addresses, _)| addresses.iter().copied())
        .collect()
}

/// The peers that this node should have: those that the daemon has, as it knows who is only missing
/// for a while; where it has none, those that DNS lists.
fn known(place: &Place, listed: &BTreeSet<IpAddr>, saved: &BTreeSet<IpAddr>) -> Vec<NodePlan> {
    let source = if saved.is_empty() { listed } else { saved };
    let local: BTreeSet<IpAddr> = place.local.iter().map(|l| l.address).collect();
    let others = source.iter().filter(|a| **a != place.identity.address && !local.contains(*a));
    others.filter_map(|address| place.plan.node(*address).ok()).collect()
}

fn drift(config: &Config, place: &Place, known: &[NodePlan]) -> Gathered<Vec<String>> {
    let members = known.iter().map(|peer| peer.node).collect();
    let wanted = firewall::ruleset(Basis { config, plan: &place.plan, me: &place.me, members });
    let drift = Nft::open().and_then(|mut nft| nft.drift(&wanted));
    drift.map(|drift| drift.iter().map(ToString::to_string).collect()).map_err(|e| e.to_string())
}

fn place_facts(config: &Config, socket: &mut Socket, place: Place, known: &[NodePlan]) -> PlaceFacts {
    let bridge = |link: &minionet_netlink::link::Link| link.kind.as_deref() == Some("bridge");
    let master = place
        .interface
        .master
        .and_then(|index| socket.link(minionet_netlink::link::Which::Index(index)).ok().flatten());
    PlaceFacts {
        local: place.local.iter().map(|l| (l.address, l.prefix_len, l.interface.clone())).collect(),
        mtu: place.interface.mtu,
        running: place.interface.running,
        bridged: bridge(&place.interface) || master.as_ref().is_some_and(bridge),
        wanted: place.desired(config, known),
        identity: place.identity,
        plan: place.plan,
        me: place.me,
    }
}
