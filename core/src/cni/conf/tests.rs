use super::*;
use serde_json::json;

fn parse(value: Value) -> Result<NetConf, ConfError> {
    NetConf::parse(value.to_string().as_bytes())
}

fn code(stdin: &[u8]) -> Code {
    NetConf::parse(stdin).unwrap_err().code()
}

#[test]
fn what_is_no_object_cannot_be_decoded() {
    for bad in ["", "{\"cniVersion\":", "[]", "{} {}", "\u{feff}{}", "3", "\"x\""] {
        assert_eq!(code(bad.as_bytes()), Code::Decode, "{bad}");
    }
    let deep = [vec![b'['; 20_000], vec![b']'; 20_000]].concat();
    assert_eq!(code(&deep), Code::Decode);
    assert_eq!(code(&[0xff, 0xfe]), Code::Decode);
}

#[test]
fn the_name_is_checked_before_the_version() {
    for bad in ["null", "{}", r#"{"name":""}"#, r#"{"name":"te%%st","cniVersion":3}"#, r#"{"name":"../x"}"#] {
        assert_eq!(code(bad.as_bytes()), Code::InvalidConfig, "{bad}");
    }
    assert_eq!(code(br#"{"name":"n","cniVersion":"2.0.0"}"#), Code::IncompatibleVersion);
    assert_eq!(code(br#"{"name":"n","cniVersion":"abc"}"#), Code::IncompatibleVersion);
    assert_eq!(code(br#"{"name":"n","cniVersion":1}"#), Code::Decode);
}

#[test]
fn keys_match_in_any_case_and_unknown_ones_are_left_alone() {
    let conf = parse(json!({
        "CNIVersion": "0.4.0", "NAME": "n", "capabilities": {"x": true}, "disableCheck": true,
        "cni.dev/foo": 1, "whatever": [], "IPAM": {"Type": "minionet"}, "MTU": 1400.0
    }))
    .unwrap();
    assert_eq!((conf.version, conf.name.as_str()), (Version::V0_4_0, "n"));
    assert_eq!(conf.settings().unwrap().mtu, Some(1400));
}

#[test]
fn our_own_section_is_strict_and_names_key_and_value() {
    for (ipam, part) in
        [(json!({"type": "host-local"}), "ipam.type"), (json!({"type": "minionet", "subnett": "x"}), "\"x\"")]
    {
        let error = parse(json!({"name": "n", "ipam": ipam})).unwrap().settings().unwrap_err();
        assert_eq!(error.code(), Code::UnsupportedField);
        assert!(error.to_string().contains(part), "{error}");
    }
    let text = parse(json!({"name": "n", "mtu": "big"})).unwrap().settings().unwrap_err();
    assert_eq!(text.code(), Code::Decode);
}

#[test]
fn null_is_absent() {
    let conf = parse(json!({
        "name": "n", "cniVersion": null, "ipam": null, "dns": null, "mtu": null, "prevResult": null
    }))
    .unwrap();
    assert_eq!(conf.version, Version::V0_1_0);
    assert_eq!(conf.settings().unwrap(), Settings::default());
    assert_eq!(conf.prev_result(), None);
}

#[test]
fn a_broken_call_is_still_answered_in_its_version() {
    assert_eq!(NetConf::answer_version(br#"{"cniVersion":"0.3.1"}"#), Version::V0_3_1);
    assert_eq!(NetConf::answer_version(br#"{"name":"n"}"#), Version::V0_1_0);
    assert_eq!(NetConf::answer_version(b"{"), Version::LATEST);
    assert_eq!(NetConf::answer_version(br#"{"cniVersion":"9"}"#), Version::LATEST);
}
