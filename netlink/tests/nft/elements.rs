//! Elements of sets and maps, one by one and by the thousand.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use minionet_core::nft::{
    DataType, Element, Field, Rule, Ruleset, SetSpec, Span, Statement, TABLE, Value, Verdict,
};
use minionet_netlink::nft::Nft;
use nix::errno::Errno;

use crate::support::{filter, in_namespace, run};

fn members() -> SetSpec {
    SetSpec::set("members", [DataType::Ipv4])
}

fn member(number: u32) -> Element {
    Element::key([Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 0, 0)) + number).into()])
}

fn ports() -> SetSpec {
    SetSpec::map(
        "ports",
        [DataType::Ipv4, DataType::Proto, DataType::Service],
        [DataType::Ipv4, DataType::Service],
    )
    .interval()
}

fn port(host_port: u16, pod: u8) -> Element {
    Element::map(
        [
            Span::network("0.0.0.0/0".parse().unwrap()),
            Value::Proto(17).into(),
            Value::Service(host_port).into(),
        ],
        [Ipv4Addr::new(10, 32, 1, pod).into(), Value::Service(53)],
    )
}

fn with_sets(sets: impl IntoIterator<Item = SetSpec>) -> Ruleset {
    let mut ruleset = Ruleset::new(TABLE);
    ruleset.sets = sets.into_iter().map(SetSpec::kept).collect();
    ruleset
}

#[test]
fn elements_take_effect_at_once() {
    in_namespace(|| {
        let mut ruleset = filter(vec![Rule::of([
            Field::UDP_DPORT.is(Value::Service(4789)),
            Field::IP_SADDR.none_of("members"),
            Statement::Counter,
            Verdict::Drop.into(),
        ])]);
        ruleset.sets.push(members().kept());
        let mut nft = Nft::open().unwrap();
        nft.apply(&ruleset).unwrap();
        let receiver = UdpSocket::bind("127.0.0.1:4789").unwrap();
        // Loopback delivers before sending returns; the timeout only bounds a failure.
        receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let sender = UdpSocket::bind("127.0.0.2:0").unwrap();
        let arrives = || {
            sender.send_to(b"x", "127.0.0.1:4789").unwrap();
            receiver.recv(&mut [0; 4]).is_ok()
        };
        assert!(!arrives(), "not a member yet");
        nft.add_elements(TABLE, &members(), &[member(2)]).unwrap();
        assert!(arrives(), "a member");
        nft.delete_elements(TABLE, &members(), &[member(2)]).unwrap();
        assert!(!arrives(), "no longer a member");
        let found = nft.dump(TABLE).unwrap().unwrap();
        assert_eq!(found.chains[0].rules[0].counter.unwrap().0, 2);
    });
}

#[test]
fn adding_and_deleting_again_is_no_error() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        nft.apply(&with_sets([members(), ports()])).unwrap();
        for _ in 0..2 {
            nft.add_elements(TABLE, &members(), &[member(1), member(2)]).unwrap();
            nft.add_elements(TABLE, &ports(), &[port(80, 5)]).unwrap();
        }
        assert_eq!(nft.elements(TABLE, &members()).unwrap(), [member(1), member(2)]);
        assert_eq!(nft.elements(TABLE, &ports()).unwrap(), [port(80, 5)]);
        for _ in 0..2 {
            nft.delete_elements(TABLE, &members(), &[member(2), member(3)]).unwrap();
            nft.delete_elements(TABLE, &ports(), &[port(80, 5), port(81, 5)]).unwrap();
        }
        assert_eq!(nft.elements(TABLE, &members()).unwrap(), [member(1)]);
        assert_eq!(nft.elements(TABLE, &ports()).unwrap(), []);
        nft.delete_elements(TABLE, &members(), &[]).unwrap();
    });
}

