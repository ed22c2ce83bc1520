//! Calls of every kind: good ones, and such as no runtime would make.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

use super::super::bed::full_conf;
use crate::cni::support::{VERSIONS, conf, merged};

/// The container that is attached already when the calls begin.
pub const STANDING: &str = "s1";
/// The container that is not.
pub const OTHER: &str = "c1";

/// The variable that names the verb.
const VERB: &str = "CNI_COMMAND";

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// `CNI_COMMAND`.
    pub verb: &'static str,
    /// `CNI_CONTAINERID` before the changes.
    pub container: &'static str,
    /// Whether what it attaches stays for the calls that follow.
    pub stays: bool,
    /// Changes of the environment, one after the other; without a value, the variable is left out.
    pub environment: Vec<(&'static str, Option<OsString>)>,
    conf: Conf,
}

/// A configuration: a good one, changed.
#[derive(Clone, Debug)]
struct Conf {
    version: &'static str,
    /// With ports and limits, and what the runtime still wants.
    full: bool,
    previous: Previous,
    changes: Vec<(Index, Change)>,
    /// Octets of the text that are replaced.
    damage: Vec<(Index, u8)>,
    /// What follows the document.
    tail: &'static str,
}

/// Which `prevResult` there is before the changes.
#[derive(Clone, Copy, Debug)]
enum Previous {
    None,
    /// What another plugin could have made.
    Typical,
    /// What the ADD of the container that is attached really returned.
    Real,
}

/// A change of a JSON document, at one of its values.
#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Remove,
    /// Into an object by a key, into an array at its end; anything else is replaced.
    Insert(String, Value),
    /// The value takes the place of the whole, or the whole is put into itself.
    Wrap,
}

impl Call {
    /// What is written to standard input, where an ADD has returned `real`.
    pub fn stdin(&self, real: &Value) -> Vec<u8> {
        let conf = &self.conf;
        let mut whole = merged(conf_of(conf), json!({}));
        match conf.previous {
            Previous::None => {}
            Previous::Typical => whole["prevResult"] = typical(conf.version),
            Previous::Real => whole["prevResult"] = real.clone(),
        }
        for (at, change) in &conf.changes {
            apply(&mut whole, *at, change);
        }
        let mut text = whole.to_string().into_bytes();
        for (at, octet) in &conf.damage {
            let at = at.index(text.len());
            text[at] = *octet;
        }
        text.extend(conf.tail.as_bytes());
        text
    }

    /// The verb that the plugin sees; empty where there is none.
    pub fn asked(&self) -> OsString {
        let changes = self.environment.iter().rev();
        let changed = changes.filter(|(name, _)| *name == VERB).map(|(_, value)| value.clone()).next();
        changed.map_or_else(|| self.verb.into(), Option::unwrap_or_default)
    }

    /// The call that undoes this one.
    pub fn undo(&self) -> Self {
        let mut undo = Self { verb: "DEL", ..self.clone() };
        undo.environment.retain(|(name, _)| *name != VERB);
        undo
    }
}

fn conf_of(conf: &Conf) -> Value {
    if !conf.full {
        return self::conf(conf.version);
    }
    let wanted = json!({"cni.dev/valid-attachments": [{"containerID": STANDING, "ifname": "eth0"}]});
    merged(merged(full_conf_with_tcp(), wanted), json!({"cniVersion": conf.version}))
}

/// As [`full_conf`], but without a port for UDP: for such a one, all flows of the machine have to be
/// looked through, which takes longer than all the rest of a call.
pub fn full_conf_with_tcp() -> Value {
    let mut conf = full_conf();
    conf["runtimeConfig"]["portMappings"][0]["protocol"] = "tcp".into();
    conf
}

/// What a plugin before ours could have returned, in the shape of a version.
fn typical(version: &str) -> Value {
    if matches!(version, "0.1.0" | "0.2.0") {
        return json!({"cniVersion": version, "dns": {},
            "ip4": {"ip": "10.9.0.2/24", "gateway": "10.9.0.1", "routes": [{"dst": "0.0.0.0/0"}]}});
    }
    let mut result = json!({
        "cniVersion": version,
        "interfaces": [{"name": "cni0", "mac": "0a:00:00:00:00:01"},
                       {"name": "eth7", "mac": "0a:00:00:00:00:02", "sandbox": "/run/netns/c1"}],
        "ips": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1", "interface": 1}],
        "routes": [{"dst": "10.9.0.0/16", "gw": "10.9.0.1"}],
        "dns": {"nameservers": ["10.9.0.53"]},
    });
    if version.starts_with("0.") {
        result["ips"][0]["version"] = "4".into();
    }
    result
}

