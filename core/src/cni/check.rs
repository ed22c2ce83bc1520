//! CHECK: what an attachment should look like, compared with what the kernel holds.
//!
//! Everything that ADD made must be there. What plugins behind us in a chain may change is
//! allowed to differ: the MAC and a lower MTU in the container (tuning), the table that the
//! default route lies in (sbr, vrf), more addresses, routes, neighbours and interfaces.

use std::net::IpAddr;

use super::attachment::{Record, SourceRule};
use super::result::{CniResult, Interface};
use crate::addr::{Family, MacAddr};

/// One end of a veth pair, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The kernel's number for it.
    pub index: u32,
    /// The number of the other end, in its namespace.
    pub peer: Option<u32>,
    /// What kind of device it is.
    pub kind: Option<String>,
    /// Whether it is set up.
    pub up: bool,
    /// Its MAC.
    pub mac: Option<MacAddr>,
    /// Its MTU in octets.
    pub mtu: u32,
    /// Its alias.
    pub alias: Option<String>,
    /// Name or number of the bridge, bond or VRF that it belongs to.
    pub master: Option<u32>,
    /// Whether it is about to be destroyed.
    pub doomed: bool,
}

/// A neighbour whose MAC is known.
pub type Neighbour = (IpAddr, MacAddr);

/// What the kernel holds for one attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The host's end.
    pub host: Option<End>,
    /// Addresses to which the host has a route through that end.
    pub host_routes: Vec<IpAddr>,
    /// Neighbours on that end.
    pub host_neighbours: Vec<Neighbour>,
    /// Whether the loopback device of the container is up.
    pub loopback_up: bool,
    /// The container's end.
    pub pod: Option<End>,
    /// Addresses on it, with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Addresses to which the container has a route of their own through it.
    pub on_link: Vec<IpAddr>,
    /// Next hops of default routes through it.
    pub defaults: Vec<IpAddr>,
    /// Neighbours on it.
    pub pod_neighbours: Vec<Neighbour>,
    /// The rules by source address of the record that are there, with the route they lead to.
    pub source_rules: Vec<SourceRule>,
}

/// What differs, in words; nothing when all is as it should be. The result is the one that the
/// runtime remembers.
pub fn differences(record: &Record, result: &CniResult, observed: &Observed) -> Vec<String> {
    let mut found = in_result(record, result);
    let both = observed.host.as_ref().zip(observed.pod.as_ref());
    match &observed.host {
        None => found.push(format!("the interface {} of the host is gone", record.link.host_ifname)),
        Some(end) => on_host(record, result, end, observed, &mut found),
    }
    match &observed.pod {
        None => found.push(format!("the interface {} of the container is gone", record.link.ifname)),
        Some(end) => in_pod(record, result, end, observed, &mut found),
    }
    if let Some((host, pod)) = both {
        if host.peer != Some(pod.index) || pod.peer != Some(host.index) {
            let link = &record.link;
            found.push(format!("{} and {} are not the two ends of one pair", link.host_ifname, link.ifname));
        } else if pod.mtu > host.mtu {
            found.push(format!(
                "the MTU in the container, {}, is larger than the host's, {}: larger packets are lost",
                pod.mtu, host.mtu
            ));
        }
        for assigned in &record.link.addresses {
            let (address, mac) = (assigned.address, pod.mac.unwrap_or(record.link.mac));
            if !observed.host_neighbours.contains(&(address, mac)) {
                found.push(format!("the host does not know the neighbour {address} with the MAC {mac}"));
            }
            let (gateway, mac) = (assigned.gateway, host.mac.unwrap_or(record.link.host_mac));
            // The kernel forgets all neighbours when a MAC is set, be it the same, and asks again.
            let wrong = |(known, other): &&Neighbour| *known == gateway && *other != mac;
            if let Some((_, other)) = observed.pod_neighbours.iter().find(wrong) {
                found.push(format!("the container takes {other} for the MAC of {gateway}, which is {mac}"));
            }
        }
    }
    found
}

