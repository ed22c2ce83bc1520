//! Pods: namespaces attached to their node by the CNI plugin.

use std::net::IpAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};

use crate::cni::{Attachment, ConfigList};
use crate::error::Result;
use crate::namespace::Namespace;
use crate::traffic::Ping;

/// How a pod is attached; the default is what a kubelet asks for.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// The interface inside the pod.
    pub interface: String,
    /// Capability arguments by name, as in `portMappings`.
    pub capabilities: Map<String, Value>,
    /// The version of the CNI specification; without it, the newest that the list offers.
    pub version: Option<String>,
}

impl Default for PodSpec {
    fn default() -> Self {
        Self { interface: "eth0".into(), capabilities: Map::new(), version: None }
    }
}

/// An attached pod. It is not detached by being dropped: the node goes, and the pod with it.
pub struct Pod {
    name: String,
    node: Namespace,
    namespace: Namespace,
    programs: PathBuf,
    attachment: Attachment,
    list: ConfigList,
    result: Value,
}

impl Pod {
    /// Makes the namespace and calls ADD.
    ///
    /// # Errors
    /// The plugin's; then the namespace is gone again.
    pub(crate) fn attach(node: &Namespace, programs: PathBuf, name: &str, spec: PodSpec) -> Result<Self> {
        let mut list = ConfigList::load(node)?;
        if let Some(version) = &spec.version {
            list = list.with_version(version);
        }
        let namespace = node.pod(name)?;
        let attachment = Attachment {
            // As long as those of container runtimes: 64 characters of hexadecimal digits.
            container: container_id(node.name(), name),
            netns: Namespace::netns_path(name),
            interface: spec.interface,
            args: format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}"),
            capabilities: spec.capabilities,
        };
        match list.add(node, &programs, &attachment) {
            Ok(result) => {
                let (name, node) = (name.to_owned(), node.clone());
                Ok(Self { name, node, namespace, programs, attachment, list, result })
            }
            Err(error) => {
                node.unbind_pod(name)?;
                Err(error)
            }
        }
    }

    /// The pod's name, unique on its node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What ADD returned.
    pub fn result(&self) -> &Value {
        &self.result
    }

    /// The parameters of the attachment, for calls of one's own.
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// The addresses in the result, with their prefixes.
    pub fn networks(&self) -> Vec<IpNetwork> {
        let ips = self.result.get("ips").and_then(Value::as_array);
        let addresses = ips.into_iter().flatten().filter_map(|ip| ip.get("address")?.as_str());
        addresses.filter_map(|address| address.parse().ok()).collect()
    }

    /// The addresses in the result.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.networks().iter().map(IpNetwork::ip).collect()
    }

    /// The first IPv4 address, else the first address; the unspecified address where there is none.
    pub fn address(&self) -> IpAddr {
        let addresses = self.addresses();
        let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        first.copied().unwrap_or(IpAddr::from([0; 4]))
    }

    /// Sends one ICMP echo request and returns the round-trip time.
    pub fn ping(&self, target: IpAddr, timeout: Duration) -> Result<Duration> {
        Ping::to(target).send(&self.namespace, timeout)
    }

    /// Calls CHECK.
    pub fn check(&self) -> Result<()> {
        self.list.check(&self.node, &self.programs, &self.attachment, &self.result)
    }

    /// Calls DEL and removes the namespace, in the order of a runtime that stops a pod.
    pub fn delete(self) -> Result<()> {
        self.list.delete(&self.node, &self.programs, &self.attachment, &self.result)?;
        self.node.unbind_pod(&self.name)
    }

    /// Removes the namespace without telling the plugin, as a crash of the runtime does.
    pub fn vanish(self) -> Result<()> {
        self.node.unbind_pod(&self.name)
    }

    /// A short form for reports.
    pub fn summary(&self) -> Value {
        json!({"pod": self.name, "node": self.node.name(), "addresses": self.addresses()})
    }
}

impl Deref for Pod {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

/// A number for the container, the same for the same names (FNV-1a, repeated to full length).
fn container_id(node: &str, pod: &str) -> String {
    let hash = |seed: u64| {
        format!("{seed}/{node}/{pod}").bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    (0..4).map(|seed| format!("{:016x}", hash(seed))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_look_like_those_of_a_runtime_and_differ() {
        let id = container_id("node1", "web");
        assert_eq!(id.len(), 64);
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(id, container_id("node2", "web"));
        assert_ne!(id, container_id("node1", "db"));
    }
}
