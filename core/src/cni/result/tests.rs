use super::*;

fn result() -> CniResult {
    let gateway4: IpAddr = "10.32.1.1".parse().unwrap();
    let gateway6: IpAddr = "fd00:32:0:1::1".parse().unwrap();
    let address = |text: &str, prefix_len, gateway| IpConfig {
        address: text.parse().unwrap(),
        prefix_len,
        gateway: Some(gateway),
        interface: Some(1),
    };
    let mac = Some("0e:67:00:00:00:01".to_owned());
    CniResult {
        interfaces: vec![
            Interface { name: "mnet0".into(), mac: mac.clone(), mtu: Some(1450), ..Interface::default() },
            Interface {
                name: "eth0".into(),
                mac,
                mtu: Some(1450),
                sandbox: Some("/run/netns/x".into()),
                ..Interface::default()
            },
        ],
        ips: vec![address("10.32.1.5", 32, gateway4), address("fd00:32:0:1::5", 128, gateway6)],
        routes: vec![Route::default_via(gateway4), Route::default_via(gateway6)],
        dns: Dns::default(),
    }
}

/// The result of every version, word for word.
fn golden(version: Version) -> Value {
    let v4 = json!({"dst": "0.0.0.0/0", "gw": "10.32.1.1"});
    let v6 = json!({"dst": "::/0", "gw": "fd00:32:0:1::1"});
    match version {
        Version::V0_1_0 | Version::V0_2_0 => json!({
            "cniVersion": version.as_str(),
            "ip4": {"ip": "10.32.1.5/32", "gateway": "10.32.1.1", "routes": [v4]},
            "ip6": {"ip": "fd00:32:0:1::5/128", "gateway": "fd00:32:0:1::1", "routes": [v6]},
            "dns": {},
        }),
        Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => json!({
            "cniVersion": version.as_str(),
            "interfaces": [
                {"name": "mnet0", "mac": "0e:67:00:00:00:01"},
                {"name": "eth0", "mac": "0e:67:00:00:00:01", "sandbox": "/run/netns/x"},
            ],
            "ips": [
                {"version": "4", "interface": 1, "address": "10.32.1.5/32", "gateway": "10.32.1.1"},
                {"version": "6", "interface": 1, "address": "fd00:32:0:1::5/128", "gateway": "fd00:32:0:1::1"},
            ],
            "routes": [v4, v6],
            "dns": {},
        }),
        Version::V1_0_0 => json!({
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": "mnet0", "mac": "0e:67:00:00:00:01"},
                {"name": "eth0", "mac": "0e:67:00:00:00:01", "sandbox": "/run/netns/x"},
            ],
            "ips": [
                {"interface": 1, "address": "10.32.1.5/32", "gateway": "10.32.1.1"},
                {"interface": 1, "address": "fd00:32:0:1::5/128", "gateway": "fd00:32:0:1::1"},
            ],
            "routes": [v4, v6],
        }),
        Version::V1_1_0 => json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "mnet0", "mac": "0e:67:00:00:00:01", "mtu": 1450},
                {"name": "eth0", "mac": "0e:67:00:00:00:01", "mtu": 1450, "sandbox": "/run/netns/x"},
            ],
            "ips": [
                {"interface": 1, "address": "10.32.1.5/32", "gateway": "10.32.1.1"},
                {"interface": 1, "address": "fd00:32:0:1::5/128", "gateway": "fd00:32:0:1::1"},
            ],
            "routes": [v4, v6],
        }),
    }
}

#[test]
fn every_version_has_its_shape() {
    for version in Version::ALL {
        assert_eq!(result().to_json(version).unwrap(), golden(version), "{version}");
    }
}

#[test]
fn the_position_zero_is_written() {
    let mut result = result();
    result.ips[0].interface = Some(0);
    assert_eq!(result.to_json(Version::V1_0_0).unwrap()["ips"][0]["interface"], 0);
}

#[test]
fn the_oldest_versions_need_an_address() {
    let error = CniResult::default().to_json(Version::V0_2_0).unwrap_err();
    assert!(matches!(error, ResultError::NoAddress { .. }));
}

#[test]
fn every_version_is_read_back_as_far_as_it_goes() {
    for version in Version::ALL {
        let read = CniResult::from_json(&golden(version)).unwrap();
        assert_eq!(read.to_json(version).unwrap(), golden(version), "{version}");
    }
}

#[test]
fn what_only_the_latest_can_say_is_dropped_below() {
    let mut value = golden(Version::V1_1_0);
    value["routes"][0]["scope"] = json!(0);
    value["interfaces"][1]["pciID"] = json!("0000:00:1f.6");
    let read = CniResult::from_json(&value).unwrap();
    assert_eq!(read.to_json(Version::V1_1_0).unwrap(), value);
    assert_eq!(read.to_json(Version::V1_0_0).unwrap(), golden(Version::V1_0_0));
}

#[test]
fn garbage_is_named() {
    for (value, part) in [
        (json!([]), "an object"),
        (json!({"ips": 3}), "ips must be a list"),
        (json!({"ips": [{"address": "10.0.0.1"}]}), "prefix length"),
        (json!({"ips": [{"address": "10.0.0.1/33"}]}), "prefix length"),
        (json!({"routes": [{"dst": "x"}]}), "dst"),
        (json!({"interfaces": ["eth0"]}), "an object"),
    ] {
        let error = CniResult::from_json(&value).unwrap_err().to_string();
        assert!(error.contains(part), "{value}: {error}");
    }
}

#[test]
fn name_servers_are_read_in_both_spellings() {
    let conf =
        json!({"nameservers": ["10.0.0.53"], "search": ["a.k8s"], "domain": "k8s", "options": ["ndots:5"]});
    let runtime =
        json!({"Servers": ["10.0.0.53"], "Searches": ["a.k8s"], "domain": "k8s", "Options": ["ndots:5"]});
    let read = Dns::from_json("dns", &conf).unwrap();
    assert_eq!(read, Dns::from_json("dns", &runtime).unwrap());
    assert_eq!(read.to_json(), conf);
    assert!(Dns::from_json("dns", &json!({"search": "a"})).is_err());
}
