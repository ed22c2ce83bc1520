//! Changes of a JSON document: what is nearly right, and what is nonsense.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

/// A change of a JSON document, at one of its values.
#[derive(Clone, Debug)]
pub enum Change {
    Replace(Value),
    Remove,
    /// Into an object by a key, into an array at its end; anything else is replaced.
    Insert(String, Value),
    /// The value takes the place of the whole, or the whole is put into itself.
    Wrap,
}

impl Change {
    /// Changes the value that is chosen among all that the document has.
    pub fn apply(&self, whole: &mut Value, at: Index) {
        let places = places(whole);
        let place = &places[at.index(places.len())];
        if let Change::Remove = self {
            let Some((parent, key)) = place.rsplit_once('/') else { return };
            match whole.pointer_mut(parent) {
                Some(Value::Object(map)) => drop(map.remove(&unescaped(key))),
                Some(Value::Array(list)) => drop(key.parse().map(|index: usize| list.remove(index))),
                _ => {}
            }
            return;
        }
        if let Change::Wrap = self {
            let inner = whole.pointer(place).cloned().unwrap_or_default();
            *whole = match inner {
                Value::Object(_) => inner,
                other => json!([other, whole]),
            };
            return;
        }
        let Some(target) = whole.pointer_mut(place) else { return };
        match (self, target) {
            (Change::Insert(key, value), Value::Object(map)) => drop(map.insert(key.clone(), value.clone())),
            (Change::Insert(_, value), Value::Array(list)) => list.push(value.clone()),
            (Change::Insert(_, value) | Change::Replace(value), target) => *target = value.clone(),
            (Change::Remove | Change::Wrap, _) => {}
        }
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

/// A change of any kind.
pub fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => value().prop_map(Change::Replace),
        3 => (key(), value()).prop_map(|(key, value)| Change::Insert(key, value)),
        2 => Just(Change::Remove),
        1 => Just(Change::Wrap),
    ]
}