/// What the runtime remembers must be what was made.
fn in_result(record: &Record, result: &CniResult) -> Vec<String> {
    let mut found = Vec::new();
    for assigned in &record.link.addresses {
        if !result.ips.iter().any(|ip| ip.address == assigned.address) {
            found.push(format!("prevResult does not name the address {}", assigned.address));
        }
    }
    let name = &record.link.ifname;
    let named: Vec<_> = result.interfaces.iter().filter(|i| i.name == *name && i.sandbox.is_some()).collect();
    if named.is_empty() {
        found.push(format!("prevResult does not name the interface {name} of the container"));
    }
    for sandbox in named.iter().filter_map(|i| i.sandbox.as_ref()).filter(|s| **s != record.netns.path) {
        found.push(format!(
            "prevResult says that {name} is in {sandbox}, but it was attached in {}",
            record.netns.path
        ));
    }
    found
}

/// The MAC that an interface must have: what the last plugin that changed it told, else ours.
fn told_mac(told: Option<&Interface>, made: MacAddr) -> MacAddr {
    told.and_then(|i| i.mac.as_ref()?.to_lowercase().parse().ok()).unwrap_or(made)
}

fn on_host(record: &Record, result: &CniResult, end: &End, observed: &Observed, found: &mut Vec<String>) {
    let name = &record.link.host_ifname;
    let told = result.interfaces.iter().find(|i| i.name == *name && i.sandbox.is_none());
    let mut differs = |problem: String| found.push(format!("the interface {name} of the host {problem}"));
    if end.kind.as_deref() != Some("veth") || end.alias.as_ref() != Some(&record.link.alias) {
        differs("is not the one that was made for this attachment".into());
    }
    if end.doomed {
        differs("is about to be destroyed: a DEL was interrupted".into());
    }
    if !end.up {
        differs("is down".into());
    }
    if end.master.is_some() {
        differs("was put into a bridge or the like".into());
    }
    if end.mac != Some(record.link.host_mac) {
        differs(format!("has lost its MAC {}", record.link.host_mac));
    }
    let told = told_mac(told, record.link.host_mac);
    if told != record.link.host_mac {
        differs(format!("never had the MAC {told}, which prevResult names"));
    }
    for assigned in &record.link.addresses {
        if !observed.host_routes.contains(&assigned.address) {
            found.push(format!("the host has no route to {} through {name}", assigned.address));
        }
    }
}

fn in_pod(record: &Record, result: &CniResult, end: &End, observed: &Observed, found: &mut Vec<String>) {
    let link = &record.link;
    let name = &link.ifname;
    if end.kind.as_deref() != Some("veth") {
        found.push(format!("the interface {name} of the container is not the one that was made for it"));
    }
    if !end.up {
        found.push(format!("the interface {name} of the container is down"));
    }
    if !observed.loopback_up {
        found.push("the interface lo of the container is down".into());
    }
    // What tuning sets, it tells in the result.
    let told = result.interfaces.iter().find(|i| i.name == *name && i.sandbox.is_some());
    let wanted = told_mac(told, link.mac);
    if end.mac != Some(wanted) {
        let mac = end.mac.map_or("none".to_owned(), |mac| mac.to_string());
        found.push(format!("the MAC of {name} in the container is {mac}, not {wanted}"));
    }
    // RFC 8200 section 5 and RFC 791.
    let ipv6 = link.addresses.iter().any(|a| a.address.is_ipv6());
    let least = if ipv6 { 1280 } else { 68 };
    if end.mtu < least {
        found.push(format!("the MTU of {name} in the container is {}, less than {least}", end.mtu));
    }
    for assigned in &link.addresses {
        let (address, gateway) = (assigned.address, assigned.gateway);
        if !observed.addresses.contains(&(address, assigned.prefix_len())) {
            found.push(format!("the address {address} is not on {name} in the container"));
        }
        if !observed.on_link.contains(&gateway) {
            found.push(format!("the route to the gateway {gateway} is missing in the container"));
        }
        let family = Family::of(gateway);
        let promised = result.routes.iter().any(|route| route.gw == Some(gateway) && is_default(&route.dst));
        if promised && !observed.defaults.contains(&gateway) {
            found.push(format!("the default route ({family}) via {gateway} is missing in the container"));
        }
    }
    for rule in link.source_rules.iter().filter(|rule| !observed.source_rules.contains(rule)) {
        found.push(format!(
            "the rule for packets from {}, or the default route of its table {}, is missing in the container: answers leave through another interface",
            rule.source, rule.table
        ));
    }
}

fn is_default(dst: &str) -> bool {
    matches!(dst, "0.0.0.0/0" | "::/0")
}

#[cfg(test)]
mod tests;
