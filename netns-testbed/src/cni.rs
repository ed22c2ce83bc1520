//! Executes CNI plugins the way libcni does: same environment, same standard input, same order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::process;

/// Where a runtime looks for configuration.
const CONFIG_DIR: &str = "/etc/cni/net.d";
/// Where a runtime looks for plugins after the directory of the programs under test.
const PLUGIN_DIR: &str = "/opt/cni/bin";
/// The newest version of the CNI specification that the testbed speaks.
const NEWEST: &str = "1.1.0";

/// The parameters of one call, as the specification names them.
#[derive(Clone, Debug)]
pub struct CniCall {
    /// `ADD`, `DEL`, `CHECK`, `GC`, `STATUS` or `VERSION`.
    pub command: String,
    /// The environment of the plugin: the `CNI_*` variables.
    pub environment: BTreeMap<String, String>,
    /// What the plugin reads.
    pub stdin: Vec<u8>,
}

/// What a plugin answered.
#[derive(Clone, Debug)]
pub struct CniAnswer {
    /// How it ended and what it wrote.
    pub output: Output,
    /// From start to end, the start of the process included.
    pub elapsed: Duration,
}

/// A network configuration list, as a node's runtime sees it.
#[derive(Clone, Debug)]
pub struct ConfigList {
    name: String,
    version: String,
    plugins: Vec<Map<String, Value>>,
}

/// A container to be attached.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_NETNS`, a path inside the node; empty where the namespace is gone.
    pub netns: String,
    /// `CNI_IFNAME`.
    pub interface: String,
    /// `CNI_ARGS`, as in `K8S_POD_NAME=web;K8S_POD_NAMESPACE=default`.
    pub args: String,
    /// What the runtime can pass to a plugin that declares the capability, by its name.
    pub capabilities: Map<String, Value>,
}

// === impl CniCall ===

impl CniCall {
    /// A call for an attachment, with all the variables that libcni sets.
    pub fn new(command: &str, attachment: &Attachment, path: &str, stdin: impl Into<Vec<u8>>) -> Self {
        let variable = |name: &str, value: &str| (format!("CNI_{name}"), value.to_owned());
        let environment = BTreeMap::from([
            variable("COMMAND", command),
            variable("CONTAINERID", &attachment.container),
            variable("NETNS", &attachment.netns),
            variable("IFNAME", &attachment.interface),
            variable("ARGS", &attachment.args),
            variable("PATH", path),
        ]);
        Self { command: command.to_owned(), environment, stdin: stdin.into() }
    }

    /// Sets or replaces a variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Leaves a variable out.
    pub fn without_env(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Executes a plugin inside a node and waits for it.
    ///
    /// # Errors
    /// Only when the plugin cannot be executed; its own failures are in the answer.
    pub fn execute(&self, node: &Namespace, plugin: &Path) -> Result<CniAnswer> {
        let mut command = node.command(plugin);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(&self.environment);
        let start = Instant::now();
        let output = process::run_with_input(command, &self.stdin)?;
        Ok(CniAnswer { output, elapsed: start.elapsed() })
    }
}

// === impl CniAnswer ===

impl CniAnswer {
    /// Whether the plugin reported success.
    pub fn success(&self) -> bool {
        self.output.status.success()
    }

    /// What it printed, as JSON; `Null` where it printed nothing.
    pub fn json(&self) -> Result<Value> {
        if self.output.stdout.trim_ascii().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.output.stdout).map_err(|source| {
            let text = String::from_utf8_lossy(&self.output.stdout);
            Error::Json { what: format!("the output of the plugin ({text})"), source }
        })
    }

    /// The output of a call that must succeed.
    fn checked(self, command: &str, plugin: &str) -> Result<Value> {
        if self.success() {
            return self.json();
        }
        let said = [&self.output.stdout, &self.output.stderr].map(|text| String::from_utf8_lossy(text));
        Err(Error::Cni {
            command: command.to_owned(),
            plugin: plugin.to_owned(),
            status: self.output.status,
            message: said.join(" ").trim().to_owned(),
        })
    }
}

