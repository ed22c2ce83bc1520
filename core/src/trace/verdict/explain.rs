//! The words for what was found.

use super::{Evidence, Hop, Outcome, Way};
use crate::constants::DEVICE;

/// What is so, and what to do.
type Text = (String, Option<String>);

fn text(finding: impl Into<String>, remedy: impl Into<String>) -> Text {
    (finding.into(), Some(remedy.into()))
}

/// What it means that the packet was seen at `last`, and not at `lost_at`.
pub(super) fn explain(
    evidence: &Evidence,
    outcome: Outcome,
    last: Option<Hop>,
    lost_at: Option<Hop>,
) -> Text {
    let target = evidence.target;
    match outcome {
        Outcome::Reached => return (format!("{target} answers"), None),
        Outcome::Lossy => {
            let answered = evidence.near.get(&Hop::Answered).copied().unwrap_or(0);
            return text(
                format!("{target} answers, but only {answered} of {} packets came back", evidence.sent),
                "trace again; the hops that count fewer packets than those before them lose some",
            );
        }
        Outcome::Lost => {}
    }
    if let Some(astray) = evidence.astray {
        return text(
            format!(
                "the packets left this node for {astray} instead of {}: the forwarding entry is wrong",
                evidence.node
            ),
            format!(
                "minionetd repairs it when it runs: systemctl status minionetd; by hand: bridge fdb show dev {DEVICE}"
            ),
        );
    }
    if !evidence.known {
        let refused = evidence.refused.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        return text(
            format!(
                "{target} belongs to {}, which is no peer of this node{refused}: neither the saved peers nor the kernel have it",
                evidence.node
            ),
            format!(
                "if {} is to be in the cluster, DNS must list it, and its network must be in node_networks",
                evidence.node
            ),
        );
    }
    match lost_at {
        Some(hop) => lost(evidence, hop),
        None => silent(evidence, last),
    }
}

/// The hop is known.
fn lost(evidence: &Evidence, hop: Hop) -> Text {
    let Evidence { node, target, port, .. } = evidence;
    match hop {
        Hop::Sent => {
            let refusal = evidence.refused.as_deref().unwrap_or("it was not tried");
            text(
                format!("this node does not send to {target}: {refusal}"),
                missing(evidence, "see minionetd doctor, and whether DNS lists the node"),
            )
        }
        Hop::OwnDevice => text(
            format!(
                "the packets do not enter {DEVICE} on this node: a rule for outgoing packets drops them, or a route leads elsewhere"
            ),
            missing(
                evidence,
                &format!("look at: ip route get {target}; nft list ruleset (chains of the hook output)"),
            ),
        ),
        Hop::OwnNic if evidence.way == Way::Tunnel => text(
            format!("the packets enter {DEVICE}, but do not leave this node{}", because(evidence)),
            missing(
                evidence,
                &format!(
                    "a rule drops outgoing UDP to port {port}, or {node} is not found on the underlay: nft list ruleset (hook output), ip neigh show {node}, ip route get {node}"
                ),
            ),
        ),
        Hop::OwnNic => text(
            format!("the packets do not leave this node{}", because(evidence)),
            missing(
                evidence,
                &format!(
                    "look at: nft list ruleset (hook output), ip neigh show {node}, ip route get {target}"
                ),
            ),
        ),
        Hop::PeerNic => underlay(evidence, "the packets left this node and did not arrive at", "to"),
        Hop::PeerDevice => decapsulation(evidence),
        Hop::Pod if evidence.way == Way::Local => text(
            format!("the packets do not reach the link of the pod {target} on this node"),
            "see minionetd doctor: the pod is gone, its link is down, or the route to it is missing",
        ),
        Hop::Pod => forwarding(evidence),
        Hop::PodReply => text(
            format!("the pod {target} gets the packets and does not answer"),
            "look inside of the pod: its interface is down, or its own rules or a network policy drop ICMP",
        ),
        Hop::PeerDeviceBack | Hop::PeerNicBack => way_back(evidence, hop),
        Hop::OwnNicBack => {
            underlay(evidence, "the answers left the other node and did not arrive from", "from")
        }
        Hop::OwnDeviceBack => text(
            format!(
                "the answers arrive at this node, but do not come out of {DEVICE}: a rule for incoming packets drops them, or minionet's guard does not know {node} as a member"
            ),
            format!(
                "look at: nft list ruleset (hook input), nft list set inet minionet members4; open UDP {port} from all nodes"
            ),
        ),
        Hop::Answered => text(
            format!("the answers of {target} reach this node and are dropped here"),
            "a rule for incoming packets drops ICMP: nft list ruleset (hook input)",
        ),
    }
}

/// What is lost between two nodes.
fn underlay(evidence: &Evidence, what: &str, direction: &str) -> Text {
    let Evidence { node, port, .. } = evidence;
    if evidence.way == Way::Direct {
        return text(
            format!("{what} {node}: the underlay does not carry packets of pods"),
            "without encapsulation the underlay must let addresses of pods pass (source/destination check of the cloud); otherwise set encapsulation = \"always\"",
        );
    }
    // The way of the request is tried by the announcement too, that of the answer by its answer.
    let passes = if evidence.underlay {
        format!("; other UDP passes, so something on the way drops UDP port {port}")
    } else {
        String::new()
    };
    text(
        format!("{what} {node}{passes}"),
        format!(
            "open UDP port {port} {direction} {node} in security groups, network ACLs and firewalls between the nodes"
        ),
    )
}

