use std::collections::BTreeSet;

use super::*;

fn config(layers: &[Layer]) -> Result<Config, String> {
    Config::from_layers(layers).map_err(|e| e.to_string())
}

fn env(pairs: &[(&str, &str)]) -> Layer {
    Layer::from_env(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

fn file(text: &str) -> Layer {
    Layer::from_toml("/etc/minionet/minionet.toml", text)
}

#[test]
fn the_clusters_name_alone_is_enough() {
    let config =
        config(&[env(&[("CLUSTER_NAME", "cncfdemo"), ("CLOUD_PROVIDER", "--cloud-provider=aws")])]).unwrap();
    assert_eq!(config.names(), ["minions.cncfdemo.k8s."]);
    assert_eq!(config.vni, crate::constants::DEFAULT_VNI);
    assert_eq!(config.port, crate::constants::DEFAULT_PORT);
    assert_eq!(config.cni_conf_dir, crate::constants::CNI_CONF_DIR);
    let plan = config.plan(Some("172.20.0.0/24".parse().unwrap())).unwrap();
    assert_eq!(
        plan.node("172.20.0.12".parse().unwrap()).unwrap().blocks[0].cidr.to_string(),
        "10.32.12.0/24"
    );
}

#[test]
fn without_a_cluster_it_says_where_to_name_it() {
    let error = config(&[]).unwrap_err();
    assert!(error.contains("/etc/sysconfig/kubernetes-minions"), "{error}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let flags = Layer::from_flags([("vni", vec!["1".into()])]);
    let env = env(&[("MINIONET_VNI", "2"), ("MINIONET_PORT", "2000"), ("CLUSTER_NAME", "c")]);
    let file = file("vni = 3\nport = 3000\nhold_down = \"5m\"");
    let config = config(&[flags, env, file]).unwrap();
    assert_eq!((config.vni, config.port, config.thresholds.hold_down.as_secs()), (1, 2000, 300));
}

#[test]
fn lists_are_arrays_in_the_file_and_have_commas_elsewhere() {
    let text = "cluster_name = \"c\"\npod_network = [\"10.0.0.0/8\", \"fd00:32::/48\"]\nnode_networks = \"172.20.0.0/24\"";
    let from_file = config(&[file(text)]).unwrap();
    assert_eq!(from_file.pod_networks.len(), 2);
    assert_eq!(from_file.pod_networks[1].node_prefix, 64);
    let from_env = config(&[env(&[
        ("CLUSTER_NAME", "c"),
        ("MINIONET_POD_NETWORK", "10.0.0.0/8, fd00:32::/48"),
        ("MINIONET_NODE_NETWORKS", "172.20.0.0/24"),
    ])]);
    assert_eq!(from_env.unwrap(), from_file);
}

#[test]
fn every_problem_is_named_with_its_place_and_a_remedy() {
    let text = "cluster_name = \"c\"\nvnii = 5\n\nport = 70000\npod_network = \"10.32.0.1/12\"\nhold_down = \"soon\"\nvni = [1, 2]\n";
    let error =
        config(&[env(&[("MINIONET_HOLDDOWN", "1s"), ("MINIONET_ROLES", "a b")]), file(text)]).unwrap_err();
    for part in [
        "minionet.toml:2: no setting is named \"vnii\"; did you mean vni?",
        "minionet.toml:4: port: \"70000\" is not a number from 1 to 65535",
        "minionet.toml:5: pod_network: 10.32.0.1/12 has bits set behind its prefix: the network is 10.32.0.0/12",
        "minionet.toml:6: hold_down: \"soon\" is not a duration",
        "minionet.toml:7: vni takes one value, not a list",
        "environment variable MINIONET_HOLDDOWN: no such setting; did you mean MINIONET_HOLD_DOWN?",
        "environment variable MINIONET_ROLES: roles: \"a b\" is not a label",
    ] {
        assert!(error.contains(part), "{error}\n  lacks: {part}");
    }
}

#[test]
fn what_is_not_toml_is_named_by_its_line() {
    let error = config(&[file("cluster_name = \"c\"\nvni = = 3\n")]).unwrap_err();
    assert!(error.contains("minionet.toml:2: this is not TOML"), "{error}");
}

#[test]
fn values_out_of_range_are_refused() {
    for (key, bad) in [
        ("vni", "0"),
        ("vni", "16777216"),
        ("vni", "-1"),
        ("port", "0"),
        ("underlay_mtu", "100"),
        ("node_prefix", "31"),
        ("resolvers", "dns.example"),
        ("refresh_min", "1w"),
        ("missing_answers", "0"),
        ("probe_port", "70000"),
        ("probe_interval", "1ms"),
        ("masquerade", "maybe"),
        ("log_format", "xml"),
        ("cluster_name", "a.b"),
        ("cluster_name", "-a"),
        ("interface", "this-name-is-too-long"),
        ("cni_conf_dir", "etc"),
        ("trust_anchor", "keys"),
        ("encapsulation", "sometimes"),
        ("node_ip", "10.0.0.0/8"),
    ] {
        let flags = Layer::from_flags([(key, vec![bad.to_owned()])]);
        let error = config(&[flags, env(&[("CLUSTER_NAME", "c")])]).unwrap_err();
        assert!(error.starts_with(&format!("--{}: {key}: ", key.replace('_', "-"))), "{error}");
    }
}

#[test]
fn every_setting_is_understood_and_named_once() {
    let mut keys = BTreeSet::new();
    for setting in SETTINGS {
        assert!(keys.insert(setting.key) && keys.insert(setting.env), "{} is there twice", setting.key);
        let flags = Layer::from_flags([(setting.key, vec!["\u{0}".to_owned()])]);
        let error = config(&[flags]).err().unwrap_or_default();
        assert!(!error.contains("this is a mistake"), "{error}");
    }
}

#[test]
fn the_probe_can_be_turned_off_and_has_a_port_of_its_own() {
    let with = |port: &str| {
        let flags = Layer::from_flags([("probe_port", vec![port.to_owned()])]);
        config(&[flags, env(&[("CLUSTER_NAME", "c")])])
    };
    assert_eq!(with("5000").unwrap().probe_port, Some(5000));
    assert_eq!((with("off").unwrap().probe_port, with("0").unwrap().probe_port), (None, None));
    let error = with("4789").unwrap_err();
    assert!(error.contains("probe_port is the port of VXLAN"), "{error}");
}

#[test]
fn resolvers_take_a_port() {
    let flags = Layer::from_flags([("resolvers", vec!["10.0.0.2,10.0.0.3:5353".into(), "fd00::2".into()])]);
    let config = config(&[flags, env(&[("CLUSTER_NAME", "c")])]).unwrap();
    let texts: Vec<String> = config.resolvers.iter().map(SocketAddr::to_string).collect();
    assert_eq!(texts, ["10.0.0.2:53", "10.0.0.3:5353", "[fd00::2]:53"]);
}

#[test]
fn every_threshold_of_the_membership_can_be_set() {
    let with = |text: &str| config(&[file(&format!("cluster_name = \"c\"\n{text}"))]);
    let defaults = with("").unwrap().thresholds;
    assert_eq!(defaults, Thresholds::default(), "the documented defaults are the real ones");
    let json = serde_json::to_value(&defaults).unwrap();
    for name in json.as_object().unwrap().keys() {
        assert!(SETTINGS.iter().any(|setting| setting.key == name), "{name} cannot be set");
        // Another value is taken over, and nothing else with it; where two contradict each other,
        // that is said with both names.
        let value = if json[name].is_f64() { "\"29m\"" } else { "15" };
        match with(&format!("{name} = {value}")) {
            Ok(other) => {
                let other = serde_json::to_value(&other.thresholds).unwrap();
                let changed = json.as_object().unwrap().keys().filter(|key| json[*key] != other[*key]);
                assert_eq!(changed.collect::<Vec<_>>(), [name]);
            }
            Err(error) => assert!(error.contains(name.as_str()) && error.contains("raise"), "{error}"),
        }
    }
    let error = with("hold_down = \"1h\"").unwrap_err();
    assert!(error.contains("raise mass_hold or lower hold_down"), "{error}");
    let all = "hold_down = \"1h\"\nmass_hold = \"1h\"\nflap_hold_max = \"1h\"\nsampling_absence = \"1h\"";
    assert_eq!(with(all).unwrap().thresholds.hold_down.as_secs(), 3600);
}
