//! Calls of every kind: good ones, and such as no runtime would make.

mod change;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

use self::change::{Change, change};
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
            change.apply(&mut whole, *at);
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
