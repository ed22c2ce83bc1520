//! What follows from what was seen: which hop lost the packet, why it may have, and what to do.

mod explain;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::message::{Account, Point};

/// A place that a packet comes by, in the order in which it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hop {
    /// The kernel took the packet from the program.
    Sent,
    /// It went into the overlay's device on this node.
    OwnDevice,
    /// It left this node.
    OwnNic,
    /// It arrived at the other node.
    PeerNic,
    /// It came out of the tunnel there.
    PeerDevice,
    /// It was given to the pod.
    Pod,
    /// The pod answered.
    PodReply,
    /// The answer went into the tunnel.
    PeerDeviceBack,
    /// The answer left the other node.
    PeerNicBack,
    /// The answer arrived at this node.
    OwnNicBack,
    /// It came out of the tunnel.
    OwnDeviceBack,
    /// The program got the answer.
    Answered,
}

/// A hop as it is told and watched.
struct Stage {
    hop: Hop,
    /// What happens there, in a few words.
    label: &'static str,
    /// Where it can be seen at the other node, if it is there.
    point: Option<Point>,
    /// What it needs.
    needs: Needs,
}

/// What there has to be for a packet to come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    /// Nothing but two nodes.
    Nodes,
    /// The overlay's device.
    Tunnel,
    /// A pod.
    Pod,
}

const fn stage(hop: Hop, label: &'static str, point: Option<Point>, needs: Needs) -> Stage {
    Stage { hop, label, point, needs }
}

/// All hops, in the order in which a packet comes by.
const STAGES: [Stage; 12] = [
    stage(Hop::Sent, "sent by the kernel", None, Needs::Nodes),
    stage(Hop::OwnDevice, "into the tunnel", None, Needs::Tunnel),
    stage(Hop::OwnNic, "left this node", None, Needs::Nodes),
    stage(Hop::PeerNic, "arrived at the peer", Some(Point::RequestNic), Needs::Nodes),
    stage(Hop::PeerDevice, "out of the tunnel", Some(Point::RequestDevice), Needs::Tunnel),
    stage(Hop::Pod, "given to the pod", Some(Point::RequestPod), Needs::Pod),
    stage(Hop::PodReply, "answered by the pod", Some(Point::ReplyPod), Needs::Pod),
    stage(Hop::PeerDeviceBack, "answer into the tunnel", Some(Point::ReplyDevice), Needs::Tunnel),
    stage(Hop::PeerNicBack, "answer left the peer", Some(Point::ReplyNic), Needs::Nodes),
    stage(Hop::OwnNicBack, "answer arrived here", None, Needs::Nodes),
    stage(Hop::OwnDeviceBack, "answer out of the tunnel", None, Needs::Tunnel),
    stage(Hop::Answered, "answer received", None, Needs::Nodes),
];

impl Hop {
    /// What happens there, in a few words.
    pub fn label(self) -> &'static str {
        self.stage().label
    }

    /// Where it can be seen at the other node, if it is there.
    fn point(self) -> Option<Point> {
        self.stage().point
    }

    fn stage(self) -> &'static Stage {
        // Both are in the order of the way.
        &STAGES[self as usize]
    }
}

/// By which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// It does not leave the program's own node: the target is an address of it.
    Here,
    /// To a pod on the same node.
    Local,
    /// Through the tunnel.
    Tunnel,
    /// Over the underlay without a tunnel.
    Direct,
}