/// Changes the value that is chosen among all that the document has.
fn apply(whole: &mut Value, at: Index, change: &Change) {
    let places = places(whole);
    let place = &places[at.index(places.len())];
    if let Change::Remove = change {
        let Some((parent, key)) = place.rsplit_once('/') else { return };
        match whole.pointer_mut(parent) {
            Some(Value::Object(map)) => drop(map.remove(&unescaped(key))),
            Some(Value::Array(list)) => drop(key.parse().map(|index: usize| list.remove(index))),
            _ => {}
        }
        return;
    }
    if let Change::Wrap = change {
        let inner = whole.pointer(place).cloned().unwrap_or_default();
        *whole = match inner {
            Value::Object(_) => inner,
            other => json!([other, whole]),
        };
        return;
    }
    let Some(target) = whole.pointer_mut(place) else { return };
    match (change, target) {
        (Change::Insert(key, value), Value::Object(map)) => drop(map.insert(key.clone(), value.clone())),
        (Change::Insert(_, value), Value::Array(list)) => list.push(value.clone()),
        (Change::Insert(_, value) | Change::Replace(value), target) => *target = value.clone(),
        (Change::Remove | Change::Wrap, _) => {}
    }
}

/// The JSON pointers (RFC 6901) of all values, the document's own first.
fn places(whole: &Value) -> Vec<String> {
    let mut all = vec![(String::new(), whole)];
    let mut next = 0;
    while let Some((path, value)) = all.get(next).cloned() {
        match value {
            Value::Object(map) => {
                let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
                all.extend(map.iter().map(|(key, value)| (format!("{path}/{}", escaped(key)), value)));
            }
            Value::Array(list) => {
                all.extend(list.iter().enumerate().map(|(at, value)| (format!("{path}/{at}"), value)));
            }
            _ => {}
        }
        next += 1;
    }
    all.into_iter().map(|(path, _)| path).collect()
}

fn unescaped(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

/// Keys that mean something somewhere, in the wrong place and case as well.
const KEYS: [&str; 44] = [
    "cniVersion",
    "name",
    "type",
    "mtu",
    "dns",
    "ipam",
    "args",
    "cni",
    "ips",
    "mac",
    "runtimeConfig",
    "capabilities",
    "prevResult",
    "portMappings",
    "bandwidth",
    "hostPort",
    "containerPort",
    "protocol",
    "hostIP",
    "ingressRate",
    "ingressBurst",
    "egressRate",
    "egressBurst",
    "interfaces",
    "sandbox",
    "interface",
    "address",
    "gateway",
    "routes",
    "dst",
    "gw",
    "version",
    "nameservers",
    "ip4",
    "ip6",
    "ip",
    "CNIVERSION",
    "HostPort",
    "PREVRESULT",
    "cni.dev/valid-attachments",
    "cni.dev/attachments",
    "containerID",
    "ifname",
    "priority",
];

/// Values that are nearly right.
const TEXTS: [&str; 31] = [
    "",
    "1.1.0",
    "0.1.0",
    "0.3.1",
    "0.4.0",
    "2.0.0",
    "1.1",
    "net1",
    "net2",
    "a/b",
    "minionet",
    "10.32.1.9",
    "10.32.1.9/24",
    "10.32.1.1",
    "10.32.1.0",
    "10.32.1.255",
    "fd00:32:0:1::9",
    "fd00:32:0:1::/64",
    "::ffff:10.32.1.9",
    "999.0.0.1/99",
    "::/0",
    "0.0.0.0/0",
    "0e:00:00:00:00:01",
    "01:00:00:00:00:00",
    "tcp",
    "SCTP",
    "udp",
    "eth0",
    "\u{0}",
    "ä",
    "\u{202e}\u{1f980}",
];

fn value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        Just(-1i64),
        Just(0),
        Just(1),
        Just(67),
        Just(80),
        Just(1400),
        Just(65535),
        Just(65536),
        Just(1 << 32),
        any::<i64>()
    ];
    let fraction = prop_oneof![Just(1.5f64), Just(1e300), Just(9.007_199_254_740_993e15)];
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => number.prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => fraction.prop_map(Value::from),
        3 => prop::sample::select(&TEXTS[..]).prop_map(Value::from),
        1 => ".{0,40}".prop_map(Value::from),
        1 => (300usize..4000).prop_map(|length| "x".repeat(length).into()),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => prop::sample::select(&KEYS[..]).prop_map(str::to_owned), 1 => "[a-zA-Z./]{0,12}"]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => value().prop_map(Change::Replace),
        3 => (key(), value()).prop_map(|(key, value)| Change::Insert(key, value)),
        2 => Just(Change::Remove),
        1 => Just(Change::Wrap),
    ]
}

