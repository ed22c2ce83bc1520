//! Elements of several maps at once: host ports.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use minionet_core::addr::Family;
use minionet_core::cni::portmap::{PortMapping, Protocol};
use minionet_core::nft::{MapContents, TABLE, host_port_elements, host_port_maps, host_ports, map_changes};
use minionet_netlink::conntrack::{Conntrack, Pattern};
use minionet_netlink::nft::Nft;
use nix::errno::Errno;

use crate::support::{Namespace, in_namespace, run};

fn of(pods: &[(u16, &str)]) -> Vec<MapContents> {
    let mappings: Vec<PortMapping> = pods
        .iter()
        .map(|(port, _)| PortMapping {
            protocol: Protocol::Udp,
            host_ip: None,
            host_port: *port,
            container_port: 53,
        })
        .collect();
    let addresses = pods.iter().map(|(_, pod)| vec![pod.parse::<IpAddr>().unwrap()]);
    host_port_elements(mappings.chunks(1).zip(addresses))
}

fn with_maps() -> Nft {
    let mut nft = Nft::open().unwrap();
    nft.apply(&host_ports("mn")).unwrap();
    nft
}

fn held(nft: &mut Nft) -> Vec<MapContents> {
    nft.read_maps(TABLE, &host_port_maps()).unwrap().maps
}

#[test]
fn elements_are_put_replaced_and_removed() {
    in_namespace(|| {
        let mut nft = with_maps();
        let (old, new) = (of(&[(1, "10.32.1.2"), (1, "fd00::2")]), of(&[(1, "10.32.1.3"), (2, "10.32.1.3")]));
        nft.put_maps(TABLE, &old).unwrap();
        nft.put_maps(TABLE, &old).unwrap();
        assert_eq!(held(&mut nft), old);
        nft.put_maps(TABLE, &new).unwrap();
        // What leads elsewhere by now is not the old one's to remove.
        nft.remove_maps(TABLE, &old).unwrap();
        assert_eq!(held(&mut nft), new);
        nft.remove_maps(TABLE, &old).unwrap();
        nft.remove_maps(TABLE, &new).unwrap();
        assert_eq!(held(&mut nft), of(&[]));
    });
}

#[test]
fn the_table_is_replaced_around_its_elements() {
    in_namespace(|| {
        let mut nft = with_maps();
        let there = of(&[(1, "10.32.1.2")]);
        nft.put_maps(TABLE, &there).unwrap();
        nft.apply(&host_ports("mn")).unwrap();
        assert_eq!(held(&mut nft), there);
        assert_eq!(nft.drift(&host_ports("mn")).unwrap(), vec![]);
    });
}

#[test]
fn a_change_that_was_overtaken_is_refused_as_such() {
    in_namespace(|| {
        let mut nft = with_maps();
        let found = nft.read_maps(TABLE, &host_port_maps()).unwrap();
        let wanted = of(&[(1, "10.32.1.2")]);
        nft.put_maps(TABLE, &of(&[(2, "10.32.1.3")])).unwrap();
        let (unexpected, missing) = map_changes(&wanted, &found.maps);
        let error = nft.change_maps(TABLE, &unexpected, &missing, Some(found.generation)).unwrap_err();
        assert!(error.is_race(), "{error}");
        assert_eq!(held(&mut nft), of(&[(2, "10.32.1.3")]));
    });
}

#[test]
fn without_a_table_nothing_is_removed_and_nothing_can_be_put() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        assert_eq!(held(&mut nft), of(&[]));
        nft.remove_maps(TABLE, &of(&[(1, "10.32.1.2")])).unwrap();
        let error = nft.put_maps(TABLE, &of(&[(1, "10.32.1.2")])).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOENT), "{error}");
    });
}

/// Two pods behind a host: a client's connection stays with the first until it is forgotten.
#[test]
fn a_forgotten_connection_is_decided_about_again() {
    let (host, one, two) = (Namespace::new(), Namespace::new(), Namespace::new());
    for (number, pod) in [(1, &one), (2, &two)] {
        host.run(&format!(
            "ip link add mn{number} type veth peer name eth0 netns {}; ip addr add 10.32.{number}.1/24 dev mn{number}; \
             ip link set mn{number} up; sysctl -qw net.ipv4.conf.mn{number}.route_localnet=1",
            pod.path()
        ));
        pod.run(&format!(
            "ip addr add 10.32.{number}.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.32.{number}.1"
        ));
    }
    let echo = |pod: &Namespace, name: &'static str| {
        let socket = pod.udp("0.0.0.0:53");
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((_, client)) = socket.recv_from(&mut buffer) {
                socket.send_to(name.as_bytes(), client).unwrap();
            }
        })
    };
    let (first, second) = (echo(&one, "one"), echo(&two, "two"));
    host.within(|| {
        let mut nft = with_maps();
        nft.put_maps(TABLE, &of(&[(5353, "10.32.1.2")])).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect("127.0.0.1:5353").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let ask = || {
            client.send(b"?").unwrap();
            let mut buffer = [0; 16];
            let length = client.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert_eq!(ask(), "one");
        nft.put_maps(TABLE, &of(&[(5353, "10.32.2.2")])).unwrap();
        assert_eq!(ask(), "one", "this is what has to be forgotten");

        let mut conntrack = Conntrack::open().unwrap();
        let port = |family, port| Pattern::ToPort { family, protocol: 17, port };
        let v4 = Family::V4;
        assert_eq!(conntrack.forget(port(v4, 5354), |_| true).unwrap(), 0);
        assert_eq!(conntrack.forget(port(Family::V6, 5353), |_| true).unwrap(), 0);
        assert_eq!(conntrack.forget(port(v4, 5353), |_| false).unwrap(), 0);
        assert_eq!(ask(), "one");
        assert_eq!(
            conntrack.forget(port(v4, 5353), |flow| flow.original.destination.is_loopback()).unwrap(),
            1
        );
        assert_eq!(ask(), "two");

        let answering: IpAddr = "10.32.2.2".parse().unwrap();
        assert_eq!(conntrack.forget(Pattern::From(answering), |_| true).unwrap(), 0);
        assert_eq!(conntrack.forget(Pattern::AnsweredBy(answering), |_| true).unwrap(), 1);
        let client: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(ask(), "two");
        assert_eq!(conntrack.forget(Pattern::From(client), |flow| flow.original.protocol == 17).unwrap(), 1);
        run("nft flush ruleset");
    });
    drop((first, second));
}
