use super::*;
use crate::trace::State;

fn account(points: &[Point]) -> Account {
    let state = State {
        watching: true,
        device_up: true,
        forwards: true,
        pod_known: true,
        pod_link_up: true,
        ..State::default()
    };
    let mut account = Account { state, vni: 4097, ..Account::default() };
    points.iter().for_each(|point| account.count(*point));
    account
}

/// A trace to a pod through the tunnel, of one packet.
fn evidence(near: &[Hop], far: Option<Account>) -> Evidence {
    Evidence {
        target: "10.32.2.7".parse().unwrap(),
        node: "172.20.0.2".parse().unwrap(),
        pod: true,
        way: Way::Tunnel,
        vni: 4097,
        port: 4789,
        sent: 1,
        refused: None,
        near: near.iter().map(|hop| (*hop, 1)).collect(),
        astray: None,
        underlay: far.is_some(),
        tunnel: far.is_some(),
        far,
        ping: true,
        tables: Vec::new(),
        known: true,
    }
}

const OUT: [Hop; 2] = [Hop::OwnDevice, Hop::OwnNic];
const BACK: [Hop; 3] = [Hop::OwnNicBack, Hop::OwnDeviceBack, Hop::Answered];

fn check(evidence: &Evidence, lost_at: Option<Hop>, words: &[&str]) -> Trace {
    let trace = conclude(evidence);
    assert_eq!(trace.lost_at, lost_at, "{trace:?}");
    let all = format!("{} {}", trace.finding, trace.remedy.clone().unwrap_or_default());
    assert!(words.iter().all(|word| all.contains(word)), "{words:?} in {all}");
    trace
}

#[test]
fn every_hop_finds_its_own_stage() {
    assert!(STAGES.iter().all(|stage| stage.hop.stage().hop == stage.hop));
    assert!(STAGES.is_sorted_by_key(|stage| stage.hop));
}

#[test]
fn a_packet_that_comes_back_was_everywhere() {
    let all = [OUT.as_slice(), &BACK].concat();
    let trace = check(&evidence(&all, Some(account(&Point::ALL))), None, &["10.32.2.7 answers"]);
    assert_eq!(trace.outcome, Outcome::Reached);
    assert_eq!(trace.steps.len(), 12);
    assert!(trace.steps.iter().all(|(_, seen)| *seen == Seen::Yes(1)), "{trace:?}");
    // Also where the other node says nothing.
    let trace = check(&evidence(&all, None), None, &["answers"]);
    assert_eq!(trace.outcome, Outcome::Reached);
    assert!(trace.steps.contains(&(Hop::PeerNic, Seen::Passed)));
}

#[test]
fn every_hop_that_loses_the_packet_is_named() {
    let all = [OUT.as_slice(), &BACK].concat();
    check(&evidence(&[], Some(account(&[]))), Some(Hop::OwnDevice), &["do not enter minionet"]);
    check(&evidence(&OUT[..1], Some(account(&[]))), Some(Hop::OwnNic), &["outgoing UDP to port 4789"]);
    let at_the_peer =
        [Hop::PeerNic, Hop::PeerDevice, Hop::Pod, Hop::PodReply, Hop::PeerDeviceBack, Hop::PeerNicBack];
    for (passed, hop) in at_the_peer.into_iter().enumerate() {
        let trace = conclude(&evidence(&OUT, Some(account(&Point::ALL[..passed]))));
        assert_eq!((trace.lost_at, trace.outcome), (Some(hop), Outcome::Lost));
    }
    for (passed, hop) in BACK.into_iter().enumerate() {
        let trace = conclude(&evidence(&all[..2 + passed], Some(account(&Point::ALL))));
        assert_eq!((trace.lost_at, trace.outcome), (Some(hop), Outcome::Lost));
    }
}

#[test]
fn the_underlay_is_blamed_by_what_else_passes() {
    let mut lost = evidence(&OUT, Some(account(&[])));
    check(&lost, Some(Hop::PeerNic), &["other UDP passes", "drops UDP port 4789"]);
    lost.underlay = false;
    assert!(!conclude(&lost).finding.contains("other UDP"));
    lost.way = Way::Direct;
    check(&lost, Some(Hop::PeerNic), &["source/destination check"]);
}

