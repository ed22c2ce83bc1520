use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use proptest::prelude::*;

use super::*;

fn networks(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn merged(texts: &[&str]) -> String {
    joined(&Element::networks(&networks(texts)), " ")
}

#[test]
fn networks_that_overlap_or_touch_become_one() {
    assert_eq!(merged(&["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24"]), "10.0.0.0/8 192.0.2.0/24");
    assert_eq!(merged(&["10.0.1.0/24", "10.0.0.0/24"]), "10.0.0.0/23");
    assert_eq!(merged(&["10.0.1.0/24", "10.0.2.0/24"]), "10.0.1.0-10.0.2.255");
    assert_eq!(merged(&["192.0.2.77/24", "192.0.2.1/32"]), "192.0.2.0/24");
    assert_eq!(merged(&["255.255.255.255/32", "::/128", "0.0.0.0/0"]), "0.0.0.0/0 ::");
}

fn network() -> impl Strategy<Value = IpNetwork> {
    // Few leading bits, so that networks meet.
    let v4 = (0u32..16, 0u8..=32).prop_map(|(bits, prefix)| {
        Ipv4Network::new(Ipv4Addr::from(bits << 28 | bits << 4), prefix).unwrap().into()
    });
    let v6 = (0u128..16, 0u8..=128).prop_map(|(bits, prefix)| {
        Ipv6Network::new(Ipv6Addr::from(bits << 124 | bits), prefix).unwrap().into()
    });
    prop_oneof![v4, v6]
}

fn contains(elements: &[Element], address: IpAddr) -> bool {
    let value = Value::from(address);
    elements.iter().any(|element| {
        let span = &element.key[0];
        span.from.data_type() == value.data_type()
            && (span.from.bytes()..=span.to.bytes()).contains(&value.bytes())
    })
}

proptest! {
    #[test]
    fn merging_neither_adds_nor_loses_an_address(networks in prop::collection::vec(network(), 0..8)) {
        let elements = Element::networks(&networks);
        let ends = networks.iter().flat_map(|net| [net.network(), net.broadcast()]);
        let around = ends.flat_map(|ip| match ip {
            IpAddr::V4(ip) => [-1i64, 0, 1].map(|d| IpAddr::V4((u32::from(ip).wrapping_add(d as u32)).into())),
            IpAddr::V6(ip) => [-1i64, 0, 1].map(|d| IpAddr::V6((u128::from(ip).wrapping_add(d as u128)).into())),
        });
        for address in around {
            prop_assert_eq!(contains(&elements, address), networks.iter().any(|net| net.contains(address)));
        }
        // What the kernel demands: in order, with a gap between any two of one family.
        for pair in elements.windows(2) {
            let (last, first) = (&pair[0].key[0].to, &pair[1].key[0].from);
            if last.data_type() == first.data_type() {
                let gap = |value: &Value| value.bytes().iter().fold(0u128, |n, byte| n << 8 | u128::from(*byte));
                prop_assert!(gap(last) + 1 < gap(first));
            }
        }
    }

    #[test]
    fn a_network_is_shown_as_the_network_it_was(network in network()) {
        let span = Span::network(network);
        let whole = IpNetwork::new(network.network(), network.prefix()).unwrap();
        let shown: IpNetwork = span.to_string().parse().unwrap();
        prop_assert_eq!(shown, whole);
    }
}

#[test]
fn elements_must_fit_their_set() {
    let set = SetSpec::set("s", [DataType::IfName, DataType::Ipv4]);
    let name = || Span::from(Value::IfName("mn1".into()));
    let address = || Span::from(Ipv4Addr::new(10, 32, 1, 5));
    assert_eq!(set.check(&Element::key([name(), address()])), Ok(()));
    let error = |element: &Element| set.check(element).unwrap_err().to_string();
    assert_eq!(
        error(&Element::key([address(), name()])),
        "element 10.32.1.5 . \"mn1\" does not fit set s, whose key is ifname . ipv4_addr"
    );
    assert!(matches!(set.check(&Element::key([name()])), Err(ModelError::ElementKey { .. })));
    let with_data = Element::map([name(), address()], [Value::Service(80)]);
    assert!(matches!(set.check(&with_data), Err(ModelError::ElementData { .. })));
    assert_eq!(set.check_key(&with_data), Ok(()));

    let map = SetSpec::map("m", [DataType::Service], [DataType::Ipv4, DataType::Service]);
    let port = || Span::from(Value::Service(80));
    let pod = Value::from(Ipv4Addr::new(10, 32, 1, 5));
    assert_eq!(map.check(&Element::map([port()], [pod.clone(), Value::Service(8080)])), Ok(()));
    let error = map.check(&Element::map([port()], [pod])).unwrap_err().to_string();
    assert_eq!(
        error,
        "element 80 : 10.32.1.5 carries the wrong data for m, which maps to ipv4_addr . inet_service"
    );
}

#[test]
fn ranges_need_a_set_of_ranges_in_network_order() {
    let range = Element::key([Span::range(Value::Service(1), Value::Service(9))]);
    let set = SetSpec::set("s", [DataType::Service]);
    assert!(matches!(set.check(&range), Err(ModelError::ElementRange { .. })));
    assert_eq!(set.interval().check(&range), Ok(()));
    let backwards = Element::key([Span::range(Value::Service(9), Value::Service(1))]);
    let set = SetSpec::set("s", [DataType::Service]).interval();
    assert!(matches!(set.check(&backwards), Err(ModelError::ElementRange { .. })));
    let marks = Element::key([Span::range(Value::Mark(1), Value::Mark(9))]);
    let set = SetSpec::set("s", [DataType::Mark]).interval();
    assert!(matches!(set.check(&marks), Err(ModelError::ElementRange { .. })));
}
