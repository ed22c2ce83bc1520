//! What the tests of the plugin share: nodes, sandboxes, calls, and judgements of answers.

mod state;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use netns_testbed::cni::{Attachment, CniAnswer, CniCall};
use netns_testbed::{Cluster, Namespace, Node, eventually};
use serde_json::{Map, Value, json};

pub use state::{HostState, link_names};

/// Long enough for anything, also on a machine that stands still for seconds; what comes, comes in
/// milliseconds.
pub const PATIENT: Duration = Duration::from_secs(60);

/// Every version of the specification.
pub const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Both families, on the underlay and for pods.
pub const DUAL_STACK: (&str, &str) =
    ("172.20.0.0/24, fd00:20::/64", "pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]");

/// Runs a test on a ready minion with IPv4.
pub fn on_node(test: impl FnOnce(&Node) -> Result<()>) -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| test(cluster.node(0)))
}

/// Runs a test on a ready minion whose daemon has further lines of configuration.
pub fn on_node_with(config: &str, test: impl FnOnce(&Node) -> Result<()>) -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).config(config).run(|cluster| test(cluster.node(0)))
}

/// Runs a test on a ready minion whose pods have addresses of both families.
pub fn on_dual_stack_node(test: impl FnOnce(&Node) -> Result<()>) -> Result<()> {
    let (underlay, config) = DUAL_STACK;
    let builder = Cluster::builder("cncfdemo").nodes(1).underlay(underlay).config(config);
    builder.run(|cluster| test(cluster.node(0)))
}

/// The daemon tells the plugin how many rules there should be, a moment after it made them.
pub fn rules_are_known(node: &Node) -> Result<()> {
    let health: Value = serde_json::from_str(&node.read("/run/minionet/health.json")?)?;
    ensure!(health["rules"].as_u64().is_some_and(|rules| rules > 0), "{health}");
    Ok(())
}

/// The daemon tells the plugin how many routes to peers there should be, a moment after it made them.
pub fn routes_are_known(node: &Node, count: u64) -> Result<()> {
    let health: Value = serde_json::from_str(&node.read("/run/minionet/health.json")?)?;
    ensure!(health["peer_routes"] == count, "{health}");
    Ok(())
}

/// The configuration that a runtime passes for the network `net1`.
pub fn conf(version: &str) -> Value {
    json!({"cniVersion": version, "name": "net1", "type": "minionet"})
}

/// A configuration of version 1.1.0 with further keys.
pub fn conf_with(more: Value) -> Value {
    merged(conf("1.1.0"), more)
}

/// An object with the keys of another; those of the other win.
pub fn merged(mut base: Value, more: Value) -> Value {
    if let (Value::Object(base), Value::Object(more)) = (&mut base, more) {
        base.extend(more);
    }
    base
}

/// A container that is yet to be attached: its namespace and the parameters of the calls.
pub struct Sandbox {
    /// The namespace, with nothing but the loopback device.
    pub namespace: Namespace,
    /// What the calls are about; the interface is `eth0`.
    pub attachment: Attachment,
}

impl Sandbox {
    /// Makes a namespace for a container of that id, which also names the namespace.
    pub fn new(node: &Node, id: &str) -> Result<Self> {
        let namespace = node.pod(id)?;
        Ok(Self { namespace, attachment: attachment(id, &Namespace::netns_path(id)) })
    }

    /// The interfaces of the container.
    pub fn links(&self) -> Result<Vec<String>> {
        state::link_names(&self.namespace)
    }

    /// The container has these interfaces and no others.
    ///
    /// A deleted one has lost its name at once, and is destroyed by the daemon a moment later.
    pub fn has(&self, names: &[&str]) -> Result<()> {
        let look = || {
            let links = self.links()?;
            ensure!(links == names, "it has {links:?}");
            Ok(())
        };
        if names.contains(&"eth0") || !self.links()?.iter().any(|name| name == "eth0") {
            return Ok(eventually(&format!("the container to have {names:?}"), PATIENT, look)?);
        }
        look()
    }
}

/// The parameters of calls for the interface `eth0` of a container.
pub fn attachment(id: &str, netns: &str) -> Attachment {
    Attachment {
        container: id.to_owned(),
        netns: netns.to_owned(),
        interface: "eth0".to_owned(),
        args: String::new(),
        capabilities: Map::new(),
    }
}

/// Calls the plugin with everything as it should be.
pub fn call(node: &Node, command: &str, attachment: &Attachment, conf: &Value) -> Result<CniAnswer> {
    call_with(node, command, attachment, conf, |call| call)
}

/// Calls the plugin with an environment that is not as it should be.
pub fn call_with(
    node: &Node,
    command: &str,
    attachment: &Attachment,
    conf: &Value,
    adjust: impl FnOnce(CniCall) -> CniCall,
) -> Result<CniAnswer> {
    Ok(node.cni_exec(command, attachment, conf.to_string(), adjust)?)
}

