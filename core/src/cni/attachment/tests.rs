use super::*;
use crate::cni::version::Version;
use std::collections::HashSet;

fn key(network: &str, container: &str, ifname: &str) -> Key {
    Key { network: network.into(), container: container.into(), ifname: ifname.into() }
}

fn record() -> Record {
    let key = key("minionet", "c1", "eth0");
    let id = key.id();
    let assigned = |address: &str, gateway: &str| Assigned {
        address: address.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
    };
    Record {
        schema: SCHEMA,
        writer: "0.1.0".into(),
        pod: Some("default/web".into()),
        boot: "b".into(),
        netns: NetnsRef { path: "/run/netns/x".into(), device: 4, inode: 4_026_532_000 },
        origin: Origin { space: u64::MAX, offsets: vec![5] },
        link: PodLink {
            host_ifname: id.host_ifname(),
            alias: id.alias(&key),
            host_mac: MacAddr::POD_GATEWAY,
            ifname: "eth0".into(),
            mac: MacAddr::pod("10.32.1.5".parse().unwrap()),
            mtu: 1450,
            addresses: vec![assigned("10.32.1.5", "10.32.1.1"), assigned("fd00:32:0:1::5", "fd00:32:0:1::1")],
            source_rules: Vec::new(),
        },
        ports: Vec::new(),
        limits: Limits::default(),
        key,
    }
}

#[test]
fn ids_are_stable_across_versions() {
    // Records, interface names and leases of running pods depend on these values.
    let key = key("minionet", "c1", "eth0");
    assert_eq!(key.id().to_string(), "a13d82d907d8fd96acb3ac44e2585d05");
    assert_eq!(key.id().host_ifname(), "mnete9de580a093");
    assert_eq!(key.id().to_string().parse(), Ok(key.id()));
}

#[test]
fn parts_do_not_run_into_each_other() {
    assert_ne!(key("a", "b-c", "d").id(), key("a-b", "c", "d").id());
    assert_ne!(key("a", "bc", "d").id(), key("ab", "c", "d").id());
}

#[test]
fn interface_names_are_spread_and_short_enough() {
    let names: HashSet<_> =
        (0..20_000).map(|i| key("minionet", &format!("pod-{i}"), "eth0").id().host_ifname()).collect();
    assert_eq!(names.len(), 20_000);
    assert!(names.iter().all(|name| name.len() == 15));
}

#[test]
fn what_is_no_id_is_no_id() {
    for bad in ["", "x", &"A".repeat(32), &"0".repeat(31), "+0000000000000000000000000000000"] {
        assert_eq!(bad.parse::<Id>(), Err(NotAnId), "{bad}");
    }
}

#[test]
fn the_alias_begins_with_the_whole_id_and_fits() {
    let key = key(&"n".repeat(200), &"c".repeat(300), "é0");
    let alias = key.id().alias(&key);
    assert!(alias.len() <= 255, "{}", alias.len());
    assert!(alias.starts_with(&format!("minionet {} nnn", key.id())));
    assert!(alias.starts_with(&key.id().alias_start()));
    assert_eq!(Id::from_alias(&alias), Some(key.id()));
    assert_eq!(Id::from_alias("minionet of mine"), None);
}

#[test]
fn a_record_survives_the_round_trip() {
    let record = record();
    assert_eq!(Record::parse(record.key.id(), record.to_text().as_bytes()).unwrap(), record);
    assert!(record.belongs_to(&record.key).is_ok());
    assert!(record.belongs_to(&key("minionet", "c2", "eth0")).is_err());
}

#[test]
fn rules_by_source_are_for_the_families_whose_default_route_is_anothers() {
    let mut record = record();
    let rules = record.link.rules_beside(3, &[Family::V4]);
    let [rule] = rules[..] else { panic!("{rules:?}") };
    assert_eq!(rule.source, record.link.addresses[1].address);
    assert_eq!((rule.gateway, rule.table), (record.link.addresses[1].gateway, 0x8000_0003));
    assert_eq!(record.link.rules_beside(i32::MAX as u32, &[])[0].table, u32::MAX);
    assert!(record.link.rules_beside(3, &[Family::V4, Family::V6]).is_empty());
    // Nothing is said of what is not there, as before there was such a thing.
    assert!(!record.to_text().contains("source_rules"));
    record.link.source_rules = rules;
    assert_eq!(Record::parse(record.key.id(), record.to_text().as_bytes()).unwrap(), record);
}

#[test]
fn a_record_of_an_unknown_format_is_refused() {
    let id = record().key.id();
    let error = Record::parse(id, br#"{"schema": 9}"#).unwrap_err();
    assert!(matches!(error, RecordError::Schema { found: 9, .. }), "{error}");
    for bad in ["", "{}", "{\"schema\": 1}"] {
        assert!(matches!(Record::parse(id, bad.as_bytes()), Err(RecordError::Malformed { .. })), "{bad}");
    }
}

#[test]
fn the_result_comes_after_what_was_there() {
    let before = CniResult {
        interfaces: vec![Interface { name: "ifb0".into(), ..Interface::default() }],
        ..CniResult::default()
    };
    let result = record().result(before, None);
    let names: Vec<_> = result.interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["ifb0", &record().link.host_ifname, "eth0"]);
    assert_eq!(result.ips.iter().map(|ip| ip.interface).collect::<Vec<_>>(), [Some(2), Some(2)]);
    assert_eq!(result.interfaces[2].sandbox.as_deref(), Some("/run/netns/x"));
    assert!(result.to_json(Version::V0_1_0).is_ok());
}