/// What arrives at the other node and does not come out of its tunnel.
fn decapsulation(evidence: &Evidence) -> Text {
    let Evidence { node, port, vni, .. } = evidence;
    let Some(far) = &evidence.far else {
        return text("the packets do not come out of the tunnel", "look at the other node");
    };
    if !far.state.device_up {
        return text(
            format!("the packets arrive at {node}, where the device {DEVICE} is down or missing"),
            format!("on {node}: systemctl status minionetd, ip -d link show {DEVICE}"),
        );
    }
    if far.vni != *vni {
        return text(
            format!("the packets arrive at {node}, whose overlay has VNI {} and this node's {vni}", far.vni),
            "set the same vni on every node, and reload minionetd",
        );
    }
    text(
        format!(
            "the packets arrive at {node} and do not come out of its tunnel: a rule there drops incoming UDP to port {port}, or its guard does not know this node as a member"
        ),
        format!(
            "on {node}: nft list ruleset (hooks prerouting and input), nft list set inet minionet members4; open UDP {port} from all nodes"
        ),
    )
}

/// What comes out of the tunnel and is not given to the pod.
fn forwarding(evidence: &Evidence) -> Text {
    let Evidence { node, target, .. } = evidence;
    let state = evidence.far.as_ref().map(|far| far.state).unwrap_or_default();
    if !state.pod_known {
        return text(
            format!("no pod on {node} has the address {target}"),
            "ask for the address of a pod that runs: kubectl get pods -o wide",
        );
    }
    if !state.pod_link_up {
        return text(
            format!("the link of the pod {target} on {node} is down"),
            "the pod's own interface was set down, or its namespace is going: restart the pod",
        );
    }
    if !state.forwards {
        return text(
            format!("{node} does not forward packets"),
            format!(
                "on {node}: sysctl -w net.ipv4.ip_forward=1 (net.ipv6.conf.all.forwarding=1), and find what resets it"
            ),
        );
    }
    text(
        format!(
            "the packets come out of the tunnel on {node} and are not given to the pod {target}: a rule drops what is forwarded"
        ),
        format!(
            "on {node}: minionetd doctor (forward-policy); nft list ruleset and iptables-legacy -S (FORWARD)"
        ),
    )
}

/// What is lost between the pod and the other node's way out.
fn way_back(evidence: &Evidence, hop: Hop) -> Text {
    let node = evidence.node;
    if hop == Hop::PeerDeviceBack && !evidence.pod {
        return text(
            format!("the packets come out of the tunnel on {node}, which does not answer"),
            format!("a rule there drops ICMP: on {node}, nft list ruleset (hook input)"),
        );
    }
    if hop == Hop::PeerNicBack && evidence.way == Way::Tunnel {
        return text(
            format!("the answers enter the tunnel on {node} and do not leave it"),
            format!(
                "on {node}: a rule drops outgoing UDP to port {}, or its entry for this node is wrong: minionetd doctor",
                evidence.port
            ),
        );
    }
    text(
        format!("the answers of {} do not leave {node}", evidence.target),
        format!("on {node}: minionetd doctor (peer-tables, forward-policy, rp-filter)"),
    )
}

/// The other node says nothing: what is left to be said.
fn silent(evidence: &Evidence, last: Option<Hop>) -> Text {
    let Evidence { node, port, .. } = evidence;
    let back = last.is_some_and(|last| last >= Hop::OwnNicBack);
    if back {
        return text("the answers reach this node and are lost here", "nft list ruleset (hook input)");
    }
    let left = "the packets left this node; there is no answer";
    let blind = evidence.far.as_ref().map(|far| far.state);
    if let Some(state) = blind {
        let why = if state.busy {
            "has too many traces under way"
        } else {
            "may not watch its interfaces (CAP_NET_RAW)"
        };
        return text(
            format!("{left}, and the daemon of {node} {why}"),
            "trace again later, or trace from the other node",
        );
    }
    if evidence.ping {
        return text(
            format!(
                "{left}, and the daemon of {node} does not talk, though the node answers a ping: its daemon is down, does not know this node, has another trace_port, or UDP is dropped on the way"
            ),
            format!(
                "on {node}: systemctl status minionetd, minionetd doctor; otherwise open UDP {port} and the trace_port between the nodes"
            ),
        );
    }
    text(
        format!(
            "{left}, and {node} does not answer on any channel: the node is down, or the underlay does not lead there"
        ),
        format!(
            "look whether the node runs and can be reached: ping {node}; if it is gone for good, take it out of DNS"
        ),
    )
}

/// The tables' part in it.
fn because(evidence: &Evidence) -> String {
    match evidence.tables.first() {
        Some(first) => format!(": this node's tables are not right for {} ({first})", evidence.node),
        None => String::new(),
    }
}

/// What to do where tables are not right, or otherwise.
fn missing(evidence: &Evidence, otherwise: &str) -> String {
    match evidence.tables.is_empty() {
        true => otherwise.to_owned(),
        false => "minionetd repairs its tables when it runs: systemctl status minionetd, minionetd doctor"
            .to_owned(),
    }
}