/// Everything that is known of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The address that was asked for.
    pub target: IpAddr,
    /// The node that has it.
    pub node: IpAddr,
    /// Whether it is a pod; otherwise it is the other node itself.
    pub pod: bool,
    /// The way.
    pub way: Way,
    /// The network identifier of this node's overlay.
    pub vni: u32,
    /// The UDP port of the tunnel.
    pub port: u16,
    /// How many packets were sent.
    pub sent: u8,
    /// Why the kernel refused to send, if it did.
    pub refused: Option<String>,
    /// How many were seen where on this node, answers that the program got included.
    pub near: BTreeMap<Hop, u8>,
    /// Where packets went in a tunnel, if not to the node.
    pub astray: Option<IpAddr>,
    /// What the other node told, if it did.
    pub far: Option<Account>,
    /// Whether the other node's daemon answered over the underlay.
    pub underlay: bool,
    /// Whether it answered through the tunnel.
    pub tunnel: bool,
    /// Whether the other node answered an ICMP echo over the underlay.
    pub ping: bool,
    /// What this node's tables lack for the other one, in words.
    pub tables: Vec<String>,
    /// Whether DNS or the tables know the other node at all.
    pub known: bool,
}

/// Whether a packet came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// So many were seen.
    Yes(u8),
    /// None was seen, but later hops saw it.
    Passed,
    /// None was.
    No,
    /// Nobody looked, or nobody told.
    Unknown,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All answers came.
    Reached,
    /// Some did.
    Lossy,
    /// None did.
    Lost,
}

/// What came of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The hops of its way, and whether the packets came by.
    pub steps: Vec<(Hop, Seen)>,
    /// How it ended.
    pub outcome: Outcome,
    /// The first hop that was not reached; none where it cannot be told.
    pub lost_at: Option<Hop>,
    /// The last hop that was.
    pub last: Option<Hop>,
    /// What it means, in a sentence or two.
    pub finding: String,
    /// What to do.
    pub remedy: Option<String>,
}

/// Draws the conclusions.
pub fn conclude(evidence: &Evidence) -> Trace {
    let hops = hops(evidence);
    let mut steps: Vec<(Hop, Seen)> = hops.iter().map(|hop| (*hop, seen(*hop, evidence))).collect();
    let last = steps.iter().rposition(|(_, seen)| matches!(seen, Seen::Yes(_)));
    // What was seen behind a hop has passed it, whatever was seen there.
    for (_, seen) in steps.iter_mut().take(last.unwrap_or(0)) {
        if !matches!(seen, Seen::Yes(_)) {
            *seen = Seen::Passed;
        }
    }
    let answered = evidence.near.get(&Hop::Answered).copied().unwrap_or(0);
    let outcome = match answered {
        0 => Outcome::Lost,
        n if n < evidence.sent => Outcome::Lossy,
        _ => Outcome::Reached,
    };
    let next = steps.get(last.map_or(0, |last| last + 1)).copied();
    let lost_at = next.filter(|(_, seen)| *seen == Seen::No).map(|(hop, _)| hop);
    let last = last.map(|last| steps[last].0);
    let (finding, remedy) = explain::explain(evidence, outcome, last, lost_at);
    Trace { steps, outcome, lost_at, last, finding, remedy }
}

/// The hops of the way.
fn hops(evidence: &Evidence) -> Vec<Hop> {
    let comes_by = |stage: &&Stage| match evidence.way {
        Way::Here => matches!(stage.hop, Hop::Sent | Hop::Answered),
        Way::Local => stage.needs == Needs::Pod || matches!(stage.hop, Hop::Sent | Hop::Answered),
        Way::Tunnel => stage.needs != Needs::Pod || evidence.pod,
        Way::Direct => stage.needs == Needs::Nodes || (stage.needs == Needs::Pod && evidence.pod),
    };
    STAGES.iter().filter(comes_by).map(|stage| stage.hop).collect()
}

fn seen(hop: Hop, evidence: &Evidence) -> Seen {
    let counted = |count: u8| match count.min(evidence.sent) {
        0 => Seen::No,
        n => Seen::Yes(n),
    };
    if hop == Hop::Sent {
        return counted(evidence.sent);
    }
    let near = evidence.near.get(&hop).copied().unwrap_or(0);
    match hop.point().filter(|_| evidence.way != Way::Local) {
        None => counted(near),
        // A node that did not watch has seen nothing, which says nothing.
        Some(point) => match evidence.far.as_ref().filter(|far| far.state.watching) {
            Some(far) => counted(far.at(point)),
            None => Seen::Unknown,
        },
    }
}
