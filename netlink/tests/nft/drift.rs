//! Whatever someone does to the table is seen, and applying it again mends it.

use minionet_core::nft::{Drift, EXEMPT4, Element, PODS4, POSTROUTING, Ruleset, Span, TABLE};
use minionet_netlink::nft::Nft;

use crate::support::{feed, in_namespace, run, usual_masquerade};

/// Does something to the table, checks what is seen of it as text, and that it can be mended.
fn seen(damage: &str, wanted: &[&str]) -> Vec<Drift> {
    let mut found = Vec::new();
    in_namespace(|| {
        let ruleset = usual_masquerade();
        let mut nft = Nft::open().unwrap();
        nft.apply(&ruleset).unwrap();
        run(damage);
        found = nft.drift(&ruleset).unwrap();
        let texts: Vec<String> = found.iter().map(without_handle).collect();
        assert_eq!(texts, wanted, "after {damage}");
        nft.apply(&ruleset).unwrap();
        assert_eq!(nft.drift(&ruleset).unwrap(), vec![], "after mending {damage}");
    });
    found
}

/// The text of a difference, but for the number that the kernel happens to have given to a rule.
fn without_handle(drift: &Drift) -> String {
    let text = drift.to_string();
    match drift {
        Drift::RuleUnexpected { handle, .. } => text.replace(&format!("handle {handle}:"), "…:"),
        _ => text,
    }
}

#[test]
fn tables() {
    seen("nft delete table inet minionet", &["table inet minionet is missing"]);
    seen("nft flush ruleset", &["table inet minionet is missing"]);
    seen("nft add table inet minionet '{ flags dormant; }'", &["table inet minionet is dormant"]);
}

#[test]
fn rules() {
    let masquerade = "chain postrouting lacks its rule 10: counter masquerade fully-random";
    seen(
        "nft -a list chain inet minionet postrouting |
        sed -n 's/.*masquerade.*handle //p' |
        xargs nft delete rule inet minionet postrouting handle",
        &[masquerade],
    );
    let found = seen(
        "nft insert rule inet minionet postrouting ip daddr 203.0.113.1 tcp dport 80 return",
        &["chain postrouting has a rule that is not ours, …: \
           [r0 = meta nfproto] [r0 == 0x02] [r0 = nh 16+4] [r0 == 0xcb007101] \
           [r0 = meta l4proto] [r0 == 0x06] [r0 = th 2+2] [r0 == 0x0050] [return]"],
    );
    assert!(matches!(&found[..], [Drift::RuleUnexpected { chain, .. }] if chain == POSTROUTING));
    // Statements that minionet never uses.
    seen(
        "nft add rule inet minionet postrouting limit rate 1/second log",
        &["chain postrouting has a rule that is not ours, …: [limit] [log]"],
    );
    // The same rule without its comment.
    seen(
        "h=$(nft -a list chain inet minionet postrouting | sed -n 's/.*ip6.*multicast.*handle //p')
         nft replace rule inet minionet postrouting handle $h ip6 daddr ff00::/8 return",
        &[
            "chain postrouting lacks its rule 9: ip6 daddr ff00::/8 return comment \"multicast\"",
            "chain postrouting has a rule that is not ours, …: \
           [r0 = meta nfproto] [r0 == 0x0a] [r0 = nh 24+1] [r0 == 0xff] [return]",
        ],
    );
}

#[test]
fn a_flushed_chain_lacks_every_rule() {
    in_namespace(|| {
        let ruleset = usual_masquerade();
        let mut nft = Nft::open().unwrap();
        nft.apply(&ruleset).unwrap();
        run("nft flush chain inet minionet postrouting");
        let found = nft.drift(&ruleset).unwrap();
        let missing = found.iter().map(|drift| match drift {
            Drift::RuleMissing { chain, index, .. } if chain == POSTROUTING => *index,
            other => panic!("{other}"),
        });
        assert!(missing.eq(0..ruleset.chains[0].rules.len()));
    });
}

