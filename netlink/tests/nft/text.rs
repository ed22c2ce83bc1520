//! Whatever the model can say, `nft` reads from its text, and both write the same into the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use minionet_core::nft::{
    BaseChain, Chain, ChainType, DataType, DnatTo, Element, Field, Guard, Header, Hook, Match, MetaKey,
    NatFlags, PayloadBase, Policy, Rule, Ruleset, SetSpec, Source, Span, Statement, TABLE, Target, Value,
    Verdict, drift, guard, host_ports,
};
use minionet_netlink::nft::Nft;

use crate::support::{feed, filter, in_namespace, networks, run, usual_masquerade};

/// Writes the ruleset by netlink and by its text, and compares what `nft` and we see.
fn written_alike(ruleset: &Ruleset) {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        nft.apply(ruleset).unwrap();
        let ours = run("nft list ruleset");
        assert_eq!(nft.drift(ruleset).unwrap(), vec![], "by netlink:\n{ours}");

        run("nft flush ruleset");
        feed("nft -f -", &ruleset.to_string());
        let theirs = run("nft list ruleset");
        assert_eq!(ours, theirs, "from the text:\n{ruleset}");
        let found = nft.dump(TABLE).unwrap();
        assert_eq!(drift(ruleset, found.as_ref()), vec![], "from the text:\n{ruleset}");
    });
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_masquerade_policy() {
    written_alike(&usual_masquerade());
}

#[test]
fn the_guard_policy() {
    written_alike(&guard(&Guard {
        port: 4789,
        vni: 4097,
        pod_links: "mn".into(),
        members: vec![address("172.20.0.1"), address("fd20::1")],
    }));
}

#[test]
fn the_policy_of_host_ports() {
    written_alike(&host_ports("mn"));
}

#[test]
fn matches_of_every_kind() {
    let mut ruleset = filter(vec![
        Rule::of([Field::IIFNAME.is(Value::IfName("eth0".into())), Verdict::Accept.into()]),
        Rule::of([Field::OIFNAME.not(Value::IfName("lo".into())), Verdict::Accept.into()]),
        Rule::of([Field::IIFNAME.starts_with("mn"), Statement::Counter, Verdict::Drop.into()]),
        Rule::of([Field::NFPROTO.is(Value::Integer(vec![10])), Verdict::Accept.into()]),
        Rule::of([Field::L4PROTO.is(Value::Proto(17)), Field::UDP_DPORT.is(Value::Service(53))]),
        Rule::of([Field::TCP_DPORT.is(Value::Service(80)), Statement::Reject]),
        Rule::of([Field::UDP_DPORT.is(Value::Service(4789)), Field::IP_SADDR.none_of("members")]),
        Rule::of([Match::on([Field::IIFNAME, Field::IP_SADDR]).none_of("owners"), Verdict::Drop.into()]),
        Rule::of([Field::IP_SADDR.is(Ipv4Addr::LOCALHOST), Verdict::Accept.into()]),
        Rule::of([Field::IP6_DADDR.not(Ipv6Addr::LOCALHOST), Verdict::Accept.into()]),
        Rule::of([Field::IP_DADDR.within("172.16.0.0/12".parse().unwrap())]),
        Rule::of([Field::IP_DADDR.within("10.0.0.0/8".parse().unwrap())]),
        Rule::of([Field::IP6_SADDR.within("fe80::/10".parse().unwrap())]),
        Rule::of([Field::MARK.masked(0x4000, 0x4000), Verdict::Return.into()]),
        Rule::of([Field::MARK.is(Value::Mark(7)), Verdict::Jump("more".into()).into()]),
        Rule::of([Field::CT_MARK.is(Value::Mark(7)), Verdict::Goto("more".into()).into()]),
        Rule::of([Field::CT_STATE.any_bit(0b110), Verdict::Accept.into()]),
        Rule::of([Field::CT_DIRECTION.is(Value::Integer(vec![1])), Verdict::Accept.into()]),
        Rule::of([Field::CT_STATUS.any_bit(1 << 5), Statement::Counter]).comment("translated"),
        Rule::of([Field::FIB_SADDR_IIF.is(Value::Integer(0u32.to_ne_bytes().into()))]),
        Rule::of([Field::FIB_DADDR_TYPE.is(Value::Integer(2u32.to_ne_bytes().into()))]),
        Rule::of([Field::IP_DADDR.is(Ipv4Addr::BROADCAST), Verdict::Continue.into()]),
        Rule::of([Match::on([Field::IP_SADDR]).vmap("verdicts")]),
    ]);
    // In a kernel of 6.18 nft 1.0.6 lists the kind of a link only by its number.
    ruleset.chains.push(Chain { name: "more".into(), base: None, rules: vec![] });
    ruleset.sets = vec![
        SetSpec::set("members", [DataType::Ipv4]).with(vec![
            Element::key([Ipv4Addr::new(172, 20, 0, 1).into()]),
            Element::key([Ipv4Addr::new(172, 20, 0, 2).into()]),
        ]),
        SetSpec::set("owners", [DataType::IfName, DataType::Ipv4]).with(vec![Element::key([
            Value::IfName("mn1".into()).into(),
            Ipv4Addr::new(10, 32, 1, 5).into(),
        ])]),
        SetSpec::verdict_map("verdicts", [DataType::Ipv4]).with(vec![
            Element::verdict([Ipv4Addr::new(10, 1, 1, 1).into()], Verdict::Drop),
            Element::verdict([Ipv4Addr::new(10, 1, 1, 2).into()], Verdict::Jump("more".into())),
        ]),
    ];
    written_alike(&ruleset);
}

