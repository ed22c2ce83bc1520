//! Puts the document together from what the parts of the daemon tell.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{
    Daemon, Device, Dns, Journal, Node, Peer, Plan, PodNetwork, Probe, Readiness, SCHEMA, Standing, State,
};
use crate::membership::{HoldReason, Now, PeerState, PeerView, Refusal, View};
use crate::plan::AddressPlan;
use crate::probe::view::ProbeView;
use crate::register::Registration;

/// What the parts of the daemon tell.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The daemon.
    pub daemon: Daemon,
    /// Membership as an operator sees it.
    pub membership: View,
    /// This node, once that is known.
    pub node: Option<Node>,
    /// The plan, once that is known.
    pub plan: Option<&'a AddressPlan>,
    /// The device as it should be, once that is known; what the journal knows of it is added here.
    pub device: Option<Device>,
    /// What the probe measured, where there is one.
    pub probe: Option<ProbeView>,
    /// How registration goes, where this node registers itself.
    pub registration: Option<Registration>,
    /// What is wrong.
    pub troubles: Vec<String>,
    /// What the daemon did.
    pub journal: &'a Journal,
}

/// The document.
pub fn describe(facts: Facts<'_>, now: Now) -> State {
    let Facts { daemon, membership, node, plan, device, probe, registration, troubles, journal } = facts;
    let restored = membership.peers.iter().any(|p| p.state.is_peer());
    let readiness = Readiness::judge(node.is_some(), restored, journal);
    let mut peers: Vec<Peer> = membership.peers.into_iter().filter_map(|view| peer(view, plan)).collect();
    if let Some(view) = &probe {
        merge_probe(&mut peers, view);
    }
    State {
        schema: SCHEMA,
        written: now.unix,
        daemon,
        cluster: membership.cluster,
        readiness,
        troubles,
        node,
        plan: plan.map(describe_plan),
        device: device.map(|device| Device {
            peer_routes: journal.peer_routes(),
            refused: journal.refused(),
            ..device
        }),
        dns: Dns {
            names: membership.names,
            last_complete: journal.last_complete(),
            next_refresh: journal.refresh_at(),
            own_missing_since: membership.own.missing_since,
            removals_wait_for: membership.removals_wait_for,
            sampling: membership.sampling,
            mass_hold: membership.mass_hold,
            departed: membership.departed,
            replies: journal.replies(),
            thresholds: membership.thresholds,
        },
        peers,
        ignored_more: membership.refused_uncounted,
        probe: probe.map(|view| Probe { mtu: view.mtu, counters: view.counters }),
        registration,
        repairs: journal.repairs(),
        rounds: journal.rounds(),
    }
}

/// Puts the results of the probe to the peers they are about.
pub fn merge_probe(peers: &mut [Peer], view: &ProbeView) {
    let results: BTreeMap<IpAddr, _> = view.peers.iter().map(|probe| (probe.address, probe)).collect();
    for peer in peers {
        peer.probe = results.get(&peer.address).map(|probe| (*probe).clone());
    }
}

fn describe_plan(plan: &AddressPlan) -> Plan {
    let networks = plan.spec().pod_networks.iter();
    Plan {
        digest: format!("{:016x}", plan.digest()),
        node_networks: plan.spec().node_networks.clone(),
        pod_networks: networks
            .map(|n| PodNetwork { network: n.network, node_prefix: n.node_prefix })
            .collect(),
    }
}

/// One address; nothing for this node's own, which is not told among the others.
fn peer(view: PeerView, plan: Option<&AddressPlan>) -> Option<Peer> {
    let (state, reason, absent_answers) = match view.state {
        PeerState::Active => (Standing::Active, None, 0),
        PeerState::Missing { answers } => (Standing::Missing, None, answers),
        PeerState::Held { hold, answers } => (Standing::Held, Some(why_held(hold)), answers),
        PeerState::Refused { refusal: Refusal::Own } => return None,
        PeerState::Refused { refusal } if refusal.is_problem() => {
            (Standing::Refused, Some(refusal.to_string()), 0)
        }
        PeerState::Refused { refusal } => (Standing::Ignored, Some(refusal.to_string()), 0),
    };
    let place = plan.filter(|_| state.is_peer()).and_then(|plan| plan.node(view.address).ok());
    Some(Peer {
        address: view.address,
        state,
        reason,
        since: Some(view.since),
        first_seen: Some(view.first_seen),
        last_seen: Some(view.last_seen),
        confirmed: view.confirmed,
        absent_answers,
        flaps: view.flaps,
        names: view.names,
        mac: place.as_ref().map(|place| place.mac),
        blocks: place.map(|place| place.blocks).unwrap_or_default(),
        probe: None,
    })
}

fn why_held(hold: HoldReason) -> String {
    let text = match hold {
        HoldReason::MassRemoval => "too many went missing at once",
        HoldReason::Flapping => "it comes and goes",
        HoldReason::SamplingSuspected => "others appeared in its place: the answers may be random samples",
        HoldReason::Sampling => "the answers are random samples: it goes when it is dead by probe as well",
    };
    text.to_owned()
}
