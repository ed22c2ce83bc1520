//! The policy of host ports: what arrives at a port of the node goes to a pod.
//!
//! The rules are static. Which port leads where is in the elements of maps, which the plugin adds
//! and deletes; [`host_port_elements`] says from the records of attachments what must be in them.
//!
//! Clients from elsewhere are seen by the pod with their own addresses. Sources are translated
//! only where no answer would come back otherwise: where a pod reaches itself through its node,
//! and where the node reaches the pod from 127.0.0.1, which no other host has a route to.
//!
//! Port numbers at ::1 are left to the node itself. The kernel takes answers to ::1 from the
//! loopback device only (`rt6_need_strict`, net/ipv6/route.c), and has no route_localnet for IPv6;
//! so a client of `localhost` is refused at once and goes on to 127.0.0.1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network};

use super::TABLE;
use super::expr::NatFlags;
use super::field::Field;
use super::rule::{DnatTo, Match, Rule, Statement, Verdict};
use super::ruleset::{BaseChain, Chain, ChainType, Hook, Policy, Ruleset};
use super::set::{Element, SetSpec, Span};
use super::value::{DataType, Value};
use crate::addr::Family;
use crate::cni::portmap::PortMapping;

/// The chain that translates destinations.
pub const HOSTPORTS: &str = "hostports";

/// `NF_IP_PRI_NAT_DST`, linux/netfilter_ipv4.h: nft's "dstnat".
const DSTNAT: i32 = -100;
/// Just before `NF_IP_PRI_NAT_SRC`, where pods are hidden behind their node. The kernel translates
/// a source once, for the first chain that asks for it.
const BEFORE_SRCNAT: i32 = 99;
/// `RTN_LOCAL`, linux/rtnetlink.h.
const LOCAL: u32 = 2;
/// 127.0.0.0/8, RFC 1122 section 3.2.1.3.
pub(super) const LOOPBACK4: IpNetwork = match Ipv4Network::new_checked(Ipv4Addr::new(127, 0, 0, 0), 8) {
    Some(network) => IpNetwork::V4(network),
    None => panic!("127.0.0.0/8 is a network"),
};

/// The maps and sets of one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPortMaps {
    /// From an address of the node, a protocol and a port to the pod's address and port.
    pub of_address: SetSpec,
    /// The same for every address of the node.
    pub of_any: SetSpec,
    /// Pods that have host ports, each as source and destination.
    pub hairpin: SetSpec,
}

/// What must be in one map or set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapContents {
    /// The map.
    pub spec: SetSpec,
    /// Its elements, sorted.
    pub elements: Vec<Element>,
}

impl HostPortMaps {
    /// The maps of a family.
    pub fn of(family: Family) -> Self {
        let (number, address) = match family {
            Family::V4 => (4, DataType::Ipv4),
            Family::V6 => (6, DataType::Ipv6),
        };
        let to = [address, DataType::Service];
        Self {
            of_address: SetSpec::map(
                format!("hostips{number}"),
                [address, DataType::Proto, DataType::Service],
                to,
            ),
            of_any: SetSpec::map(format!("hostports{number}"), [DataType::Proto, DataType::Service], to),
            hairpin: SetSpec::set(format!("hairpin{number}"), [address, address]),
        }
    }

    fn specs(self) -> [SetSpec; 3] {
        [self.of_address, self.of_any, self.hairpin]
    }
}

/// All maps and sets of the policy, of both families.
pub fn host_port_maps() -> [SetSpec; 6] {
    let [[a, b, c], [d, e, f]] = [Family::V4, Family::V6].map(|family| HostPortMaps::of(family).specs());
    [a, b, c, d, e, f]
}

/// The chains and the maps of the policy, as a ruleset of their own; `pod_links` is how the names
/// of the pods' interfaces on the host begin.
pub fn host_ports(pod_links: &str) -> Ruleset {
    let [v4, v6] = [Family::V4, Family::V6].map(HostPortMaps::of);
    let mut ruleset = Ruleset::new(TABLE);
    ruleset.sets = host_port_maps().into_iter().map(SetSpec::kept).collect();
    let to_hostports = || {
        let local = Field::FIB_DADDR_TYPE.is(Value::Integer(LOCAL.to_ne_bytes().into()));
        vec![Rule::of([local, Verdict::Jump(HOSTPORTS.into()).into()])]
    };
    ruleset.chains = vec![
        Chain { name: HOSTPORTS.into(), base: None, rules: translations(&v4, &v6) },
        base("hostports_in", ChainType::Nat, Hook::Prerouting, DSTNAT, to_hostports()),
        base("hostports_out", ChainType::Nat, Hook::Output, DSTNAT, to_hostports()),
        base(
            "hostports_back",
            ChainType::Nat,
            Hook::Postrouting,
            BEFORE_SRCNAT,
            vec![
                masquerade(Match::on([Field::IP_SADDR, Field::IP_DADDR]).one_of(v4.hairpin.name), "hairpin"),
                masquerade(
                    Match::on([Field::IP6_SADDR, Field::IP6_DADDR]).one_of(v6.hairpin.name),
                    "hairpin",
                ),
                from_loopback(pod_links),
            ],
        ),
    ];
    ruleset
}