#[test]
fn sets_of_every_kind() {
    let mut ruleset = Ruleset::new(TABLE);
    let v4 = |text: &str| Value::from(address(text));
    ruleset.sets = vec![
        SetSpec::set("ports", [DataType::Service]).interval().with(vec![
            Element::key([Span::range(Value::Service(0), Value::Service(79))]),
            Element::key([Value::Service(443).into()]),
            Element::key([Span::range(Value::Service(60_000), Value::Service(65_535))]),
        ]),
        SetSpec::set("marks", [DataType::Mark]).with(vec![Element::key([Value::Mark(0x0102_0304).into()])]),
        SetSpec::set("protocols", [DataType::Proto])
            .constant()
            .with(vec![Element::key([Value::Proto(6).into()])]),
        SetSpec::set("names", [DataType::IfName])
            .with(vec![Element::key([Value::IfName("eth0".into()).into()])]),
        SetSpec::set("dual", [DataType::Ipv6]).interval().with(Element::networks(&networks(&[
            "fd00::/8",
            "2001:db8::1/128",
            "fe00::/7",
        ]))),
        SetSpec::set("seen", [DataType::Ipv4]).dynamic().with(vec![]),
        SetSpec::map("to-mark", [DataType::Ipv4], [DataType::Mark])
            .with(vec![Element::map([v4("10.1.1.1").into()], [Value::Mark(5)])]),
        // Ranges that touch are two elements in a map, as their data may differ.
        SetSpec::map("by-net", [DataType::Ipv4], [DataType::Ipv4]).interval().with(vec![
            Element::map([Span::network("10.0.0.0/9".parse().unwrap())], [v4("192.0.2.1")]),
            Element::map([Span::network("10.128.0.0/9".parse().unwrap())], [v4("192.0.2.2")]),
        ]),
        SetSpec::map(
            "host-ports",
            [DataType::Ipv4, DataType::Proto, DataType::Service],
            [DataType::Ipv4, DataType::Service],
        )
        .interval()
        .with(vec![
            Element::map(
                [
                    Span::network("0.0.0.0/0".parse().unwrap()),
                    Value::Proto(6).into(),
                    Value::Service(80).into(),
                ],
                [v4("10.32.1.5"), Value::Service(8080)],
            ),
            Element::map(
                [
                    v4("192.0.2.1").into(),
                    Value::Proto(17).into(),
                    Span::range(Value::Service(1000), Value::Service(1999)),
                ],
                [v4("10.32.1.6"), Value::Service(53)],
            ),
        ]),
    ];
    written_alike(&ruleset);
}

