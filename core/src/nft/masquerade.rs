//! The policy that hides pods behind their node, but only from those outside the pod network.

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::TABLE;
use super::expr::NatFlags;
use super::field::Field;
use super::rule::{Rule, Statement, Verdict};
use super::ruleset::{BaseChain, Chain, ChainType, Hook, Policy, Ruleset};
use super::set::{Element, SetSpec};
use super::value::DataType;

/// The set of the cluster's IPv4 pod networks.
pub const PODS4: &str = "pods4";
/// The set of the cluster's IPv6 pod networks.
pub const PODS6: &str = "pods6";
/// The set of IPv4 destinations that see the address of the pod itself.
pub const EXEMPT4: &str = "exempt4";
/// The set of IPv6 destinations that see the address of the pod itself.
pub const EXEMPT6: &str = "exempt6";
/// The chain.
pub const POSTROUTING: &str = "postrouting";
/// The mark by which kube-proxy tells its own chain to masquerade a packet: bit 14, the default of
/// its option `--iptables-masquerade-bit`.
pub const KUBE_PROXY_MARK: u32 = 1 << 14;

/// IPv4 multicast, RFC 1112 section 4.
const MULTICAST4: IpNetwork = match Ipv4Network::new_checked(Ipv4Addr::new(224, 0, 0, 0), 4) {
    Some(network) => IpNetwork::V4(network),
    None => panic!("224.0.0.0/4 is a network"),
};
/// IPv6 multicast, RFC 4291 section 2.7.
const MULTICAST6: IpNetwork = match Ipv6Network::new_checked(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8) {
    Some(network) => IpNetwork::V6(network),
    None => panic!("ff00::/8 is a network"),
};

/// `NF_IP_PRI_NAT_SRC`, linux/netfilter_ipv4.h: nft's "srcnat".
const SRCNAT: i32 = 100;

/// What the policy depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masquerade {
    /// The pod networks of the whole cluster, of both families.
    pub pods: Vec<IpNetwork>,
    /// Destinations outside the pod networks that shall see the pods' own addresses.
    pub exempt: Vec<IpNetwork>,
    /// The mark of packets that another program is going to masquerade; 0 for none.
    pub foreign_mark: u32,
}

/// The chain and the sets of the policy, as a ruleset of their own.
///
/// The rules name no pod and no peer, so they are written once. The outer packets of the overlay
/// have a node's address as their source, which is in no pod network, so the second rule lets them
/// go as they are; no rule looks at their port, as a pod may send to that port too.
/// A pod that talks to its own node needs no rule: what is delivered locally never comes here.
pub fn masquerade(policy: &Masquerade) -> Ruleset {
    let of = |networks: &[IpNetwork], v6| {
        Element::networks(networks.iter().filter(|network| network.is_ipv6() == v6))
    };
    let mut ruleset = Ruleset::new(TABLE);
    ruleset.sets = vec![
        // Constant: what decides about NAT changes only together with the whole table.
        SetSpec::set(PODS4, [DataType::Ipv4]).interval().constant().with(of(&policy.pods, false)),
        SetSpec::set(PODS6, [DataType::Ipv6]).interval().constant().with(of(&policy.pods, true)),
        SetSpec::set(EXEMPT4, [DataType::Ipv4]).interval().with(of(&policy.exempt, false)),
        SetSpec::set(EXEMPT6, [DataType::Ipv6]).interval().with(of(&policy.exempt, true)),
    ];
    ruleset.chains = vec![Chain {
        name: POSTROUTING.to_owned(),
        base: Some(BaseChain {
            kind: ChainType::Nat,
            hook: Hook::Postrouting,
            priority: SRCNAT,
            policy: Policy::Accept,
        }),
        rules: rules(policy.foreign_mark),
    }];
    ruleset
}