// === impl ConfigList ===

impl ConfigList {
    /// The list that a runtime of the node uses: the first file of its configuration directory.
    pub fn load(node: &Namespace) -> Result<Self> {
        let mut files: Vec<PathBuf> = node.run(|| {
            let entries = std::fs::read_dir(CONFIG_DIR).into_iter().flatten().flatten();
            let wanted = |path: &PathBuf| {
                let extension = path.extension().and_then(|extension| extension.to_str());
                matches!(extension, Some("conf" | "conflist" | "json"))
            };
            entries.map(|entry| entry.path()).filter(wanted).collect()
        })?;
        files.sort();
        let file = files.first().ok_or_else(|| Error::Invalid {
            what: "the directory",
            value: CONFIG_DIR.into(),
            reason: format!("{} has no CNI configuration in it (yet)", node.name()),
        })?;
        Self::parse(&node.read(file)?, &file.display().to_string())
    }

    /// Reads a list, or a single configuration as a list of one.
    pub fn parse(text: &str, what: &str) -> Result<Self> {
        let mut list: Map<String, Value> =
            serde_json::from_str(text).map_err(|source| Error::Json { what: what.to_owned(), source })?;
        let invalid = |reason: &str| Error::Invalid {
            what: "the CNI configuration",
            value: what.to_owned(),
            reason: reason.to_owned(),
        };
        let name = list.get("name").and_then(Value::as_str).ok_or_else(|| invalid("it has no name"))?;
        let name = name.to_owned();
        let mut versions: Vec<String> = vec![text_of(&list, "cniVersion").unwrap_or("0.2.0").to_owned()];
        if let Some(Value::Array(more)) = list.get("cniVersions") {
            versions.extend(more.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        let version = versions
            .into_iter()
            .filter(|version| order(version) <= order(NEWEST))
            .max_by_key(|version| order(version))
            .ok_or_else(|| invalid("it wants only versions newer than 1.1.0"))?;
        let plugins = match list.remove("plugins") {
            Some(Value::Array(plugins)) => plugins
                .into_iter()
                .map(|plugin| match plugin {
                    Value::Object(plugin) => Ok(plugin),
                    _ => Err(invalid("a plugin is no object")),
                })
                .collect::<Result<_>>()?,
            _ => vec![list],
        };
        Ok(Self { name, version, plugins })
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version of the specification that a runtime of 1.1.0 chooses from the list's.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The same list in another version of the specification.
    pub fn with_version(mut self, version: &str) -> Self {
        self.version = version.to_owned();
        self
    }

    /// ADD: every plugin in order; the result of the last.
    ///
    /// # Errors
    /// The first plugin's that fails. As with libcni, nothing is undone then.
    pub fn add(&self, node: &Namespace, programs: &Path, attachment: &Attachment) -> Result<Value> {
        let mut result = Value::Null;
        for plugin in &self.plugins {
            result = self.call("ADD", plugin, &result, node, programs, attachment)?;
            if result.is_null() {
                return Err(Error::Invalid {
                    what: "the result of ADD",
                    value: String::new(),
                    reason: "the plugin reported success and printed nothing".into(),
                });
            }
        }
        Ok(result)
    }

    /// DEL: every plugin in reverse order, with the result of ADD (`Null` where it is lost).
    pub fn delete(
        &self,
        node: &Namespace,
        programs: &Path,
        attachment: &Attachment,
        result: &Value,
    ) -> Result<()> {
        let known = if order(&self.version) >= order("0.4.0") { result } else { &Value::Null };
        for plugin in self.plugins.iter().rev() {
            self.call("DEL", plugin, known, node, programs, attachment)?;
        }
        Ok(())
    }

    /// CHECK: every plugin in order, with the result of ADD.
    pub fn check(
        &self,
        node: &Namespace,
        programs: &Path,
        attachment: &Attachment,
        result: &Value,
    ) -> Result<()> {
        for plugin in &self.plugins {
            self.call("CHECK", plugin, result, node, programs, attachment)?;
        }
        Ok(())
    }

    fn call(
        &self,
        command: &str,
        plugin: &Map<String, Value>,
        previous: &Value,
        node: &Namespace,
        programs: &Path,
        attachment: &Attachment,
    ) -> Result<Value> {
        let kind = text_of(plugin, "type").unwrap_or_default();
        let path =
            [programs, Path::new(PLUGIN_DIR)].map(|directory| directory.display().to_string()).join(":");
        let program = [programs, Path::new(PLUGIN_DIR)]
            .into_iter()
            .map(|directory| directory.join(kind))
            .find(|program| !kind.is_empty() && program.is_file())
            .ok_or_else(|| Error::NoBinary { program: kind.to_owned(), searched: path.clone() })?;
        let stdin = self.configuration(plugin, previous, &attachment.capabilities).to_string();
        CniCall::new(command, attachment, &path, stdin).execute(node, &program)?.checked(command, kind)
    }

    /// What one plugin reads: its part of the list, and what the runtime adds.
    pub fn configuration(
        &self,
        plugin: &Map<String, Value>,
        previous: &Value,
        capabilities: &Map<String, Value>,
    ) -> Value {
        let mut configuration = plugin.clone();
        configuration.insert("name".into(), json!(self.name));
        configuration.insert("cniVersion".into(), json!(self.version));
        if !previous.is_null() {
            configuration.insert("prevResult".into(), previous.clone());
        }
        // Passed only where the plugin declares the capability as true.
        let declared =
            |name: &str| plugin.get("capabilities").and_then(|all| all.get(name)) == Some(&json!(true));
        let passed: Map<String, Value> = capabilities
            .iter()
            .filter(|(name, _)| declared(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !passed.is_empty() {
            configuration.insert("runtimeConfig".into(), Value::Object(passed));
        }
        Value::Object(configuration)
    }

    /// The parts of the list, one for each plugin.
    pub fn plugins(&self) -> &[Map<String, Value>] {
        &self.plugins
    }
}

fn text_of<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

/// A version as numbers that compare.
fn order(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(u32::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"name": "net", "cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0", "9.9.9"],
        "plugins": [{"type": "minionet", "capabilities": {"portMappings": true, "mac": false}}]}"#;

    #[test]
    fn the_newest_version_that_both_know_is_chosen() {
        assert_eq!(ConfigList::parse(LIST, "test").unwrap().version(), "1.1.0");
    }

    #[test]
    fn a_plugin_reads_what_the_runtime_adds_and_only_declared_capabilities() {
        let list = ConfigList::parse(LIST, "test").unwrap();
        let Value::Object(capabilities) = json!({"portMappings": [1], "mac": "x", "ips": []}) else {
            panic!()
        };
        let read = list.configuration(&list.plugins()[0], &json!({"ips": []}), &capabilities);
        assert_eq!(read["name"], "net");
        assert_eq!(read["cniVersion"], "1.1.0");
        assert_eq!(read["prevResult"], json!({"ips": []}));
        assert_eq!(read["runtimeConfig"], json!({"portMappings": [1]}));
    }

    #[test]
    fn nothing_is_added_that_libcni_would_not_add() {
        let list = ConfigList::parse(LIST, "test").unwrap();
        let read = list.configuration(&list.plugins()[0], &Value::Null, &Map::new());
        assert!(read.get("prevResult").is_none() && read.get("runtimeConfig").is_none(), "{read}");
    }

    #[test]
    fn lists_that_no_runtime_takes_are_refused() {
        assert!(ConfigList::parse(r#"{"cniVersion": "1.0.0"}"#, "test").is_err(), "no name");
        assert!(ConfigList::parse(r#"{"name": "n", "cniVersion": "9.0.0"}"#, "test").is_err(), "too new");
    }
}
