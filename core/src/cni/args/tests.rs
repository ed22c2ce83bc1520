use super::*;

fn env(pairs: &[(&str, &str)]) -> Result<Invocation, ArgsError> {
    Invocation::from_env(|name| {
        pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
    })
}

const ADD: [(&str, &str); 4] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/x"),
    ("CNI_IFNAME", "eth0"),
];

fn add_with(name: &'static str, value: &str) -> Result<Invocation, ArgsError> {
    let mut pairs: Vec<_> = ADD.into_iter().filter(|(n, _)| *n != name).collect();
    pairs.push((name, value));
    env(&pairs)
}

#[test]
fn an_add_is_read() {
    let call = env(&ADD).unwrap();
    assert_eq!((call.verb, call.container.as_str(), call.ifname.as_str()), (Verb::Add, "c1", "eth0"));
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let error = env(&ADD[..1]).unwrap_err().to_string();
    assert_eq!(error, "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing");
    assert!(matches!(env(&[]), Err(ArgsError::NoCommand)));
    let error = env(&[("CNI_COMMAND", "NOPE")]).unwrap_err().to_string();
    assert_eq!(error, "unknown CNI_COMMAND: NOPE");
}

#[test]
fn del_needs_no_namespace_and_gc_names_no_attachment() {
    let mut del = ADD;
    del[0].1 = "DEL";
    del[2].1 = "";
    assert!(env(&del).is_ok());
    let empty = [("CNI_CONTAINERID", ""), ("CNI_IFNAME", ""), ("CNI_NETNS", ""), ("CNI_ARGS", "")];
    for verb in ["GC", "STATUS"] {
        assert!(env(&[&[("CNI_COMMAND", verb)], &empty[..]].concat()).is_ok());
    }
    assert!(env(&[("CNI_COMMAND", "VERSION")]).is_ok());
}

#[test]
fn only_what_a_verb_uses_is_judged() {
    use std::os::unix::ffi::OsStringExt;
    let judged = |verb: &'static str| {
        let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"];
        let refuses = |bad: &&str| {
            let call = Invocation::from_env(|name| match ADD.iter().find(|(n, _)| *n == name) {
                _ if name == *bad => Some(OsString::from_vec(vec![0xff])),
                Some(("CNI_COMMAND", _)) => Some(verb.into()),
                found => found.map(|(_, value)| value.into()),
            });
            call.is_err()
        };
        names.into_iter().filter(refuses).count()
    };
    let counts = ["ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION"].map(judged);
    assert_eq!(counts, [4, 3, 2, 0, 0, 0]);
}

#[test]
fn container_ids_that_could_leave_a_directory_are_refused() {
    for bad in ["a/b", "-a", ".a", "a b", "1234%%%", "a\n", "ä", "../x"] {
        assert!(matches!(add_with("CNI_CONTAINERID", bad), Err(ArgsError::ContainerId { .. })), "{bad}");
    }
    assert!(add_with("CNI_CONTAINERID", &"x".repeat(300)).is_ok());
}

#[test]
fn interface_names_are_those_of_the_kernel() {
    for bad in ["0123456789abcdef", ".", "..", "a/b", "a:b", "a b", "a\u{a0}", "éééééééé"] {
        assert!(matches!(add_with("CNI_IFNAME", bad), Err(ArgsError::Ifname { .. })), "{bad}");
    }
    assert!(add_with("CNI_IFNAME", "0123456789abcde").is_ok());
}

#[test]
fn cni_args_are_strict_pairs() {
    for bad in ["FOO", "IgnoreUnknown=1;", ";", "A=B=C"] {
        assert!(matches!(CniArgs::parse(bad), Err(ArgsError::Pair { .. })), "{bad}");
    }
    assert!(matches!(CniArgs::parse("FOO=BAR"), Err(ArgsError::UnknownArgs { .. })));
    for ignore in ["1", "true", "True", "TRUE"] {
        assert!(CniArgs::parse(&format!("FOO=BAR;IgnoreUnknown={ignore}")).is_ok());
    }
    assert!(CniArgs::parse("FOO=BAR;IgnoreUnknown=0").is_err());
    let kubernetes = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=1;IP=10.0.0.5";
    let args = CniArgs::parse(kubernetes).unwrap();
    assert_eq!(args.pod.as_deref(), Some("default/web"));
    assert_eq!(args.ip.as_deref(), Some("10.0.0.5"));
}
