use super::*;

fn interest() -> Interest {
    Interest {
        device: "minionet".into(),
        links: vec![7],
        protocol: 109,
        table: "minionet".into(),
        chains: vec![("filter".into(), "FORWARD".into())],
        pod_links: "mnet".into(),
        ..Interest::default()
    }
}

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend((16 + body.len() as u32).to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.resize(16, 0);
    octets.extend(body);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

fn noticed(source: Source, datagram: &[u8]) -> bool {
    messages(datagram).any(|m| concerns(source, &m, &interest()))
}

fn link(index: u32, name: &str) -> Vec<u8> {
    let mut body = vec![0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body.extend((5 + name.len() as u16).to_ne_bytes());
    body.extend(3u16.to_ne_bytes());
    body.extend(name.as_bytes());
    body.push(0);
    message(16, &body)
}

#[test]
fn only_what_may_concern_us_is_noticed() {
    assert!(noticed(Source::Route, &link(7, "eth0")));
    assert!(noticed(Source::Route, &link(99, "minionet")), "a device that was made anew");
    assert!(!noticed(Source::Route, &link(99, "veth0")));
    assert!(noticed(Source::Route, &message(25, &[2, 24, 0, 0, 254, 109, 0, 1])));
    assert!(!noticed(Source::Route, &message(25, &[2, 24, 0, 0, 254, 110, 0, 1])), "a pod's route");
    let setting = |index: u32| {
        let mut body = vec![2, 0, 0, 0, 8, 0, 1, 0];
        body.extend(index.to_ne_bytes());
        message(80, &body)
    };
    assert!(noticed(Source::Route, &setting(7)) && noticed(Source::Route, &setting(u32::MAX)));
    assert!(!noticed(Source::Route, &setting(99)), "settings of a pod's interface");
    assert!(!noticed(Source::Route, &setting(u32::MAX - 1)), "those of interfaces to come");
    let object = |kind: u16, protocol: u8, number: u32| {
        let mut body = vec![2, 0, protocol, 0, 0, 0, 0, 0, 8, 0, 1, 0];
        body.extend(number.to_ne_bytes());
        message(kind, &body)
    };
    assert!(noticed(Source::Route, &object(105, 109, 7)) && noticed(Source::Route, &object(104, 109, 7)));
    assert!(noticed(Source::Route, &object(104, 196, 0x0a20_0201)), "a stranger's in the place of ours");
    assert!(!noticed(Source::Route, &object(104, 196, 7)), "a routing daemon's");
    let both = [link(99, "veth0"), message(29, &[2, 0, 0, 0, 7, 0, 0, 0])].concat();
    assert!(noticed(Source::Route, &both), "the second message of a datagram");
}

#[test]
fn what_was_in_the_way_and_is_gone_is_noticed() {
    let refused = ["10.32.2.0/24", "fd00:32:0:2::/64"].map(|c| c.parse().unwrap()).into();
    let waiting = Interest { refused: Some(refused), ..interest() };
    let free = |datagram: &[u8]| messages(datagram).any(|m| frees(&m, &waiting));
    let route = |kind: u16, family: u8, len: u8, protocol: u8, dst: &[u8]| {
        let mut body = vec![family, len, 0, 0, 254, protocol, 0, 1, 0, 0, 0, 0];
        body.extend((4 + dst.len() as u16).to_ne_bytes());
        body.extend(1u16.to_ne_bytes());
        body.extend(dst);
        message(kind, &body)
    };
    let gone = route(25, 2, 24, 3, &[10, 32, 2, 0]);
    assert!(free(&gone));
    assert!(!messages(&gone).any(|m| frees(&m, &interest())), "nothing is refused");
    let v6: std::net::Ipv6Addr = "fd00:32:0:2::".parse().unwrap();
    assert!(free(&route(25, 10, 64, 3, &v6.octets())));
    assert!(!free(&route(24, 2, 24, 3, &[10, 32, 2, 0])), "one that comes");
    assert!(!free(&route(25, 2, 24, 109, &[10, 32, 2, 0])), "one of ours");
    assert!(!free(&route(25, 2, 25, 3, &[10, 32, 2, 0])) && !free(&route(25, 2, 24, 3, &[10, 32, 3, 0])));
    let link = |kind: u16, up: u8, name: &str| {
        let mut octets = link(99, name);
        octets[4..6].copy_from_slice(&kind.to_ne_bytes());
        octets[24] = up;
        octets
    };
    assert!(free(&link(17, 1, "rival")) && free(&link(16, 0, "eth1")));
    assert!(!free(&link(16, 1, "eth1")), "one that is up");
    assert!(!free(&link(17, 0, "mnet0123456789a")), "a pod's");
    assert!(free(&message(105, &[2, 0, 3, 0, 0, 0, 0, 0])), "routes went with an object");
    assert!(!free(&message(25, &[2])) && !free(&message(28, &[])));
}

#[test]
fn nft_changes_are_known_by_their_table() {
    let table = |name: &str| {
        let mut body = vec![1, 0, 0, 0];
        body.extend((5 + name.len() as u16).to_ne_bytes());
        body.extend(1u16.to_ne_bytes());
        body.extend(name.as_bytes());
        body.push(0);
        message(0x0a02, &body)
    };
    assert!(noticed(Source::Nft, &table("minionet")));
    assert!(!noticed(Source::Nft, &table("kube-proxy")));
    let object = |kind: u16, names: &[(u16, &str)]| {
        let mut body = vec![2, 0, 0, 0];
        for (attribute, name) in names {
            body.extend((5 + name.len() as u16).to_ne_bytes());
            body.extend(attribute.to_ne_bytes());
            body.extend(name.as_bytes());
            body.push(0);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        message(0x0a00 | kind, &body)
    };
    assert!(noticed(Source::Nft, &object(3, &[(1, "other"), (3, "c"), (4, "a hook")])));
    assert!(!noticed(Source::Nft, &object(3, &[(1, "other"), (3, "c")])), "a chain at no hook");
    assert!(noticed(Source::Nft, &object(6, &[(1, "filter"), (2, "FORWARD")])));
    assert!(noticed(Source::Nft, &object(5, &[(1, "filter"), (3, "FORWARD")])));
    assert!(!noticed(Source::Nft, &object(6, &[(1, "filter"), (2, "INPUT")])));
}

#[test]
fn mangled_notifications_do_no_harm() {
    for octets in [&[][..], &[1], &[0; 16], &[255; 40]] {
        noticed(Source::Route, octets);
        noticed(Source::Nft, octets);
    }
    assert!(noticed(Source::Route, &message(28, &[])), "what is not understood is looked at");
}
