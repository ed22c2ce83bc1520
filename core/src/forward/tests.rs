use super::*;
use crate::nft::{BitOps, CmpOp, Expr, MetaKey, PayloadBase, Reg, Verdict};

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn pods() -> Vec<Cidr> {
    vec![cidr("10.32.0.0/12"), cidr("fd00:32::/48")]
}

fn when(tests: &[Test], action: Action) -> Rule {
    Rule { tests: tests.to_vec(), action }
}

fn from(text: &str) -> Test {
    Test::From(cidr(text))
}

fn to(text: &str) -> Test {
    Test::To(cidr(text))
}

fn jump(chain: &str) -> Action {
    Action::Jump(chain.into())
}

/// iptables' table with these chains; FORWARD drops.
fn table(chains: &[(&str, Vec<Rule>)]) -> Table {
    Table {
        backend: Backend::Nft,
        family: TableFamily::Ip,
        name: "filter".into(),
        hooked: BTreeMap::from([("FORWARD".into(), true)]),
        chains: chains.iter().map(|(name, rules)| ((*name).to_owned(), rules.clone())).collect(),
    }
}

fn is_open(chains: &[(&str, Vec<Rule>)]) -> bool {
    let found = judge(&[table(chains)], &pods());
    assert_eq!(found.len(), 1, "it drops");
    found[0].open
}

fn both() -> Vec<Rule> {
    vec![when(&[from("10.32.0.0/12")], Action::Accept), when(&[to("10.32.0.0/12")], Action::Accept)]
}

#[test]
fn a_policy_is_named_with_what_helps() {
    let found = judge(&[table(&[("FORWARD", vec![])])], &pods());
    assert_eq!(found.len(), 1);
    assert!(!found[0].open);
    assert_eq!(found[0].place(), "table ip filter, chain FORWARD");
    assert_eq!(
        found[0].remedy,
        [
            "iptables-nft -I FORWARD -s 10.32.0.0/12 -j ACCEPT",
            "iptables-nft -I FORWARD -d 10.32.0.0/12 -j ACCEPT"
        ]
    );
    assert!(found[0].warning().unwrap().contains("iptables-nft -I FORWARD -s"));
    let docker = judge(&[table(&[("FORWARD", vec![]), ("DOCKER-USER", vec![])])], &pods());
    assert_eq!(docker[0].remedy[0], "iptables-nft -I DOCKER-USER -s 10.32.0.0/12 -j ACCEPT");
    let legacy = Table { backend: Backend::Legacy, family: TableFamily::Ip6, ..table(&[]) };
    let legacy = judge(&[legacy], &pods());
    assert_eq!(legacy[0].remedy[1], "ip6tables-legacy -I FORWARD -d fd00:32::/48 -j ACCEPT");
    let inet = Table { family: TableFamily::Inet, name: "firewall".into(), ..table(&[]) };
    assert_eq!(
        judge(&[inet], &pods())[0].remedy,
        [
            "nft insert rule inet firewall FORWARD ip saddr 10.32.0.0/12 accept",
            "nft insert rule inet firewall FORWARD ip daddr 10.32.0.0/12 accept",
            "nft insert rule inet firewall FORWARD ip6 saddr fd00:32::/48 accept",
            "nft insert rule inet firewall FORWARD ip6 daddr fd00:32::/48 accept",
        ]
    );
}

#[test]
fn only_families_of_pods_and_chains_that_drop_count() {
    assert_eq!(judge(&[table(&[])], &pods()[1..]), [], "there are no IPv4 pods");
    let mut accepting = table(&[("FORWARD", vec![])]);
    accepting.hooked.insert("FORWARD".into(), false);
    assert_eq!(judge(&[accepting.clone()], &pods()), []);
    // As firewalld ends its chain.
    accepting.chains.insert("FORWARD".into(), vec![when(&[], Action::Drop)]);
    assert_eq!(judge(&[accepting.clone()], &pods()).len(), 1);
    accepting.chains.insert("FORWARD".into(), [both(), vec![when(&[], Action::Drop)]].concat());
    assert_eq!(judge(&[accepting], &pods()), [], "nothing of ours comes as far");
}

#[test]
fn what_lets_pods_pass_is_recognised() {
    let user = || vec![when(&[], jump("DOCKER-USER"))];
    assert!(is_open(&[("FORWARD", both())]));
    assert!(is_open(&[("FORWARD", vec![when(&[], Action::Accept)])]));
    assert!(is_open(&[("FORWARD", user()), ("DOCKER-USER", both())]));
    let wider = vec![when(&[from("10.0.0.0/8")], Action::Accept), when(&[to("0.0.0.0/0")], Action::Accept)];
    assert!(is_open(&[("FORWARD", wider)]));
    let by_name = vec![
        when(&[Test::In("mnet".into(), true)], Action::Accept),
        when(&[Test::Out("mnet".into(), true)], Action::Accept),
    ];
    assert!(is_open(&[("FORWARD", by_name)]));
    // Conditions of others do not matter: other packets, and decisions about some of ours.
    let others = vec![
        when(&[Test::In("docker0".into(), false)], Action::Accept),
        when(&[from("10.32.0.0/12"), Test::Unknown], Action::Drop),
        when(&[Test::Unknown], jump("OTHER")),
    ];
    let other = vec![when(&[Test::Unknown], Action::Drop), when(&[], Action::Return)];
    assert!(is_open(&[("FORWARD", [others, both()].concat()), ("OTHER", other)]));
    let goto = vec![when(&[], Action::Goto("PODS".into()))];
    assert!(is_open(&[("FORWARD", goto), ("PODS", both())]));
    let by_side = vec![when(&[from("10.32.0.0/12")], jump("YES")), when(&[to("10.32.0.0/12")], jump("YES"))];
    assert!(is_open(&[("FORWARD", by_side), ("YES", vec![when(&[], Action::Accept)])]));
}

