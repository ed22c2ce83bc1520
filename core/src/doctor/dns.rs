//! Every resolver: whether it answers, what, and whether all say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::facts::{Facts, Reply, ResolverFacts};
use super::{Findings, some};
use crate::membership::FailureKind;
use crate::words::count;

/// The longest TTL that is no hindrance, in seconds: for so long a cache may hide a new node.
const TTL_MAX: u32 = 300;

/// All checks of this topic that need answers.
const NEED_ANSWERS: [&str; 8] = [
    "dns-udp",
    "dns-tcp",
    "dns-truncation",
    "dns-ttl",
    "dns-agreement",
    "dns-sampling",
    "dns-self",
    "members",
];

/// Judges DNS.
pub fn examine(facts: &Facts, findings: &mut Findings) {
    let resolvers = match &facts.resolvers {
        Ok(resolvers) => resolvers,
        Err(why) => {
            if facts.config.is_ok() {
                findings.error("resolvers", why, "name a server in /etc/resolv.conf, or set resolvers");
            } else {
                findings.skipped("resolvers", "the settings cannot be used");
            }
            NEED_ANSWERS.iter().for_each(|check| findings.skipped(check, "no resolver was asked"));
            return;
        }
    };
    let servers: BTreeSet<String> = resolvers.iter().map(|r| r.server.to_string()).collect();
    findings.ok("resolvers", servers.into_iter().collect::<Vec<_>>().join(", "));
    for resolver in resolvers {
        transport(resolver, findings);
        contents(resolver, findings);
    }
    let answers: Vec<&ResolverFacts> = resolvers.iter().filter(|r| answer(r).is_some()).collect();
    findings.otherwise_ok("dns-udp", format!("{} answered", names(resolvers)));
    findings.otherwise_ok("dns-tcp", format!("{} answered", names(resolvers)));
    if answers.is_empty() {
        for check in NEED_ANSWERS.iter().skip(2) {
            findings.skipped(check, "no resolver gave an answer");
        }
        return;
    }
    agreement(&answers, findings);
    own(facts, &answers, findings);
    members(facts, &answers, findings);
    findings.otherwise_ok("dns-truncation", "answers fit, or are had over TCP");
    let ttls: BTreeSet<u32> = answers.iter().filter_map(|r| answer(r)).map(|(_, ttl)| *ttl).collect();
    findings
        .otherwise_ok("dns-ttl", format!("{} s", some(&ttls.iter().map(u32::to_string).collect::<Vec<_>>())));
    findings.otherwise_ok("dns-sampling", "answers do not vary");
}

/// What a resolver says, by whichever transport.
fn answer(resolver: &ResolverFacts) -> Option<&(BTreeSet<IpAddr>, u32)> {
    resolver.tcp.as_ref().ok().or_else(|| resolver.udp.iter().find_map(|reply| reply.as_ref().ok()))
}

/// Every address that a resolver listed in any answer.
fn listed(resolver: &ResolverFacts) -> BTreeSet<IpAddr> {
    let replies = resolver.udp.iter().chain([&resolver.tcp]);
    replies
        .filter_map(|reply| reply.as_ref().ok())
        .flat_map(|(addresses, _)| addresses.iter().copied())
        .collect()
}

fn transport(resolver: &ResolverFacts, findings: &mut Findings) {
    let ResolverFacts { name, server, .. } = resolver;
    let over_udp = resolver.udp.iter().find(|reply| reply.is_ok()).or(resolver.udp.first());
    if let Some(Err((kind, text))) = over_udp {
        findings.error(
            "dns-udp",
            format!("{server} for {name} over UDP: {kind}: {text}"),
            remedy(*kind, "UDP"),
        );
    }
    match &resolver.tcp {
        Ok(_) => {}
        // A server that refuses, or has no such name, says it by both; once is enough.
        Err((kind, _)) if matches!(over_udp, Some(Err((other, _))) if other == kind) => {}
        Err((kind, text)) => {
            let text = format!("{server} for {name} over TCP: {kind}: {text}");
            if resolver.truncated {
                findings.error(
                    "dns-truncation",
                    format!(
                        "{server} truncates its answers for {name}, and TCP does not work: nodes are missing"
                    ),
                    format!(
                        "open TCP port {} to {server}, or split the nodes over several roles",
                        server.port()
                    ),
                );
            }
            findings.warning(
                "dns-tcp",
                format!("{text}; answers with more than about 70 addresses need TCP"),
                remedy(*kind, "TCP"),
            );
        }
    }
    if resolver.truncated && resolver.tcp.is_ok() {
        findings.ok("dns-truncation", format!("{server} truncates over UDP, and answers over TCP"));
    }
}

/// What to do about a failure.
fn remedy(kind: FailureKind, transport: &str) -> String {
    match kind {
        FailureKind::NxDomain | FailureKind::Empty => {
            "add the addresses of all nodes as A (AAAA) records to this name, or correct cluster_name, roles and domain".into()
        }
        FailureKind::Refused => "let the server answer this node: its access list, or another server in resolvers".into(),
        FailureKind::Timeout | FailureKind::Unreachable => {
            format!("check that the server runs and that {transport} port 53 is open to it, or name another in resolvers")
        }
        FailureKind::Truncated => "make TCP port 53 work, to which truncated answers fall back".into(),
        FailureKind::Bogus => "check trust_anchor, the signatures of the zone, and the clock of this node".into(),
        _ => "look at the server's log; the name's zone has to be served completely".into(),
    }
}

