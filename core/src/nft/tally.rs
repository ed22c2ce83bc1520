//! What the rules have counted, told by the comments that they carry.

use std::collections::BTreeMap;

use super::observed::ObservedRule;

/// The comments of the rules that drop and count, and the reasons by which they are told.
pub const DROPS: [(&str, &str); 4] = [
    ("not a member", "not_a_member"),
    ("not the pod's own address", "not_the_pods_address"),
    ("a pod that pretends to be a node", "pretends_to_be_a_node"),
    ("loopback is not for pods", "loopback"),
];

/// The comment of the rule that counts VXLAN of other networks on the overlay's port.
const FOREIGN: &str = "of another network";

/// Packets that the rules have counted since the table was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that were dropped, by each of the reasons of [`DROPS`].
    pub dropped: BTreeMap<&'static str, u64>,
    /// VXLAN of other networks on the overlay's port; it is not dropped here.
    pub foreign: u64,
}

/// Adds up what rules of the table counted.
pub fn tally(rules: &[ObservedRule]) -> Tally {
    let packets = |comment: &str| {
        let counted = rules.iter().filter(|rule| rule.comment == comment);
        counted.filter_map(|rule| rule.counter).map(|(packets, _)| packets).sum()
    };
    Tally {
        dropped: DROPS.iter().map(|(comment, reason)| (*reason, packets(comment))).collect(),
        foreign: packets(FOREIGN),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{Guard, Rule, Statement, Verdict, guard, host_ports};
    use super::*;

    fn counting() -> Vec<Rule> {
        let guard = guard(&Guard { port: 4789, vni: 1, pod_links: "mn".into(), members: Vec::new() });
        let all = guard.with(host_ports("mn")).chains.into_iter().flat_map(|chain| chain.rules);
        all.filter(|rule| rule.statements.contains(&Statement::Counter)).collect()
    }

    #[test]
    fn every_rule_that_counts_is_told() {
        let drop = Statement::from(Verdict::Drop);
        let (drops, passes): (Vec<_>, Vec<_>) =
            counting().into_iter().partition(|rule| rule.statements.contains(&drop));
        let comments =
            |rules: &[Rule]| rules.iter().map(|rule| rule.comment.clone()).collect::<BTreeSet<String>>();
        assert_eq!(comments(&drops), DROPS.iter().map(|(comment, _)| (*comment).to_owned()).collect());
        assert_eq!(comments(&passes), BTreeSet::from([FOREIGN.to_owned()]));
    }

    #[test]
    fn rules_with_the_same_comment_are_added_up() {
        let rule = |comment: &str, packets| ObservedRule {
            handle: 1,
            exprs: Vec::new(),
            comment: comment.into(),
            counter: Some((packets, 100 * packets)),
        };
        let rules = [
            rule("loopback is not for pods", 2),
            rule("of another network", 5),
            rule("loopback is not for pods", 3),
            rule("somebody else's", 7),
        ];
        let found = tally(&rules);
        assert_eq!(found.dropped.values().copied().collect::<Vec<_>>(), [5, 0, 0, 0]);
        assert_eq!((found.dropped["loopback"], found.foreign), (5, 5));
        assert_eq!(tally(&[]).dropped.len(), DROPS.len());
    }
}