#[test]
fn what_may_not_help_is_not_taken_for_help() {
    let closed = |forward: Vec<Rule>| {
        assert!(!is_open(&[("FORWARD", forward.clone()), ("X", vec![])]), "{forward:?}");
    };
    closed(both()[..1].to_vec());
    closed(both()[1..].to_vec());
    closed(vec![when(&[from("10.32.0.0/16")], Action::Accept), when(&[to("10.32.0.0/16")], Action::Accept)]);
    closed(vec![when(&[from("10.32.0.0/12"), to("10.32.0.0/12")], Action::Accept)]);
    closed(vec![when(&[Test::Unknown], Action::Accept)]);
    closed(vec![when(&[Test::In("mnet".into(), false)], Action::Accept), both()[1].clone()]);
    for action in [Action::Return, Action::Goto("X".into()), Action::Unknown] {
        closed([vec![when(&[Test::Unknown], action)], both()].concat());
    }
    closed([vec![when(&[], Action::Drop)], both()].concat());
    // Rules that were appended behind the end of DOCKER-USER.
    let user = [vec![when(&[], Action::Return)], both()].concat();
    assert!(!is_open(&[("FORWARD", vec![when(&[], jump("DOCKER-USER"))]), ("DOCKER-USER", user)]));
    // A chain that some packets leave early, and the others not at all.
    let trap = vec![when(&[Test::Unknown], Action::Return), when(&[], Action::Drop)];
    let forward = [vec![when(&[], jump("TRAP"))], both()].concat();
    assert!(!is_open(&[("FORWARD", forward), ("TRAP", trap)]));
}

#[test]
fn the_work_is_bounded() {
    // Each chain jumps to the next twice: 2^15 ways; and a loop, which no kernel would take.
    let twice = |to: &str| vec![when(&[], jump(to)), when(&[], jump(to))];
    let names: Vec<String> = (0..16).map(|n| format!("c{n}")).collect();
    let mut chains = vec![("FORWARD", twice("c0"))];
    chains.extend((0..15).map(|n| (names[n].as_str(), twice(&names[n + 1]))));
    assert!(!is_open(&chains));
    assert!(!is_open(&[("FORWARD", twice("FORWARD"))]));
}

#[test]
fn expressions_are_read_as_nft_and_iptables_write_them() {
    let r = Reg(0);
    let payload = |offset, len| Expr::Payload { base: PayloadBase::Network, offset, len, dreg: r };
    let mask = |mask: &[u8]| Expr::Bitwise {
        sreg: r,
        dreg: r,
        ops: BitOps { mask: mask.to_vec(), xor: vec![0; mask.len()] },
    };
    let eq = |data: &[u8]| Expr::Cmp { sreg: r, op: CmpOp::Eq, data: data.to_vec() };
    let meta = |key| Expr::Meta { key, dreg: r };
    let read = |exprs: &[Expr]| rule(exprs, TableFamily::Ip);
    let accept = || Expr::Verdict(Verdict::Accept);
    // ip saddr 10.32.0.0/12 counter accept
    let exprs = [payload(12, 4), mask(&[255, 240, 0, 0]), eq(&[10, 32, 0, 0]), Expr::Counter, accept()];
    assert_eq!(read(&exprs), when(&[from("10.32.0.0/12")], Action::Accept));
    // ip daddr 10.32.0.0/16 accept: only two octets are loaded.
    let exprs = [payload(16, 2), eq(&[10, 32]), accept()];
    assert_eq!(read(&exprs), when(&[to("10.32.0.0/16")], Action::Accept));
    // meta nfproto ipv6, ip6 saddr fd00:32::/48, in a table of both families
    let exprs = [meta(MetaKey::NfProto), eq(&[10]), payload(8, 6), eq(&[0xfd, 0, 0, 0x32, 0, 0])];
    let tests = [Test::Family(Family::V6), from("fd00:32::/48")];
    assert_eq!(rule(&exprs, TableFamily::Inet), when(&tests, Action::Nothing));
    // iifname "mnet*", oifname "eth0"
    let whole = eq(b"eth0\0\0\0\0\0\0\0\0\0\0\0\0");
    let exprs = [meta(MetaKey::IifName), eq(b"mnet"), meta(MetaKey::OifName), whole];
    let tests = [Test::In("mnet".into(), true), Test::Out("eth0".into(), false)];
    assert_eq!(read(&exprs), when(&tests, Action::Nothing));
    // Whatever is not followed is a condition that is not known.
    let neq = Expr::Cmp { sreg: r, op: CmpOp::Neq, data: vec![10, 32] };
    let odd: [&[Expr]; 7] = [
        &[payload(16, 2), neq],
        &[payload(9, 1), eq(&[6])],
        &[payload(12, 4), mask(&[255, 0, 255, 0]), eq(&[10, 0, 32, 0])],
        &[payload(12, 4), Expr::Lookup { set: "s".into(), sreg: r, inverted: false }],
        &[Expr::Unknown { name: "match".into() }],
        &[payload(12, 4)],
        &[eq(&[1])],
    ];
    for exprs in odd {
        assert!(read(exprs).tests.contains(&Test::Unknown), "{exprs:?}");
    }
    let unasked = rule(&[payload(12, 4), eq(&[10, 0, 0, 1])], TableFamily::Inet);
    assert!(unasked.tests.contains(&Test::Unknown));
    assert_eq!(read(&[Expr::Reject { kind: 0, code: 3 }]).action, Action::Drop);
    assert_eq!(read(&[Expr::Verdict(Verdict::Jump("X".into()))]).action, jump("X"));
}
