use super::*;
use crate::cni::attachment::{Key, Limits, NetnsRef, PodLink, SCHEMA};
use crate::cni::ipam::{Assigned, Origin};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn record() -> Record {
    let key = Key { network: "n".into(), container: "c".into(), ifname: "eth0".into() };
    let assigned = |address, gateway| Assigned { address: ip(address), gateway: ip(gateway) };
    Record {
        schema: SCHEMA,
        writer: "test".into(),
        pod: None,
        boot: "b".into(),
        netns: NetnsRef { path: "/run/netns/x".into(), device: 4, inode: 7 },
        origin: Origin::default(),
        link: PodLink {
            host_ifname: key.id().host_ifname(),
            alias: key.id().alias(&key),
            host_mac: MacAddr::POD_GATEWAY,
            ifname: "eth0".into(),
            mac: MacAddr::pod(ip("10.32.1.5")),
            mtu: 1450,
            addresses: vec![assigned("10.32.1.5", "10.32.1.1"), assigned("fd00::5", "fd00::1")],
            source_rules: Vec::new(),
        },
        ports: Vec::new(),
        limits: Limits::default(),
        key,
    }
}

fn result() -> CniResult {
    record().result(CniResult::default(), None)
}

fn whole() -> Observed {
    let record = record();
    let host = End {
        index: 9,
        peer: Some(2),
        kind: Some("veth".into()),
        up: true,
        mac: Some(record.link.host_mac),
        mtu: 1450,
        alias: Some(record.link.alias.clone()),
        master: None,
        doomed: false,
    };
    let pod = End { index: 2, peer: Some(9), mac: Some(record.link.mac), alias: None, ..host.clone() };
    let addresses: Vec<IpAddr> = record.link.addresses.iter().map(|a| a.address).collect();
    let gateways: Vec<IpAddr> = record.link.addresses.iter().map(|a| a.gateway).collect();
    Observed {
        host: Some(host),
        host_routes: addresses.clone(),
        host_neighbours: addresses.iter().map(|a| (*a, record.link.mac)).collect(),
        loopback_up: true,
        pod: Some(pod),
        addresses: addresses.iter().map(|a| (*a, Family::of(*a).bits())).collect(),
        on_link: gateways.clone(),
        defaults: gateways.clone(),
        pod_neighbours: gateways.iter().map(|g| (*g, record.link.host_mac)).collect(),
        source_rules: Vec::new(),
    }
}

/// What is found after a change to the kernel's state.
fn after(change: impl FnOnce(&mut Observed)) -> Vec<String> {
    let mut observed = whole();
    change(&mut observed);
    differences(&record(), &result(), &observed)
}

#[test]
fn what_is_whole_has_no_difference() {
    assert!(after(|_| {}).is_empty());
}

#[test]
fn every_damage_is_found() {
    let host = |change: fn(&mut End)| after(|o| change(o.host.as_mut().unwrap()));
    let pod = |change: fn(&mut End)| after(|o| change(o.pod.as_mut().unwrap()));
    let damages = [
        ("is gone", after(|o| o.host = None)),
        ("is gone", after(|o| o.pod = None)),
        ("is down", host(|e| e.up = false)),
        ("is down", pod(|e| e.up = false)),
        ("lo of the container", after(|o| o.loopback_up = false)),
        ("bridge", host(|e| e.master = Some(3))),
        ("destroyed", host(|e| e.doomed = true)),
        ("is not the one", host(|e| e.alias = None)),
        ("is not the one", pod(|e| e.kind = Some("dummy".into()))),
        ("lost its MAC", host(|e| e.mac = Some(MacAddr([2; 6])))),
        ("not the two ends", pod(|e| e.peer = Some(4))),
        ("larger than the host's", pod(|e| e.mtu = 1500)),
        ("less than 1280", pod(|e| e.mtu = 1000)),
        ("no route to fd00::5", after(|o| o.host_routes.truncate(1))),
        ("does not know the neighbour fd00::5", after(|o| o.host_neighbours.truncate(1))),
        ("does not know the neighbour fd00::5", after(|o| o.host_neighbours[1].1 = MacAddr([2; 6]))),
        ("for the MAC of fd00::1", after(|o| o.pod_neighbours[1].1 = MacAddr([2; 6]))),
        ("address fd00::5 is not", after(|o| o.addresses.truncate(1))),
        ("gateway fd00::1 is missing", after(|o| o.on_link.truncate(1))),
        ("default route (IPv6)", after(|o| o.defaults.truncate(1))),
    ];
    for (text, found) in damages {
        assert!(found.iter().any(|f| f.contains(text)), "{text}: {found:?}");
    }
}

#[test]
fn what_plugins_behind_us_change_is_allowed() {
    let tuned = MacAddr([2, 0, 0, 0, 0, 9]);
    let mut observed = whole();
    let pod = observed.pod.as_mut().unwrap();
    (pod.mac, pod.mtu) = (Some(tuned), 1300);
    observed.host_neighbours = record().link.addresses.iter().map(|a| (a.address, tuned)).collect();
    observed.pod_neighbours.clear();
    observed.addresses.push((ip("192.168.0.7"), 24));
    observed.on_link.push(ip("192.168.0.1"));
    observed.defaults.push(ip("192.168.0.1"));
    let mut told = result();
    told.interfaces[1].mac = Some(tuned.to_string());
    assert_eq!(differences(&record(), &told, &observed), [""; 0]);
    // Not told: nobody legitimate did it. Told and not there: somebody undid it.
    assert_eq!(differences(&record(), &result(), &observed).len(), 1);
    assert_eq!(differences(&record(), &told, &whole()).len(), 1);
}

#[test]
fn a_default_route_that_was_not_promised_is_not_missed() {
    let mut observed = whole();
    observed.defaults.clear();
    let mut second = result();
    second.routes.clear();
    assert_eq!(differences(&record(), &second, &observed), [""; 0]);
}

#[test]
fn rules_by_source_are_missed_where_they_were_made() {
    let mut beside = record();
    beside.link.source_rules = beside.link.rules_beside(2, &[Family::V4]);
    let mut observed = whole();
    observed.source_rules = beside.link.source_rules.clone();
    assert_eq!(differences(&beside, &result(), &observed), [""; 0]);
    observed.source_rules.clear();
    let found = differences(&beside, &result(), &observed);
    assert!(found.len() == 1 && found[0].contains("from fd00::5"), "{found:?}");
}

#[test]
fn the_result_must_be_that_of_the_record() {
    let mut other = result();
    other.ips.remove(0);
    other.interfaces[1].sandbox = Some("/run/netns/y".into());
    assert_eq!(differences(&record(), &other, &whole()).len(), 2);
    let mut other = result();
    other.interfaces[0].mac = Some("02:00:00:00:00:09".into());
    assert_eq!(differences(&record(), &other, &whole()).len(), 1);
    other.interfaces.clear();
    assert_eq!(differences(&record(), &other, &whole()).len(), 1, "ours is not named");
}