#[test]
fn a_map_keeps_its_data_unless_it_is_put() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        nft.apply(&with_sets([ports()])).unwrap();
        nft.add_elements(TABLE, &ports(), &[port(80, 5)]).unwrap();
        let clash = nft.add_elements(TABLE, &ports(), &[port(80, 6), port(81, 6)]).unwrap_err();
        assert_eq!(clash.errno(), Some(Errno::EEXIST), "{clash}");
        assert_eq!(nft.elements(TABLE, &ports()).unwrap(), [port(80, 5)]);
        nft.put_elements(TABLE, &ports(), &[port(80, 6), port(81, 6)]).unwrap();
        assert_eq!(nft.elements(TABLE, &ports()).unwrap(), [port(80, 6), port(81, 6)]);
        // The key alone says what goes, whatever its data.
        let gone = Element { data: None, ..port(80, 0) };
        nft.delete_elements(TABLE, &ports(), &[gone, port(81, 99)]).unwrap();
        assert_eq!(nft.elements(TABLE, &ports()).unwrap(), []);
    });
}

#[test]
fn one_element_can_be_looked_up() {
    in_namespace(|| {
        let to_pod = SetSpec::map("to-pod", [DataType::Service], [DataType::Ipv4]);
        let entry = |port, pod| {
            let pod = Ipv4Addr::new(10, 32, 1, pod).into();
            Element::map([Value::Service(port).into()], [pod])
        };
        let mut nft = Nft::open().unwrap();
        nft.apply(&with_sets([members(), to_pod.clone(), ports()])).unwrap();
        nft.add_elements(TABLE, &members(), &[member(1)]).unwrap();
        nft.add_elements(TABLE, &to_pod, &[entry(80, 5)]).unwrap();
        nft.add_elements(TABLE, &ports(), &[port(80, 5)]).unwrap();
        assert_eq!(nft.element(TABLE, &members(), &member(1)).unwrap(), Some(member(1)));
        assert_eq!(nft.element(TABLE, &members(), &member(2)).unwrap(), None);
        assert_eq!(nft.element(TABLE, &to_pod, &entry(80, 9)).unwrap(), Some(entry(80, 5)));
        assert_eq!(nft.element(TABLE, &to_pod, &entry(81, 9)).unwrap(), None);
        assert_eq!(nft.element(TABLE, &ports(), &port(80, 9)).unwrap(), Some(port(80, 5)));
        assert_eq!(nft.element(TABLE, &ports(), &port(81, 9)).unwrap(), None);
    });
}

#[test]
fn thousands_of_elements() {
    const MANY: u32 = 4000;
    in_namespace(|| {
        let all: Vec<Element> = (0..MANY).map(member).collect();
        let nets: Vec<Element> = (0..MANY)
            .map(|number| {
                // With a gap after each, or they would be one.
                let first = u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number * 512;
                Element::key([Span::range(Ipv4Addr::from(first), Ipv4Addr::from(first + 255))])
            })
            .collect();
        let map: Vec<Element> = (0..MANY as u16).map(|number| port(number, 1)).collect();
        let net_set = SetSpec::set("nets", [DataType::Ipv4]).interval();
        let mut ruleset = Ruleset::new(TABLE);
        ruleset.sets =
            vec![members().with(all.clone()), net_set.clone().with(nets.clone()), ports().with(map.clone())];
        let mut nft = Nft::open().unwrap();
        nft.apply(&ruleset).unwrap();
        assert_eq!(nft.drift(&ruleset).unwrap(), vec![]);
        let listed = run("nft list set inet minionet nets").matches('/').count();
        assert_eq!(listed, MANY as usize);

        nft.delete_elements(TABLE, &net_set, &nets[1..]).unwrap();
        assert_eq!(nft.elements(TABLE, &net_set).unwrap(), nets[..1]);
        nft.add_elements(TABLE, &net_set, &nets).unwrap();
        assert_eq!(nft.elements(TABLE, &net_set).unwrap(), nets);
        // One of them is not there, so the set is read first.
        nft.delete_elements(TABLE, &members(), &[&all[..], &[member(MANY)]].concat()).unwrap();
        assert_eq!(nft.elements(TABLE, &members()).unwrap(), []);
    });
}
