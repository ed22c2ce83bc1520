//! The policy of who may speak: members on the underlay, and pods only in their own name.

use std::net::IpAddr;

use super::TABLE;
use super::expr::PayloadBase;
use super::field::{Field, Header, UDP};
use super::hostports::LOOPBACK4;
use super::rule::{Rule, Statement, Verdict};
use super::ruleset::{BaseChain, Chain, ChainType, Hook, Policy, Ruleset};
use super::set::{Element, SetSpec};
use super::value::{DataType, Value};

/// The set of the members' IPv4 addresses on the underlay.
pub const MEMBERS4: &str = "members4";
/// The set of the members' IPv6 addresses on the underlay.
pub const MEMBERS6: &str = "members6";
/// The chain that guards the overlay against strangers.
pub const UNDERLAY: &str = "underlay";
/// The chain that picks out what pods send.
pub const SOURCES: &str = "sources";
/// The chain that guards against what pods may not send: above all other sources than their own.
pub const FROM_PODS: &str = "from_pods";

/// Just before the chains that accept what comes to this host (`NF_IP_PRI_FILTER` is 0,
/// linux/netfilter_ipv4.h). The order decides nothing: what is dropped anywhere is dropped.
const BEFORE_FILTER: i32 = -10;
/// `NF_IP_PRI_RAW`, linux/netfilter_ipv4.h: before connections are tracked, so that a forged packet
/// costs no entry.
const RAW: i32 = -300;
/// The VXLAN network identifier: 3 octets, 4 into the VXLAN header, which follows the 8 octets of
/// UDP (RFC 7348 section 5).
const VNI: Header = Header::Raw { base: PayloadBase::Transport, offset: 8 + 4, len: 3 };
/// The same with the octet behind it. The kernel reads 1, 2 or 4 octets where it stands, and calls a
/// function for 3 (`nft_payload_select_ops`, net/netfilter/nft_payload.c).
const VNI_WORD: Header = Header::Raw { base: PayloadBase::Transport, offset: 8 + 4, len: 4 };

/// What the policy depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// UDP port of the overlay.
    pub port: u16,
    /// VXLAN network identifier of the overlay.
    pub vni: u32,
    /// How the names of the pods' interfaces on the host begin.
    pub pod_links: String,
    /// The addresses of the members, from which alone the overlay's packets are taken.
    pub members: Vec<IpAddr>,
}

/// The definitions of the two sets of members, for adding and deleting one.
pub fn member_sets() -> [SetSpec; 2] {
    [SetSpec::set(MEMBERS4, [DataType::Ipv4]), SetSpec::set(MEMBERS6, [DataType::Ipv6])]
}

/// The chains and the sets of the policy, as a ruleset of their own.
pub fn guard(policy: &Guard) -> Ruleset {
    let of = |v6: bool| {
        let mut members: Vec<&IpAddr> = policy.members.iter().filter(|ip| ip.is_ipv6() == v6).collect();
        members.sort();
        members.dedup();
        members.into_iter().map(|ip| Element::key([(*ip).into()])).collect()
    };
    let [members4, members6] = member_sets();
    let mut ruleset = Ruleset::new(TABLE);
    ruleset.sets = vec![members4.with(of(false)), members6.with(of(true))];
    ruleset.chains = vec![
        // At the input, where fragments have been put together again and the header can be read.
        chain(
            UNDERLAY,
            Hook::Input,
            BEFORE_FILTER,
            vec![
                // Nearly all packets of the overlay end here.
                member(policy, Field::IP_SADDR.one_of(MEMBERS4)),
                member(policy, Field::IP6_SADDR.one_of(MEMBERS6)),
                // Of this overlay, and not from a member.
                vxlan(policy, [Field::Header(VNI).is(vni(policy)), Statement::Counter, Verdict::Drop.into()])
                    .comment("not a member"),
                // Another overlay on the same port is none of our business. The kernel drops what
                // is of no VXLAN device that it has, and only the device's own socket counts that.
                vxlan(policy, [Field::Header(VNI).not(vni(policy)), Statement::Counter])
                    .comment("of another network"),
            ],
        ),
        // One chain at this hook, and one look at the interface: nearly all that passes a node comes
        // here, the overlay's outer packets included.
        chain(
            SOURCES,
            Hook::Prerouting,
            RAW,
            vec![Rule::of([
                Field::IIFNAME.starts_with(policy.pod_links.as_str()),
                Verdict::Goto(FROM_PODS.into()).into(),
            ])],
        ),
        Chain { name: FROM_PODS.to_owned(), base: None, rules: from_pods(policy) },
    ];
    ruleset
}