fn contents(resolver: &ResolverFacts, findings: &mut Findings) {
    let ResolverFacts { name, server, .. } = resolver;
    if let Some((_, ttl)) = answer(resolver) {
        if *ttl > TTL_MAX {
            findings.warning(
                "dns-ttl",
                format!("{name} at {server} has a TTL of {ttl} s: for so long a cache hides nodes that come"),
                "give the records a TTL of 5 to 60 seconds",
            );
        } else if *ttl == 0 {
            findings.note(
                "dns-ttl",
                format!("{name} at {server} has a TTL of 0 s; it is asked every refresh_min"),
            );
        }
    }
    let sets: Vec<&BTreeSet<IpAddr>> =
        resolver.udp.iter().filter_map(|r: &Reply| r.as_ref().ok()).map(|(a, _)| a).collect();
    let union = listed(resolver);
    let sizes: BTreeSet<usize> = sets.iter().map(|set| set.len()).collect();
    // Several answers, of one size, that together have more than each: a change in between would
    // show once, and with another size.
    if sets.len() > 1 && sizes.len() == 1 && sets.iter().all(|set| set.len() < union.len()) {
        findings.warning(
            "dns-sampling",
            format!("{server} answers with samples of the records of {name}: {} of {} at a time", sets[0].len(), union.len()),
            "use a server that returns all records; until then peers are only removed when the probe finds them dead",
        );
    }
}

fn agreement(answers: &[&ResolverFacts], findings: &mut Findings) {
    let mut by_name: BTreeMap<&str, Vec<(&ResolverFacts, BTreeSet<IpAddr>)>> = BTreeMap::new();
    for resolver in answers {
        by_name.entry(&resolver.name).or_default().push((resolver, listed(resolver)));
    }
    for (name, resolvers) in by_name {
        let all: BTreeSet<IpAddr> = resolvers.iter().flat_map(|(_, set)| set.iter().copied()).collect();
        for (resolver, set) in &resolvers {
            let lacking: Vec<String> = all.difference(set).map(IpAddr::to_string).collect();
            if !lacking.is_empty() && !findings.is_bad("dns-sampling") {
                findings.warning(
                    "dns-agreement",
                    format!("{} does not list {} for {name}, others do", resolver.server, some(&lacking)),
                    "find out which resolver is behind: its zone transfer, its cache, its own copy of the zone",
                );
            }
        }
    }
    findings.otherwise_ok("dns-agreement", "all resolvers list the same");
}

fn own(facts: &Facts, answers: &[&ResolverFacts], findings: &mut Findings) {
    let all: BTreeSet<IpAddr> = answers.iter().flat_map(|r| listed(r)).collect();
    let Ok(place) = &facts.place else {
        findings.skipped("dns-self", "this node's own address is not known");
        return;
    };
    let own = place.identity.address;
    if all.contains(&own) {
        findings.ok("dns-self", format!("{own} is listed"));
    } else {
        findings.error(
            "dns-self",
            format!(
                "DNS lists {}, and not this one ({own}): the others do not know it",
                count(all.len(), "node")
            ),
            format!("add {own} to {}", names_of(answers)),
        );
    }
}

fn members(facts: &Facts, answers: &[&ResolverFacts], findings: &mut Findings) {
    let Ok(place) = &facts.place else {
        findings.skipped("members", "this node's own address is not known");
        return;
    };
    let all: BTreeSet<IpAddr> = answers.iter().flat_map(|r| listed(r)).collect();
    let family = place.identity.address.is_ipv4();
    // Addresses of the other family are another way to the same nodes.
    let outside = all.iter().filter(|a| a.is_ipv4() == family && place.plan.node(**a).is_err());
    let outside: Vec<String> = outside.map(IpAddr::to_string).collect();
    if !outside.is_empty() {
        findings.warning(
            "members",
            format!("DNS lists {}, outside of node_networks: no peer", some(&outside)),
            "append their network to the end of node_networks, on every node, or take them out of DNS",
        );
    }
    let saved = &facts.daemon.saved;
    let list =
        |addresses: Vec<&IpAddr>| some(&addresses.into_iter().map(IpAddr::to_string).collect::<Vec<_>>());
    let new: Vec<&IpAddr> = all
        .iter()
        .filter(|a| !saved.contains(*a) && !place.local.iter().any(|(own, ..)| own == *a))
        .collect();
    let new: Vec<&IpAddr> = new.into_iter().filter(|a| place.plan.node(**a).is_ok()).collect();
    if !saved.is_empty() && !new.is_empty() {
        findings
            .note("members", format!("DNS lists {}, which this node does not have as a peer yet", list(new)));
    }
    let missing: Vec<&IpAddr> = saved.iter().filter(|a| !all.contains(*a)).collect();
    if !missing.is_empty() {
        findings.note(
            "members",
            format!("DNS does not list {}: peers until their hold-down is over", list(missing)),
        );
    }
    findings.otherwise_ok("members", format!("all {} are in the plan", all.len()));
}

fn names(resolvers: &[ResolverFacts]) -> String {
    let servers: BTreeSet<String> = resolvers.iter().map(|r| r.server.to_string()).collect();
    some(&servers.into_iter().collect::<Vec<_>>())
}

fn names_of(resolvers: &[&ResolverFacts]) -> String {
    let names: BTreeSet<String> = resolvers.iter().map(|r| r.name.clone()).collect();
    names.into_iter().collect::<Vec<_>>().join(" or ")
}