#[test]
fn nat_and_assignments() {
    let mut ruleset = Ruleset::new(TABLE);
    let udp = Field::L4PROTO.is(Value::Proto(17));
    let key = [Field::IP_DADDR, Field::L4PROTO, Field::TH_DPORT];
    let key6 = [Field::IP6_DADDR, Field::L4PROTO, Field::TH_DPORT];
    let map = |key: &[Field], map: &str, ipv6| {
        let map = map.into();
        Statement::Dnat(DnatTo::Map { key: key.into(), map, ipv6, port: true })
    };
    let fixed = |to: &str, port| Statement::Dnat(DnatTo::Fixed(address(to), port));
    ruleset.sets = vec![
        SetSpec::map(
            "ports4",
            [DataType::Ipv4, DataType::Proto, DataType::Service],
            [DataType::Ipv4, DataType::Service],
        )
        .kept(),
        SetSpec::map(
            "ports6",
            [DataType::Ipv6, DataType::Proto, DataType::Service],
            [DataType::Ipv6, DataType::Service],
        )
        .kept(),
    ];
    ruleset.chains = vec![
        Chain {
            name: "prerouting".into(),
            base: Some(BaseChain {
                kind: ChainType::Nat,
                hook: Hook::Prerouting,
                priority: -100,
                policy: Policy::Accept,
            }),
            rules: vec![
                Rule::of([udp.clone(), map(&key, "ports4", false)]),
                Rule::of([udp.clone(), map(&key6, "ports6", true)]),
                Rule::of([Field::TCP_DPORT.is(Value::Service(80)), fixed("10.32.1.5", Some(8080))]),
                Rule::of([Field::TCP_DPORT.is(Value::Service(81)), fixed("fd00::5", Some(8080))]),
                Rule::of([Field::IP_DADDR.is(Ipv4Addr::new(192, 0, 2, 9)), fixed("10.32.1.5", None)]),
            ],
        },
        Chain {
            name: "postrouting".into(),
            base: Some(BaseChain {
                kind: ChainType::Nat,
                hook: Hook::Postrouting,
                priority: 100,
                policy: Policy::Accept,
            }),
            rules: vec![
                Rule::of([Field::MARK.is(Value::Mark(1)), Statement::Masquerade(NatFlags::RANDOM)]),
                Rule::of([Statement::Masquerade(NatFlags::default())]),
            ],
        },
        Chain {
            name: "mangle".into(),
            base: Some(BaseChain {
                kind: ChainType::Route,
                hook: Hook::Output,
                priority: -150,
                policy: Policy::Drop,
            }),
            rules: vec![
                Rule::of([Statement::Set(Target::Mark, Source::Value(Value::Mark(9)))]),
                Rule::of([Statement::Set(Target::Mark, Source::Or(Field::MARK, 0x10))]),
                Rule::of([Statement::Set(Target::Mark, Source::And(Field::MARK, 0xff))]),
                Rule::of([Statement::Set(Target::CtMark, Source::Field(Field::MARK))]),
                Rule::of([Statement::Set(Target::Mark, Source::Field(Field::CT_MARK))]),
                Rule::of([Statement::Set(
                    Target::Header(Header::IpSaddr),
                    Source::Value(Ipv4Addr::new(192, 0, 2, 1).into()),
                )]),
                Rule::of([Statement::Set(
                    Target::Header(Header::Ip6Daddr),
                    Source::Value(Ipv6Addr::LOCALHOST.into()),
                )]),
                Rule::of([Statement::Set(
                    Target::Header(Header::Port { proto: Some(17), destination: true }),
                    Source::Value(Value::Service(53)),
                )]),
                Rule::of([Statement::Set(
                    Target::Header(Header::Port { proto: Some(6), destination: false }),
                    Source::Value(Value::Service(53)),
                )]),
            ],
        },
        Chain {
            name: "raw".into(),
            base: Some(BaseChain {
                kind: ChainType::Filter,
                hook: Hook::Prerouting,
                priority: -300,
                policy: Policy::Accept,
            }),
            rules: vec![Rule::of([udp, Statement::Notrack])],
        },
    ];
    written_alike(&ruleset);
}

/// What `nft` 1.0.6 writes in another way, or cannot read: only that the kernel keeps it.
#[test]
fn what_the_kernel_keeps_though_nft_says_it_otherwise() {
    in_namespace(|| {
        // The VNI of a VXLAN header (RFC 7348 section 5): 3 bytes, 12 after the UDP header began.
        let vni = Header::Raw { base: PayloadBase::Transport, offset: 12, len: 3 };
        let ruleset = filter(vec![
            Rule::of([Field::Header(vni).is(Value::Integer(vec![0, 0x10, 1])), Statement::Counter]),
            Rule::of([
                Field::UDP_DPORT.between(Value::Service(4000), Value::Service(4999)),
                Verdict::Accept.into(),
            ]),
            Rule::of([Field::Meta(MetaKey::IifKind).is(Value::IfName("vxlan".into()))]),
        ]);
        let mut nft = Nft::open().unwrap();
        nft.apply(&ruleset).unwrap();
        assert_eq!(nft.drift(&ruleset).unwrap(), vec![]);
        let listed = run("nft list ruleset");
        assert!(listed.contains("@th,96,24 0x1001 counter"), "{listed}");
        assert!(listed.contains("udp dport 4000-4999 accept"), "{listed}");
    });
}