fn configuration() -> impl Strategy<Value = Conf> {
    let previous =
        prop_oneof![3 => Just(Previous::None), 2 => Just(Previous::Typical), 2 => Just(Previous::Real)];
    // Half of them are good.
    let changes = prop_oneof![
        1 => Just(Vec::new()),
        1 => prop::collection::vec((any::<Index>(), change()), 1..4),
    ];
    let damage = prop_oneof![
        6 => Just(Vec::new()),
        1 => prop::collection::vec((any::<Index>(), any::<u8>()), 1..3),
    ];
    let tail = prop_oneof![8 => Just(""), 1 => prop::sample::select(&["\n", "{}", "\u{0}", " nul", "]"][..])];
    let version = prop::sample::select(&VERSIONS[..]);
    (version, any::<bool>(), previous, changes, damage, tail).prop_map(
        |(version, full, previous, changes, damage, tail)| Conf {
            version,
            full,
            previous,
            changes,
            damage,
            tail,
        },
    )
}

fn environment() -> impl Strategy<Value = Vec<(&'static str, Option<OsString>)>> {
    let names = &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH", VERB][..];
    let odd = &[
        "",
        "c1",
        "s1",
        "eth0",
        "eth1",
        "lo",
        "all",
        "/run/netns/c1",
        "/run/netns/s1",
        "/run/netns/gone",
        "/run/netns",
        "/dev/null",
        "/proc/self/ns/net",
        "/proc/self/ns/mnt",
        "../x",
        "a b",
        "IP=10.32.1.7",
        "IgnoreUnknown=1;K8S_POD_NAME=x;K8S_POD_NAMESPACE=y",
        "K8S_POD_NAME=x;UNKNOWN=1",
        "MAC=zz",
        "MAC=0a:00:00:00:00:07",
        ";",
        "=",
        "%d",
        "sixteen_octets_xx",
        "ADD",
        "add",
    ][..];
    let value = prop_oneof![
        1 => Just(None),
        6 => prop::sample::select(odd).prop_map(|text| Some(text.into())),
        1 => "[ -~]{0,24}".prop_map(|text| Some(text.into())),
        1 => (200usize..5000).prop_map(|length| Some("y".repeat(length).into())),
        // No variable can have a NUL in it.
        1 => prop::collection::vec(1u8.., 0..20).prop_map(|octets| Some(OsString::from_vec(octets))),
    ];
    let changes = prop::collection::vec((prop::sample::select(names), value), 1..3);
    prop_oneof![2 => Just(Vec::new()), 1 => changes]
}

/// A call.
pub fn call() -> impl Strategy<Value = Call> {
    let verbs = &["ADD", "ADD", "ADD", "DEL", "DEL", "CHECK", "CHECK", "GC", "STATUS", "VERSION", "NOPE"][..];
    let container = prop_oneof![2 => Just(OTHER), 1 => Just(STANDING)];
    let (stays, fitting) = (prop::bool::weighted(0.08), prop::bool::weighted(0.7));
    (prop::sample::select(verbs), container, stays, fitting, environment(), configuration()).prop_map(
        |(verb, container, stays, fitting, environment, conf)| {
            let mut call = Call { verb, container, stays, environment, conf };
            if fitting {
                call.fit();
            }
            call
        },
    )
}

impl Call {
    /// Makes the call one that would succeed if it were not for the changes.
    fn fit(&mut self) {
        if matches!(self.verb, "CHECK" | "GC" | "STATUS") {
            self.conf.version = "1.1.0";
        }
        if self.verb == "CHECK" {
            self.container = STANDING;
            (self.conf.full, self.conf.previous) = (true, Previous::Real);
        }
    }
}