/// What pods may not send.
fn from_pods(policy: &Guard) -> Vec<Rule> {
    vec![
        // Strict reverse path for both families, whatever rp_filter says; there is no such setting
        // for IPv6. A pod's link-local packets go as well: there is nobody on that link whom it
        // does not know already. Nor is there a way to 127.0.0.1 over a pod's interface.
        Rule::of([
            Field::FIB_SADDR_IIF.is(Value::Integer(0u32.to_ne_bytes().into())),
            Statement::Counter,
            Verdict::Drop.into(),
        ])
        .comment("not the pod's own address"),
        // Masqueraded, it would come to another node from a member's address. Whole packets are
        // seen here: fragments are put together before, at -400 (`NF_IP_PRI_CONNTRACK_DEFRAG`).
        vxlan(policy, [Field::Header(VNI).is(vni(policy)), Statement::Counter, Verdict::Drop.into()])
            .comment("a pod that pretends to be a node"),
        // The way back to 127.0.0.1 is open on the interfaces of pods with host ports
        // (route_localnet). An answer comes to an address of the node and is translated later; who
        // addresses loopback from outside is after a service that listens there only
        // (CVE-2020-8558).
        Rule::of([Field::IP_DADDR.within(LOOPBACK4), Statement::Counter, Verdict::Drop.into()])
            .comment("loopback is not for pods"),
    ]
}

/// Takes what a member sends; other chains are asked all the same.
///
/// Whether it is UDP is not asked: what else a member sends to a port of this number is taken as
/// well, as it is by the chain's policy, and the rules that drop ask. That and the four octets are a
/// third of what this costs for each packet of the overlay.
fn member(policy: &Guard, condition: Statement) -> Rule {
    Rule::of([
        Field::TH_DPORT.is(Value::Service(policy.port)),
        condition,
        Field::Header(VNI_WORD).masked(0xffff_ff00, policy.vni << 8),
        Verdict::Accept.into(),
    ])
}

/// What is done about UDP to the overlay's port. The port comes first, as the kernel compares it
/// where it stands, and nearly all packets go on with the next rule there; for the protocol it calls
/// a function.
fn vxlan<const N: usize>(policy: &Guard, rest: [Statement; N]) -> Rule {
    let udp = [Field::TH_DPORT.is(Value::Service(policy.port)), Field::L4PROTO.is(Value::Proto(UDP))];
    Rule::of(udp.into_iter().chain(rest).collect::<Vec<_>>())
}

fn vni(policy: &Guard) -> Value {
    Value::Integer(policy.vni.to_be_bytes()[1..].to_vec())
}

fn chain(name: &str, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    let base = BaseChain { kind: ChainType::Filter, hook, priority, policy: Policy::Accept };
    Chain { name: name.to_owned(), base: Some(base), rules }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_like_nft() {
        let text = guard(&Guard {
            port: 4789,
            vni: 4097,
            pod_links: "mn".into(),
            members: ["172.20.0.2", "fd20::1", "172.20.0.1", "172.20.0.2"]
                .map(|ip| ip.parse().unwrap())
                .into(),
        })
        .to_string();
        assert_eq!(
            text,
            "table inet minionet {
\tset members4 {
\t\ttype ipv4_addr;
\t\telements = { 172.20.0.1, 172.20.0.2 }
\t}
\tset members6 {
\t\ttype ipv6_addr;
\t\telements = { fd20::1 }
\t}
\tchain underlay {
\t\ttype filter hook input priority -10; policy accept;
\t\tth dport 4789 ip saddr @members4 @th,96,32 & 0xffffff00 == 0x00100100 accept
\t\tth dport 4789 ip6 saddr @members6 @th,96,32 & 0xffffff00 == 0x00100100 accept
\t\tth dport 4789 meta l4proto udp @th,96,24 0x001001 counter drop comment \"not a member\"
\t\tth dport 4789 meta l4proto udp @th,96,24 != 0x001001 counter comment \"of another network\"
\t}
\tchain sources {
\t\ttype filter hook prerouting priority -300; policy accept;
\t\tiifname \"mn*\" goto from_pods
\t}
\tchain from_pods {
\t\tfib saddr . iif oif missing counter drop comment \"not the pod's own address\"
\t\tth dport 4789 meta l4proto udp @th,96,24 0x001001 counter drop comment \"a pod that pretends to be a node\"
\t\tip daddr 127.0.0.0/8 counter drop comment \"loopback is not for pods\"
\t}
}
"
        );
    }
}
