//! Pods whose node has got another address, and with it another pod CIDR.
//!
//! They keep their addresses, which by now lead nowhere on other nodes, or to another node. What
//! they ask of pods elsewhere goes out with the node's own address on the way there, so that the
//! answers come back; only to be asked by other nodes' pods needs a restart.
//!
//! What is forwarded for anybody else is none of this. There is some of it for a moment: the kernel
//! adds the route to an own address of IPv6 some time after the address (`addrconf_dad_work` in
//! net/ipv6/addrconf.c), and sends on what comes for it meanwhile. A connection is masqueraded for
//! good that was masqueraded once, and those of the probe never end.

use ipnetwork::IpNetwork;

use super::TABLE;
use super::expr::NatFlags;
use super::field::Field;
use super::masquerade::pass;
use super::rule::{Rule, Statement};
use super::ruleset::{BaseChain, Chain, ChainType, Hook, Policy, Ruleset};

/// The chain.
pub const MOVED: &str = "moved";

/// Just before `NF_IP_PRI_NAT_SRC` of linux/netfilter_ipv4.h, where other pods' packets are masqueraded.
const BEFORE_SRCNAT: i32 = 99;

/// What the chain depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Each pod network, with this node's block of it.
    pub blocks: Vec<(IpNetwork, IpNetwork)>,
    /// What the names of pods' interfaces begin with.
    pub pod_links: String,
    /// The mark of packets that another program is going to masquerade.
    pub foreign_mark: u32,
}

/// The chain, as a ruleset of its own.
pub fn moved(policy: &Moved) -> Ruleset {
    let mut rules = vec![
        pass([Field::OIFNAME.starts_with(policy.pod_links.as_str())], "to a pod of this node"),
        // Kernels before 5.5 do not know the interface here, and go on to the next rule.
        pass([Field::IIFNAME.does_not_start_with(policy.pod_links.as_str())], "not from a pod of this node"),
        pass([Field::MARK.masked(policy.foreign_mark, policy.foreign_mark)], "kube-proxy does it"),
    ];
    for (pods, block) in &policy.blocks {
        let (from, to) = match pods {
            IpNetwork::V4(_) => (Field::IP_SADDR, Field::IP_DADDR),
            IpNetwork::V6(_) => (Field::IP6_SADDR, Field::IP6_DADDR),
        };
        rules.push(pass([from.within(*block)], "from the node's own block"));
        let masquerade = Statement::Masquerade(NatFlags::FULLY_RANDOM);
        let statements = [from.within(*pods), to.within(*pods), Statement::Counter, masquerade];
        rules.push(Rule::of(statements).comment("a pod from before the node's address changed"));
    }
    let base = BaseChain {
        kind: ChainType::Nat,
        hook: Hook::Postrouting,
        priority: BEFORE_SRCNAT,
        policy: Policy::Accept,
    };
    let mut ruleset = Ruleset::new(TABLE);
    ruleset.chains = vec![Chain { name: MOVED.to_owned(), base: Some(base), rules }];
    ruleset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_like_nft() {
        let network = |text: &str| text.parse::<IpNetwork>().unwrap();
        let ruleset = moved(&Moved {
            blocks: vec![
                (network("10.32.0.0/12"), network("10.32.9.0/24")),
                (network("fd00:32::/48"), network("fd00:32:0:9::/64")),
            ],
            pod_links: "mnet".into(),
            foreign_mark: super::super::KUBE_PROXY_MARK,
        });
        assert_eq!(ruleset.check(), Ok(()));
        assert_eq!(
            ruleset.to_string(),
            "table inet minionet {
\tchain moved {
\t\ttype nat hook postrouting priority 99; policy accept;
\t\toifname \"mnet*\" return comment \"to a pod of this node\"
\t\tiifname != \"mnet*\" return comment \"not from a pod of this node\"
\t\tmeta mark & 0x00004000 == 0x00004000 return comment \"kube-proxy does it\"
\t\tip saddr 10.32.9.0/24 return comment \"from the node's own block\"
\t\tip saddr 10.32.0.0/12 ip daddr 10.32.0.0/12 counter masquerade fully-random comment \"a pod from before the node's address changed\"
\t\tip6 saddr fd00:32:0:9::/64 return comment \"from the node's own block\"
\t\tip6 saddr fd00:32::/48 ip6 daddr fd00:32::/48 counter masquerade fully-random comment \"a pod from before the node's address changed\"
\t}
}
"
        );
    }
}