/// The address of the node first, as it is the more particular key.
fn translations(v4: &HostPortMaps, v6: &HostPortMaps) -> Vec<Rule> {
    let port = [Field::L4PROTO, Field::TH_DPORT];
    let dnat = |key: Vec<Field>, map: &SetSpec, ipv6| {
        Statement::Dnat(DnatTo::Map { key, map: map.name.clone(), ipv6, port: true })
    };
    let family = |number: u8| Field::NFPROTO.is(Value::Integer(vec![number]));
    let at = |address: Field| [vec![address], port.to_vec()].concat();
    // NFPROTO_IPV4 and NFPROTO_IPV6, linux/netfilter.h.
    vec![
        Rule::of([Field::IP6_DADDR.is(Ipv6Addr::LOCALHOST), Verdict::Return.into()]).comment("no way back"),
        Rule::of([dnat(at(Field::IP_DADDR), &v4.of_address, false)]),
        Rule::of([dnat(at(Field::IP6_DADDR), &v6.of_address, true)]),
        Rule::of([family(2), dnat(port.to_vec(), &v4.of_any, false)]),
        Rule::of([family(10), dnat(port.to_vec(), &v6.of_any, true)]),
    ]
}

fn masquerade(condition: Statement, comment: &str) -> Rule {
    Rule::of([condition, Statement::Masquerade(NatFlags::FULLY_RANDOM)]).comment(comment)
}

fn from_loopback(pod_links: &str) -> Rule {
    let to_pod = Field::OIFNAME.starts_with(pod_links);
    Rule::of([to_pod, Field::IP_SADDR.within(LOOPBACK4), Statement::Masquerade(NatFlags::FULLY_RANDOM)])
        .comment("from loopback")
}

fn base(name: &str, kind: ChainType, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    let base = BaseChain { kind, hook, priority, policy: Policy::Accept };
    Chain { name: name.to_owned(), base: Some(base), rules }
}

/// What the maps must hold for these pods: the host ports and the addresses of each. All maps are
/// named, also those that must be empty.
pub fn host_port_elements<'a>(
    pods: impl IntoIterator<Item = (&'a [PortMapping], Vec<IpAddr>)>,
) -> Vec<MapContents> {
    let mut contents = host_port_maps().map(|spec| MapContents { spec, elements: Vec::new() });
    for (mappings, addresses) in pods {
        for address in addresses {
            let first = if address.is_ipv4() { 0 } else { 3 };
            let mut mapped = false;
            for mapping in mappings.iter().filter(|mapping| mapping.takes(address)) {
                mapped = true;
                let (map, element) = element(mapping, address);
                contents[first + map].elements.push(element);
            }
            if mapped {
                let key: [Span; 2] = [Value::from(address).into(), Value::from(address).into()];
                contents[first + 2].elements.push(Element::key(key));
            }
        }
    }
    for map in &mut contents {
        map.elements.sort();
        map.elements.dedup();
    }
    contents.into()
}

/// How maps differ from what they must hold: what is there and must not be, with its data, and
/// what is missing. An element with the right key and the wrong data is in both.
pub fn map_changes(wanted: &[MapContents], found: &[MapContents]) -> (Vec<MapContents>, Vec<MapContents>) {
    let without = |all: &[MapContents], others: &[MapContents]| {
        let other = |map: &MapContents| others.iter().find(|it| it.spec == map.spec);
        let rest = |map: &MapContents| {
            let known = other(map).map_or(&[][..], |other| &other.elements);
            map.elements.iter().filter(|element| !known.contains(element)).cloned().collect()
        };
        all.iter()
            .map(|map| MapContents { spec: map.spec.clone(), elements: rest(map) })
            .filter(|map| !map.elements.is_empty())
            .collect()
    };
    (without(found, wanted), without(wanted, found))
}

/// The element for a mapping, and whether it belongs into the first map of its family, for one
/// address of the node, or into the second.
fn element(mapping: &PortMapping, pod: IpAddr) -> (usize, Element) {
    let to = [pod.into(), Value::Service(mapping.container_port)];
    let port = [Value::Proto(mapping.protocol.number()), Value::Service(mapping.host_port)].map(Span::from);
    match mapping.single_host_ip() {
        Some(ip) => {
            let key: Vec<Span> = [Span::from(Value::from(ip))].into_iter().chain(port).collect();
            (0, Element::map(key, to))
        }
        None => (1, Element::map(port, to)),
    }
}

#[cfg(test)]
mod tests;
