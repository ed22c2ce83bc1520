use proptest::prelude::*;

use super::*;

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(|octets| Ipv6Addr::from(octets).to_canonical()),
    ]
}

fn account() -> impl Strategy<Value = Account> {
    let arrival = (prop::option::of(0u32..1 << 24), address(), "[!-~]{1,15}")
        .prop_map(|(vni, from, interface)| Arrival { vni, from, interface });
    (any::<u8>(), 0u32..1 << 24, any::<[u8; 6]>(), prop::option::of(arrival)).prop_map(
        |(state, vni, counts, arrived)| Account {
            state: State::decode(u16::from(state)),
            vni,
            counts,
            arrived,
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![Just(Kind::Echo), Just(Kind::Watch), Just(Kind::Report)];
    (kind, any::<u64>(), address(), prop::option::of(account()))
        .prop_map(|(kind, token, target, reply)| Message { kind, token, target, reply })
}

proptest! {
    #[test]
    fn survives_the_wire(message in message()) {
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn noise_is_no_message_and_no_panic(mut noise in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Message::decode(&noise).is_err());
        // Also with the right beginning and size; whatever is understood can be said again.
        noise.resize(SIZE, 0);
        noise[..5].copy_from_slice(b"mntr\x01");
        noise[5] = (noise[5] & REPLY) | (noise[5] % 4);
        if let Ok(message) = Message::decode(&noise) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn any_octet_may_be_spoiled(message in message(), octet in 0usize..SIZE, value in any::<u8>()) {
        let mut wire = message.encode();
        wire[octet] = value;
        if let Ok(other) = Message::decode(&wire) {
            prop_assert_eq!(Message::decode(&other.encode()), Ok(other));
        }
    }

    #[test]
    fn a_message_that_was_cut_or_stretched_is_none(message in message(), len in 0usize..200) {
        let mut wire = message.encode().to_vec();
        wire.resize(len, 0);
        prop_assert_eq!(Message::decode(&wire).is_ok(), len == SIZE);
    }
}

#[test]
fn the_layout_is_the_documented_one() {
    let mut account = Account { vni: 0x00_1001, ..Account::default() };
    account.state = State { watching: true, device_up: true, ..State::default() };
    account.count(Point::RequestNic);
    account.arrived = Some(Arrival {
        vni: Some(0x00_1002),
        from: "172.20.0.1".parse().unwrap(),
        interface: "eth0".to_owned(),
    });
    let target = "10.32.2.7".parse().unwrap();
    let wire = Message { kind: Kind::Report, token: 0x0102_0304_0506_0708, target, reply: Some(account) };
    let wire = wire.encode();
    assert_eq!(wire[..8], *b"mntr\x01\x83\x00\x09");
    assert_eq!(wire[8..16], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(wire[26..32], [0xff, 0xff, 10, 32, 2, 7]);
    assert_eq!(wire[32..44], [0, 0, 0x10, 0x01, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(wire[44..48], [0, 0, 0x10, 0x02]);
    assert_eq!(wire[58..69], [0xff, 0xff, 172, 20, 0, 1, b'e', b't', b'h', b'0', 0]);
}

#[test]
fn what_another_version_sends_is_named() {
    let wire = Message::request(Kind::Echo, 7, "::1".parse().unwrap()).encode();
    for (octet, value, part) in [(0, b'x', "no message"), (4, 2, "format 2"), (5, 9, "kind 9")] {
        let mut other = wire;
        other[octet] = value;
        let error = Message::decode(&other).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_count_stays_at_its_greatest() {
    let mut account = Account::default();
    (0..300).for_each(|_| account.count(Point::ReplyNic));
    assert_eq!(account.at(Point::ReplyNic), u8::MAX);
}
