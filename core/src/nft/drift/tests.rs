use super::*;
use crate::nft::{
    DataType, Field, KUBE_PROXY_MARK, Masquerade, ObservedRule, Rule, SetSpec, Statement, TABLE, Value,
    Verdict, masquerade,
};

fn wanted() -> Ruleset {
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let mut ruleset = masquerade(&Masquerade {
        pods: networks(&["10.32.0.0/12"]),
        exempt: networks(&["192.0.2.0/24"]),
        foreign_mark: KUBE_PROXY_MARK,
    });
    ruleset.sets.push(SetSpec::set("owners", [DataType::IfName]).kept());
    ruleset
}

/// What the kernel would show of a ruleset.
fn observed(ruleset: &Ruleset) -> Observed {
    let mut handle = 0;
    let mut rule = |rule: &Rule| {
        handle += 1;
        ObservedRule { handle, exprs: rule.exprs(), comment: rule.comment.clone(), counter: Some((9, 999)) }
    };
    Observed {
        table: ruleset.table.clone(),
        dormant: false,
        sets: (ruleset.sets.iter())
            .map(|set| ObservedSet {
                name: set.spec.name.clone(),
                spec: Some(set.spec.clone()),
                elements: match &set.contents {
                    Contents::Fixed(elements) => elements.clone(),
                    Contents::Kept => vec![Element::key([Value::IfName("mn1".into()).into()])],
                },
            })
            .collect(),
        chains: (ruleset.chains.iter())
            .map(|chain| ObservedChain {
                name: chain.name.clone(),
                base: chain.base,
                rules: chain.rules.iter().map(&mut rule).collect(),
            })
            .collect(),
        generation: 7,
    }
}

#[test]
fn what_was_wanted_has_no_drift() {
    assert_eq!(drift(&wanted(), Some(&observed(&wanted()))), vec![]);
    assert_eq!(drift(&wanted(), None), vec![Drift::TableMissing { table: TABLE.into() }]);
}

#[test]
fn every_missing_object_is_named_and_every_foreign_one() {
    let empty = Ruleset::new(TABLE);
    let objects = wanted().sets.len() + wanted().chains.len();
    let missing = drift(&wanted(), Some(&observed(&empty)));
    let is_missing = |drift: &Drift| matches!(drift, Drift::SetMissing { .. } | Drift::ChainMissing { .. });
    assert_eq!(missing.iter().filter(|drift| is_missing(drift)).count(), objects);
    assert_eq!(missing.len(), objects);
    let foreign = drift(&empty, Some(&observed(&wanted())));
    let is_foreign =
        |drift: &Drift| matches!(drift, Drift::SetUnexpected { .. } | Drift::ChainUnexpected { .. });
    assert_eq!(foreign.iter().filter(|drift| is_foreign(drift)).count(), objects);
    assert_eq!(foreign.len(), objects);
}

#[test]
fn a_changed_rule_is_one_missing_and_one_unexpected() {
    let mut found = observed(&wanted());
    let exprs = vec![Expr::Verdict(Verdict::Accept)];
    found.chains[0].rules[3].exprs = exprs.clone();
    let chain = || wanted().chains[0].name.clone();
    let rule = wanted().chains[0].rules[3].to_string();
    assert_eq!(
        drift(&wanted(), Some(&found)),
        vec![
            Drift::RuleMissing { chain: chain(), index: 3, rule },
            Drift::RuleUnexpected { chain: chain(), handle: 4, exprs },
        ]
    );
    let mut swapped = observed(&wanted());
    swapped.chains[0].rules.swap(0, 5);
    assert_eq!(drift(&wanted(), Some(&swapped)), vec![Drift::RulesReordered { chain: chain() }]);
}

#[test]
fn equal_rules_are_counted() {
    let rule = Rule::of([Field::MARK.is(Value::Mark(1)), Statement::Counter]);
    let mut two = wanted();
    two.chains[0].rules = vec![rule.clone(), rule];
    assert_eq!(drift(&two, Some(&observed(&two))), vec![]);
    let mut found = observed(&two);
    found.chains[0].rules.truncate(1);
    assert!(matches!(drift(&two, Some(&found))[..], [Drift::RuleMissing { index: 1, .. }]));
    let third = found.chains[0].rules[0].clone();
    found.chains[0].rules.extend([third.clone(), third]);
    assert!(matches!(drift(&two, Some(&found))[..], [Drift::RuleUnexpected { .. }]));
}

#[test]
fn elements_count_only_where_they_are_decided() {
    let mut found = observed(&wanted());
    for set in &mut found.sets {
        set.elements.clear();
    }
    let texts: Vec<_> = drift(&wanted(), Some(&found)).iter().map(Drift::to_string).collect();
    assert_eq!(
        texts,
        ["set pods4 lacks the element 10.32.0.0/12", "set exempt4 lacks the element 192.0.2.0/24"]
    );
}
