use serde_json::json;

use super::*;

fn mappings(value: Value) -> Result<Vec<PortMapping>, PortError> {
    read(Some(&value))
}

fn tcp(host_ip: Option<&str>, host_port: u16) -> PortMapping {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    PortMapping { protocol: Protocol::Tcp, host_ip, host_port, container_port: 80 }
}

#[test]
fn every_runtime_is_understood() {
    // containerd, CRI-O, Docker's habit, and numbers as Go passes them on.
    let containerd = json!([{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}]);
    let crio = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "TCP"}]);
    let floating = json!([{"hostPort": 8080.0, "containerPort": 8.0e1, "hostIP": null, "protocol": ""}]);
    for value in [containerd, crio, floating] {
        assert_eq!(mappings(value).unwrap(), [tcp(None, 8080)]);
    }
    let other = json!([
        {"hostPort": 53, "containerPort": 5353, "protocol": "Udp", "hostIP": "::ffff:192.0.2.1"},
        {"hostPort": 53, "containerPort": 5353, "protocol": "sctp", "hostIP": "::"},
    ]);
    let read = mappings(other).unwrap();
    assert_eq!((read[0].protocol, read[0].host_ip), (Protocol::Udp, Some("192.0.2.1".parse().unwrap())));
    assert_eq!((read[1].protocol, read[1].single_host_ip()), (Protocol::Sctp, None));
    assert!(super::read(None).unwrap().is_empty());
}

#[test]
fn what_makes_no_sense_is_refused_with_its_key() {
    let one = |change: Value| {
        let mut mapping = json!({"hostPort": 1, "containerPort": 1});
        mapping.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        mappings(json!([mapping])).unwrap_err()
    };
    for (change, key, code) in [
        (json!({"hostPort": 0}), "hostPort", Code::InvalidConfig),
        (json!({"hostPort": null}), "hostPort is missing", Code::InvalidConfig),
        (json!({"hostPort": 65536}), "65536", Code::InvalidConfig),
        (json!({"hostPort": "80"}), "\"80\"", Code::InvalidConfig),
        (json!({"containerPort": -1}), "containerPort", Code::InvalidConfig),
        (json!({"containerPort": 0}), "containerPort", Code::InvalidConfig),
        (json!({"protocol": "icmp"}), "icmp", Code::UnsupportedField),
        (json!({"protocol": 6}), "6", Code::UnsupportedField),
        (json!({"hostIP": "::1"}), "127.0.0.1", Code::InvalidConfig),
        (json!({"hostIP": "localhost"}), "localhost", Code::InvalidConfig),
    ] {
        let error = one(change);
        assert!(error.to_string().contains(key), "{error}");
        assert_eq!(error.code(), code, "{error}");
    }
    assert_eq!(mappings(json!({})).unwrap_err().code(), Code::Decode);
    assert_eq!(mappings(json!([80])).unwrap_err().code(), Code::Decode);
}

#[test]
fn a_port_leads_to_one_place() {
    let twice = json!([
        {"hostPort": 80, "containerPort": 80}, {"hostPort": 80, "containerPort": 81, "protocol": "tcp"}]);
    assert!(matches!(mappings(twice).unwrap_err(), PortError::Duplicate { .. }));
    let repeated = json!([
        {"hostPort": 80, "containerPort": 81}, {"HostPort": 80, "ContainerPort": 81, "Protocol": "TCP"}]);
    assert_eq!(mappings(repeated).unwrap(), [PortMapping { container_port: 81, ..tcp(None, 80) }]);
    let cases = [
        (tcp(None, 80), tcp(Some("192.0.2.1"), 80), true),
        (tcp(Some("0.0.0.0"), 80), tcp(Some("192.0.2.1"), 80), true),
        (tcp(Some("0.0.0.0"), 80), tcp(Some("::"), 80), false),
        (tcp(Some("::"), 80), tcp(Some("192.0.2.1"), 80), false),
        (tcp(Some("192.0.2.2"), 80), tcp(Some("192.0.2.1"), 80), false),
        (tcp(None, 80), tcp(None, 81), false),
        (tcp(None, 80), PortMapping { protocol: Protocol::Udp, ..tcp(None, 80) }, false),
    ];
    for (one, other, overlap) in cases {
        assert_eq!(one.overlaps(&other), overlap, "{one}, {other}");
        assert_eq!(other.overlaps(&one), overlap, "{other}, {one}");
    }
}

#[test]
fn a_mapping_needs_an_address_of_its_family() {
    let v4: IpAddr = "10.32.0.2".parse().unwrap();
    assert!(check(&[tcp(None, 80), tcp(Some("0.0.0.0"), 81)], [v4]).is_ok());
    let error = check(&[tcp(Some("::"), 80)], [v4]).unwrap_err();
    assert!(error.to_string().contains("no IPv6 address"), "{error}");
}

#[test]
fn only_what_listens_on_loopback_serves_it() {
    for (ip, serves) in [
        (None, true),
        (Some("0.0.0.0"), true),
        (Some("127.0.0.1"), true),
        (Some("192.0.2.1"), false),
        (Some("::"), false),
    ] {
        assert_eq!(tcp(ip, 80).serves_loopback4(), serves, "{ip:?}");
    }
}