/// ADD that must succeed: its result.
pub fn add(node: &Node, attachment: &Attachment, conf: &Value) -> Result<Value> {
    succeeded(&call(node, "ADD", attachment, conf)?).context("ADD")
}

/// DEL that must succeed, in silence.
pub fn del(node: &Node, attachment: &Attachment, conf: &Value) -> Result<()> {
    silent(&call(node, "DEL", attachment, conf)?).context("DEL")
}

/// The document of a call that succeeded; nothing may stand on standard error, which runtimes
/// copy to their own.
pub fn succeeded(answer: &CniAnswer) -> Result<Value> {
    let (stdout, stderr) = texts(answer);
    ensure!(answer.output.status.code() == Some(0), "{}: {stdout}{stderr}", answer.output.status);
    ensure!(stderr.is_empty(), "a success wrote to standard error: {stderr}");
    serde_json::from_str(&stdout).with_context(|| format!("standard output: {stdout:?}"))
}

/// A call that succeeded and has nothing to say.
pub fn silent(answer: &CniAnswer) -> Result<()> {
    let (stdout, stderr) = texts(answer);
    ensure!(answer.output.status.code() == Some(0), "{}: {stdout}{stderr}", answer.output.status);
    ensure!(stdout.is_empty() && stderr.is_empty(), "a success wrote: {stdout}{stderr}");
    Ok(())
}

/// What the plugin said of a failure.
#[derive(Debug)]
pub struct Failure {
    /// `cniVersion` of the error.
    pub version: String,
    /// `code`.
    pub code: u64,
    /// `msg` and `details`, for a look at what a person would see.
    pub text: String,
}

/// The error of a call that failed, in the one form that the specification has for it.
pub fn failure(answer: &CniAnswer) -> Result<Failure> {
    let (stdout, stderr) = texts(answer);
    let status = answer.output.status.code();
    ensure!(status.is_some_and(|code| code != 0), "no failure ({status:?}): {stdout}{stderr}");
    // `from_str` refuses a second document.
    let document: Value =
        serde_json::from_str(&stdout).with_context(|| format!("standard output: {stdout:?}, {stderr}"))?;
    let keys = document.as_object().context("an error that is no object")?;
    let known = ["cniVersion", "code", "msg", "details"];
    ensure!(keys.keys().all(|key| known.contains(&key.as_str())), "unknown keys in {document}");
    let code = document["code"].as_u64().with_context(|| format!("no integer code in {document}"))?;
    // The specification reserves up to 99 what it does not define; 8 is the reference library's.
    let defined = matches!(code, 1..=8 | 11 | 50 | 51) || code >= 100;
    ensure!(defined, "code {code} is reserved: {document}");
    let message = document["msg"].as_str().unwrap_or_default();
    ensure!(!message.is_empty(), "an error without a message: {document}");
    let version = document["cniVersion"].as_str().context("an error without a version")?.to_owned();
    ensure!(VERSIONS.contains(&version.as_str()), "{document}");
    let details = match &document["details"] {
        Value::Null => "",
        Value::String(text) => text,
        other => bail!("details are no text: {other}"),
    };
    Ok(Failure { version, code, text: format!("{message}; {details}") })
}

/// A failure with a certain code whose text names certain things.
pub fn fails(answer: &CniAnswer, code: u64, names: &[&str]) -> Result<Failure> {
    fails_any(answer, &[code], names)
}

/// A failure with one of several codes whose text names certain things.
pub fn fails_any(answer: &CniAnswer, codes: &[u64], names: &[&str]) -> Result<Failure> {
    let failure = failure(answer)?;
    ensure!(codes.contains(&failure.code), "code is not in {codes:?}: {failure:?}");
    for name in names {
        ensure!(failure.text.contains(name), "{name:?} is not named: {failure:?}");
    }
    Ok(failure)
}

/// What a call wrote to standard output and to standard error.
pub fn texts(answer: &CniAnswer) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&answer.output.stdout), text(&answer.output.stderr))
}

/// The first IPv4 address of a result from 0.3.0 on, without its prefix length.
pub fn address(result: &Value) -> Result<String> {
    addresses(result)?.into_iter().next().with_context(|| format!("no address in {result}"))
}

/// The addresses of a result from 0.3.0 on, without their prefix lengths.
pub fn addresses(result: &Value) -> Result<Vec<String>> {
    let ips = result["ips"].as_array().with_context(|| format!("no ips in {result}"))?;
    let address = |ip: &Value| Some(ip["address"].as_str()?.split('/').next()?.to_owned());
    ips.iter().map(|ip| address(ip).with_context(|| format!("no address in {ip}"))).collect()
}
