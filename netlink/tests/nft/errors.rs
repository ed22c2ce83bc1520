//! What is said when the kernel refuses: the object, the reason, and what to do.

use std::net::Ipv4Addr;

use minionet_core::nft::{
    BaseChain, Chain, ChainType, DataType, Element, Field, Hook, ModelError, NatFlags, PODS4, Policy, Rule,
    Ruleset, SetSpec, Span, Statement, TABLE, Value, Verdict,
};
use minionet_netlink::nft::{Nft, NftError};

use crate::support::{filter, in_namespace, usual_masquerade};

fn refused(ruleset: &Ruleset) -> String {
    let mut text = String::new();
    in_namespace(|| {
        text = Nft::open().unwrap().apply(ruleset).unwrap_err().to_string();
    });
    text
}

#[test]
fn a_rule_that_names_what_is_not_there() {
    let counter = Rule::of([Statement::Counter]);
    let lookup = Rule::of([Field::IP_SADDR.one_of("nowhere"), Verdict::Drop.into()]);
    assert_eq!(
        refused(&filter(vec![counter.clone(), lookup])),
        "cannot add rule 2 of chain input, \"ip saddr @nowhere drop\" (expression lookup): \
         ENOENT: No such file or directory; there is no such set in the table"
    );
    let jump = Rule::of([Verdict::Jump("nowhere".into()).into()]);
    assert_eq!(
        refused(&filter(vec![counter, jump])),
        "cannot add rule 2 of chain input, \"jump nowhere\" (expression immediate): \
         ENOENT: No such file or directory; there is no such chain in the table"
    );
}

#[test]
fn an_expression_in_the_wrong_place() {
    let masquerade = Rule::of([Statement::Masquerade(NatFlags::default())]);
    assert_eq!(
        refused(&filter(vec![masquerade])),
        "cannot add rule 1 of chain input, \"masquerade\": \
         EOPNOTSUPP: Operation not supported on transport endpoint; \
         what it does is not possible in a chain of this type or at this hook, \
         or not in this kernel"
    );
}

#[test]
fn a_chain_that_cannot_hang_there() {
    let mut ruleset = Ruleset::new(TABLE);
    ruleset.chains.push(Chain {
        name: "odd".into(),
        base: Some(BaseChain {
            kind: ChainType::Nat,
            hook: Hook::Forward,
            priority: 0,
            policy: Policy::Accept,
        }),
        rules: vec![],
    });
    let text = refused(&ruleset);
    let wanted = "cannot add chain odd (type nat hook forward priority 0; policy accept): \
         EOPNOTSUPP: Operation not supported on transport endpoint; there is no such type of chain";
    assert!(text.starts_with(wanted), "{text}");
}

#[test]
fn elements_that_are_refused() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let pods = SetSpec::set(PODS4, [DataType::Ipv4]).interval().constant();
        let net = |text: &str| Element::key([Span::network(text.parse().unwrap())]);
        let absent = nft.add_elements(TABLE, &pods, &[net("10.0.0.0/8")]).unwrap_err().to_string();
        assert!(
            absent.starts_with(
                "cannot add the element 10.0.0.0/8 of set pods4: ENOENT: No such file or directory"
            ),
            "{absent}"
        );
        nft.apply(&usual_masquerade()).unwrap();
        let constant = nft.add_elements(TABLE, &pods, &[net("192.0.2.0/24")]).unwrap_err();
        assert_eq!(
            constant.to_string(),
            "cannot add the element 192.0.2.0/24 of set pods4: EBUSY: Device or resource busy; \
             the set is constant and in use"
        );
        let exempt = SetSpec::set("exempt4", [DataType::Ipv4]).interval();
        let overlap = nft.add_elements(TABLE, &exempt, &[net("198.51.0.0/16")]).unwrap_err();
        assert_eq!(
            overlap.to_string(),
            "cannot add the element 198.51.0.0/16 of set exempt4: EEXIST: File exists; \
             one of them overlaps another element, or is there with other data"
        );
    });
}

#[test]
fn what_cannot_be_is_not_even_sent() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let set = SetSpec::set("members", [DataType::Ipv4]);
        let wrong = Element::key([Value::Service(80).into()]);
        let error = nft.add_elements(TABLE, &set, &[wrong]).unwrap_err();
        assert!(matches!(error, NftError::Model { source: ModelError::ElementKey { .. }, .. }));
        let range = Element::key([Span::range(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2))]);
        let mut ruleset = Ruleset::new(TABLE);
        ruleset.sets.push(set.with(vec![range]));
        assert_eq!(
            nft.apply(&ruleset).unwrap_err().to_string(),
            "cannot replace table inet minionet: element 10.0.0.1-10.0.0.2 of set members is a \
             range, and the set has no flag interval"
        );
        assert_eq!(nft.tables().unwrap(), []);
    });
}