#[test]
fn the_state_of_the_other_node_says_why() {
    let mut arrived = evidence(&OUT, Some(account(&Point::ALL[..1])));
    check(
        &arrived,
        Some(Hop::PeerDevice),
        &["does not know this node as a member", "hooks prerouting and input"],
    );
    arrived.far.as_mut().unwrap().vni = 5;
    check(&arrived, Some(Hop::PeerDevice), &["has VNI 5", "4097"]);
    arrived.far.as_mut().unwrap().state.device_up = false;
    check(&arrived, Some(Hop::PeerDevice), &["minionet is down or missing"]);
    let mut out = evidence(&OUT, Some(account(&Point::ALL[..2])));
    check(&out, Some(Hop::Pod), &["a rule drops what is forwarded"]);
    out.far.as_mut().unwrap().state.forwards = false;
    check(&out, Some(Hop::Pod), &["does not forward"]);
    out.far.as_mut().unwrap().state.pod_link_up = false;
    check(&out, Some(Hop::Pod), &["link of the pod", "down"]);
    out.far.as_mut().unwrap().state.pod_known = false;
    check(&out, Some(Hop::Pod), &["no pod on 172.20.0.2 has the address"]);
}

#[test]
fn wrong_tables_of_this_node_are_named() {
    let mut lost = evidence(&OUT[..1], None);
    lost.tables = vec!["set the forwarding entry 0e:6d:00:00:00:02 to 172.20.0.2".into()];
    check(&lost, Some(Hop::OwnNic), &["tables are not right", "forwarding entry", "minionetd repairs"]);
    let mut astray = evidence(&OUT, None);
    astray.astray = Some("172.20.0.9".parse().unwrap());
    check(&astray, None, &["for 172.20.0.9 instead of 172.20.0.2", "forwarding entry is wrong"]);
    let mut refused = evidence(&[], None);
    (refused.sent, refused.refused, refused.known) = (0, Some("Network is unreachable".into()), false);
    check(&refused, Some(Hop::Sent), &["Network is unreachable", "172.20.0.2, which is no peer"]);
    refused.known = true;
    check(&refused, Some(Hop::Sent), &["does not send to 10.32.2.7: Network is unreachable"]);
}

#[test]
fn a_silent_peer_leaves_some_conclusions() {
    let mut silent = evidence(&OUT, None);
    let trace = check(&silent, None, &["left this node", "daemon is down", "answers a ping"]);
    assert_eq!((trace.last, trace.outcome), (Some(Hop::OwnNic), Outcome::Lost));
    silent.ping = false;
    check(&silent, None, &["does not answer on any channel"]);
    silent.far = Some(Account { state: State { blind: true, ..State::default() }, ..Account::default() });
    check(&silent, None, &["CAP_NET_RAW"]);
    silent.far = Some(Account { state: State { busy: true, ..State::default() }, ..Account::default() });
    check(&silent, None, &["too many traces"]);
}

#[test]
fn other_ways_have_fewer_hops() {
    let hops = |way, pod| {
        let evidence = Evidence { way, pod, ..evidence(&[], None) };
        conclude(&evidence).steps.into_iter().map(|(hop, _)| hop).collect::<Vec<_>>()
    };
    assert_eq!(hops(Way::Here, false), [Hop::Sent, Hop::Answered]);
    assert_eq!(hops(Way::Local, true), [Hop::Sent, Hop::Pod, Hop::PodReply, Hop::Answered]);
    assert_eq!(hops(Way::Tunnel, false).len(), 10);
    assert_eq!(hops(Way::Direct, true).len(), 8);
    let mut node = evidence(&OUT, Some(account(&Point::ALL[..2])));
    node.pod = false;
    check(&node, Some(Hop::PeerDeviceBack), &["does not answer", "drops ICMP"]);
    let local = Evidence { way: Way::Local, ..evidence(&[Hop::Pod], None) };
    check(&local, Some(Hop::PodReply), &["gets the packets and does not answer"]);
}

#[test]
fn some_that_come_back_are_a_loss_and_no_fault() {
    let mut lossy = evidence(&[OUT.as_slice(), &BACK].concat(), Some(account(&Point::ALL)));
    lossy.sent = 3;
    let trace = check(&lossy, None, &["only 1 of 3"]);
    assert_eq!(trace.outcome, Outcome::Lossy);
    // A count that is greater than what was sent (a bond and its legs) is no more than all.
    lossy.near.insert(Hop::OwnNic, 9);
    assert!(conclude(&lossy).steps.contains(&(Hop::OwnNic, Seen::Yes(3))));
}

#[test]
fn the_documentation_says_what_every_hop_means() {
    let text = include_str!("../../../../docs/troubleshooting.md");
    let section = text.split("| first `no` |").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
    let named: Vec<&str> =
        section.lines().skip(2).filter_map(|line| line.split(" | ").next()?.strip_prefix("| ")).collect();
    let labels: Vec<&str> = hops(&evidence(&[], None)).into_iter().map(Hop::label).collect();
    assert_eq!(named, labels);
}