fn rules(foreign_mark: u32) -> Vec<Rule> {
    let mut rules = Vec::new();
    if foreign_mark != 0 {
        // kube-proxy marks what it masquerades itself: hairpins, and what comes from outside to a
        // service. The kernel translates a source once per connection, for the first chain at this
        // hook that asks for it, and skips the others; were that ours, kube-proxy's chain would
        // not take the mark off again, and the mark would follow the packet wherever it goes.
        rules.push(pass([Field::MARK.masked(foreign_mark, foreign_mark)], "kube-proxy does it"));
    }
    let not_a_pod = "not from a pod";
    // One rule for each family, as an address set has one: a packet of the other family does not
    // match and goes on to the next rule.
    rules.push(pass([Field::IP_SADDR.none_of(PODS4)], not_a_pod));
    rules.push(pass([Field::IP6_SADDR.none_of(PODS6)], not_a_pod));
    rules.push(pass([Field::IP_DADDR.one_of(PODS4)], "pod to pod"));
    rules.push(pass([Field::IP6_DADDR.one_of(PODS6)], "pod to pod"));
    rules.push(pass([Field::IP_DADDR.one_of(EXEMPT4)], "exempt"));
    rules.push(pass([Field::IP6_DADDR.one_of(EXEMPT6)], "exempt"));
    // Answers to multicast come from other addresses, so no connection would take them back.
    rules.push(pass([Field::IP_DADDR.within(MULTICAST4)], "multicast"));
    rules.push(pass([Field::IP6_DADDR.within(MULTICAST6)], "multicast"));
    // Random ports: two connections that get the same one at the same moment lose a packet, and
    // the deterministic choice makes that likely (kubernetes issue 56903).
    rules.push(Rule::of([Statement::Counter, Statement::Masquerade(NatFlags::FULLY_RANDOM)]));
    rules
}

/// A rule that leaves the packet as it is.
pub(super) fn pass(conditions: impl Into<Vec<Statement>>, comment: &str) -> Rule {
    let mut statements = conditions.into();
    statements.push(Verdict::Return.into());
    Rule::of(statements).comment(comment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(pods: &[&str], exempt: &[&str], foreign_mark: u32) -> Ruleset {
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        masquerade(&Masquerade { pods: networks(pods), exempt: networks(exempt), foreign_mark })
    }

    #[test]
    fn it_reads_like_nft() {
        let ruleset = policy(
            &["10.32.0.0/12", "fd00:32::/48"],
            &["192.168.7.9/24", "192.168.0.0/16", "172.20.0.0/24", "172.20.1.0/24"],
            KUBE_PROXY_MARK,
        );
        assert_eq!(ruleset.check(), Ok(()));
        assert_eq!(
            ruleset.to_string(),
            "table inet minionet {
\tset pods4 {
\t\ttype ipv4_addr; flags constant,interval;
\t\telements = { 10.32.0.0/12 }
\t}
\tset pods6 {
\t\ttype ipv6_addr; flags constant,interval;
\t\telements = { fd00:32::/48 }
\t}
\tset exempt4 {
\t\ttype ipv4_addr; flags interval;
\t\telements = { 172.20.0.0/23, 192.168.0.0/16 }
\t}
\tset exempt6 {
\t\ttype ipv6_addr; flags interval;
\t}
\tchain postrouting {
\t\ttype nat hook postrouting priority 100; policy accept;
\t\tmeta mark & 0x00004000 == 0x00004000 return comment \"kube-proxy does it\"
\t\tip saddr != @pods4 return comment \"not from a pod\"
\t\tip6 saddr != @pods6 return comment \"not from a pod\"
\t\tip daddr @pods4 return comment \"pod to pod\"
\t\tip6 daddr @pods6 return comment \"pod to pod\"
\t\tip daddr @exempt4 return comment \"exempt\"
\t\tip6 daddr @exempt6 return comment \"exempt\"
\t\tip daddr 224.0.0.0/4 return comment \"multicast\"
\t\tip6 daddr ff00::/8 return comment \"multicast\"
\t\tcounter masquerade fully-random
\t}
}
"
        );
    }

    #[test]
    fn without_a_foreign_mark_no_mark_is_looked_at() {
        let text = policy(&["10.32.0.0/12"], &[], 0).to_string();
        assert!(!text.contains("mark"), "{text}");
    }

    #[test]
    fn a_family_without_pods_is_never_masqueraded() {
        let ruleset = policy(&["10.32.0.0/12"], &["2001:db8::/32"], 0);
        // The set is there and empty, so that the rule lets every packet of that family go.
        assert_eq!(ruleset.set(PODS6).unwrap().contents, super::super::Contents::Fixed(vec![]));
        assert!(ruleset.to_string().contains("ip6 saddr != @pods6 return"));
    }

    #[test]
    fn the_order_of_the_configuration_does_not_matter() {
        let one = policy(&["10.32.0.0/12", "10.64.0.0/12"], &["192.0.2.0/24", "198.51.100.0/24"], 1);
        let other = policy(&["10.64.0.0/12", "10.32.0.0/12"], &["198.51.100.0/24", "192.0.2.0/24"], 1);
        assert_eq!(one, other);
    }
}
