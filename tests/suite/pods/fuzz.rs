//! The plugin is called with everything that no runtime would send.

use std::io::Write;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::Node;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use serde_json::{Map, Value, json};

use super::bed::{command, on_orphaned_node, same, times, traces};
use crate::cni::support::{Sandbox, conf, del};

pub fn trials() -> Vec<Trial> {
    trials![whatever_comes_there_is_one_answer_and_no_trace => [Need::Program("nft")]]
}

/// No call may take longer, whatever it was given.
const LIMIT: Duration = Duration::from_secs(30);

/// One call.
#[derive(Clone, Debug)]
struct Call {
    verb: &'static str,
    environment: Vec<(&'static str, String)>,
    stdin: Vec<u8>,
}

/// Keys that mean something somewhere, in the wrong place and case as well.
const KEYS: [&str; 40] = [
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
    "ip",
    "CNIVERSION",
    "HostPort",
    "cni.dev/valid-attachments",
    "containerID",
    "ifname",
];

/// Values that are nearly right.
const TEXTS: [&str; 22] = [
    "",
    "1.1.0",
    "0.1.0",
    "0.3.1",
    "0.4.0",
    "2.0.0",
    "net1",
    "a/b",
    "minionet",
    "10.32.1.9",
    "10.32.1.9/24",
    "10.32.1.1",
    "fd00:32:0:1::9",
    "999.0.0.1/99",
    "::/0",
    "0.0.0.0/0",
    "0e:00:00:00:00:01",
    "01:00:00:00:00:00",
    "tcp",
    "SCTP",
    "\u{0}",
    "ä",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![Just(-1i64), Just(0), Just(80), Just(65536), any::<i64>()].prop_map(Value::from),
        prop_oneof![Just(1.5f64), Just(1e300), Just(9.007_199_254_740_993e15)].prop_map(Value::from),
        prop::sample::select(&TEXTS[..]).prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
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

/// A configuration: a good one with some keys replaced, and perhaps some octets.
fn stdin() -> impl Strategy<Value = Vec<u8>> {
    let result = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}],
        "ips": [{"address": "10.32.1.2/32", "interface": 0}]});
    let versions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    let changes = prop::collection::vec((key(), value()), 0..4);
    let octets = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let damaged = prop::bool::weighted(0.2);
    (prop::sample::select(versions.to_vec()), any::<bool>(), changes, damaged, octets).prop_map(
        move |(version, with_result, changes, damaged, octets)| {
            let mut whole = conf(version);
            if with_result {
                whole["prevResult"] = result.clone();
            }
            if let Value::Object(keys) = &mut whole {
                keys.extend(changes);
            }
            let mut text = whole.to_string().into_bytes();
            if damaged {
                for (index, octet) in octets {
                    let at = index.index(text.len());
                    text[at] = octet;
                }
            }
            text
        },
    )
}

fn environment() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];
    let odd = [
        "",
        "c1",
        "eth0",
        "eth1",
        "lo",
        "/run/netns/c1",
        "/run/netns",
        "/dev/null",
        "/proc/self/ns/net",
        "../x",
        "a b",
        "IP=10.32.1.7",
        "IgnoreUnknown=1;K8S_POD_NAME=x",
        "MAC=zz",
        ";",
        "=",
        "%d",
        "sixteen_octets_xx",
    ];
    let change =
        (prop::sample::select(names.to_vec()), prop::sample::select(odd.to_vec()).prop_map(str::to_owned));
    prop::collection::vec(change, 0..3)
}

fn call() -> impl Strategy<Value = Call> {
    let verbs = ["ADD", "ADD", "ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "NOPE"];
    (prop::sample::select(verbs.to_vec()), environment(), stdin())
        .prop_map(|(verb, environment, stdin)| Call { verb, environment, stdin })
}

fn execute(node: &Node, sandbox: &Sandbox, call: &Call) -> Result<Output> {
    let mut command = command(node, call.verb, &sandbox.attachment);
    for (name, value) in &call.environment {
        if !value.contains('\0') {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // One that has seen enough does not read on.
    let _unread = child.stdin.take().context("its input")?.write_all(&call.stdin);
    Ok(child.wait_with_output()?)
}

/// One answer, of the form that the specification has for it.
fn judge(call: &Call, output: &Output) -> Result<()> {
    let stdout = std::str::from_utf8(&output.stdout)?;
    let code = output.status.code().context("it was killed by a signal")?;
    if code == 0 {
        let silent = matches!(call.verb, "DEL" | "CHECK" | "GC" | "STATUS");
        ensure!(silent == stdout.is_empty(), "a success of {} wrote {stdout:?}", call.verb);
        if !silent {
            serde_json::from_str::<Value>(stdout).with_context(|| format!("one document: {stdout}"))?;
        }
        return Ok(());
    }
    let error: Value = serde_json::from_str(stdout).with_context(|| format!("one document: {stdout}"))?;
    let number = error["code"].as_u64().with_context(|| format!("no code: {error}"))?;
    // 100 is a panic that was caught.
    ensure!((1..=99).contains(&number) || number > 100, "{error}");
    ensure!(error["msg"].as_str().is_some_and(|text| !text.is_empty()), "{error}");
    Ok(())
}

fn whatever_comes_there_is_one_answer_and_no_trace() -> Result<()> {
    on_orphaned_node("", |node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let before = traces(node, &sandbox)?;
        let cases = u32::try_from(times(500, 100_000))?;
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
        let outcome = TestRunner::new(config).run(&call(), |call| {
            let one = || -> Result<()> {
                let start = Instant::now();
                let output = execute(node, &sandbox, &call)?;
                ensure!(start.elapsed() < LIMIT, "it took {:?}", start.elapsed());
                judge(&call, &output)?;
                if call.verb != "ADD" || !output.status.success() {
                    return same(&before, &traces(node, &sandbox)?);
                }
                // Undone under the names that it was called with.
                let undo = Call { verb: "DEL", ..call.clone() };
                let output = execute(node, &sandbox, &undo)?;
                ensure!(output.status.success(), "DEL: {}", String::from_utf8_lossy(&output.stdout));
                same(&before, &traces(node, &sandbox)?)
            };
            one().map_err(|error| TestCaseError::fail(format!("{error:#}")))
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(reason, call)) => {
                let text = String::from_utf8_lossy(&call.stdin).into_owned();
                return Err(anyhow!("{reason}: {} {:?} {text}", call.verb, call.environment));
            }
            Err(error) => return Err(anyhow!("{error}")),
        }
        del(node, &sandbox.attachment, &conf("1.1.0"))
    })
}