#[test]
fn rules_in_another_order() {
    in_namespace(|| {
        let ruleset = usual_masquerade();
        let mut swapped: Ruleset = ruleset.clone();
        swapped.chains[0].rules.swap(1, 9);
        let mut nft = Nft::open().unwrap();
        nft.apply(&swapped).unwrap();
        let found = nft.drift(&ruleset).unwrap();
        assert_eq!(found, [Drift::RulesReordered { chain: POSTROUTING.into() }]);
    });
}

#[test]
fn chains() {
    seen(
        "nft add chain inet minionet guest '{ type filter hook input priority 0; }'",
        &["chain guest is not ours"],
    );
    seen(
        "nft chain inet minionet postrouting '{ policy drop; }'",
        &["chain postrouting is \"type nat hook postrouting priority 100; policy drop;\" \
           instead of \"type nat hook postrouting priority 100; policy accept;\""],
    );
    in_namespace(|| {
        // At another priority, by way of a table of the same name.
        let ruleset = usual_masquerade();
        let text = ruleset.to_string().replace("priority 100", "priority 90");
        feed("nft -f -", &text);
        let mut nft = Nft::open().unwrap();
        let found = nft.drift(&ruleset).unwrap();
        assert!(matches!(&found[..], [Drift::ChainDiffers { .. }]), "{found:?}");
        feed("nft -f -", "delete table inet minionet");
        feed("nft -f -", "table inet minionet { }");
        let missing = nft.drift(&ruleset).unwrap();
        assert!(missing.contains(&Drift::ChainMissing { chain: POSTROUTING.into() }));
        assert!(missing.contains(&Drift::SetMissing { set: PODS4.into() }));
    });
}

#[test]
fn sets_and_elements() {
    let found = seen(
        "nft add element inet minionet exempt4 '{ 203.0.113.0/24, 192.0.2.1 }'",
        &[
            "set exempt4 has the element 192.0.2.1, which is not ours",
            "set exempt4 has the element 203.0.113.0/24, which is not ours",
        ],
    );
    let net = Element::key([Span::network("203.0.113.0/24".parse().unwrap())]);
    let unexpected = Drift::ElementUnexpected { set: EXEMPT4.into(), element: net };
    assert_eq!(found[1], unexpected);
    seen("nft flush set inet minionet exempt6", &["set exempt6 lacks the element 2001:db8:7::/64"]);
    seen("nft add set inet minionet guest '{ type ipv4_addr; }'", &["set guest is not ours"]);
    seen(
        "nft add map inet minionet guest '{ type ether_addr : verdict; timeout 5s; }'",
        &["set guest is not ours"],
    );
    in_namespace(|| {
        let ruleset = usual_masquerade();
        let text = ruleset.to_string().replace("flags constant,interval", "flags interval");
        feed("nft -f -", &text);
        let mut nft = Nft::open().unwrap();
        let texts: Vec<_> = nft.drift(&ruleset).unwrap().iter().map(Drift::to_string).collect();
        assert_eq!(
            texts[0],
            "set pods4 is \"type ipv4_addr; flags interval;\" \
            instead of \"type ipv4_addr; flags constant,interval;\""
        );
        assert_eq!(texts.len(), 2);
        run("nft delete table inet minionet");
        let text = ruleset.to_string();
        let timed = "ipv4_addr; timeout 1h; flags interval";
        feed("nft -f -", &text.replace("ipv4_addr; flags interval", timed));
        let texts: Vec<_> = nft.drift(&ruleset).unwrap().iter().map(Drift::to_string).collect();
        assert_eq!(
            texts[0],
            "set exempt4 is \"types or flags of another program\" \
            instead of \"type ipv4_addr; flags interval;\""
        );
    });
}

#[test]
fn there_is_nothing_where_nothing_was_made() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        assert_eq!(nft.dump(TABLE).unwrap(), None);
        let missing = Drift::TableMissing { table: TABLE.into() };
        assert_eq!(nft.drift(&usual_masquerade()).unwrap(), [missing]);
    });
}
