//! What kubelet asks a runtime for when it has a pod of the DaemonSet to run.

use anyhow::{Context, Result};
use minionet_tests::cri::proto::{
    Capability, ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount,
    MountPropagation, NamespaceMode, NamespaceOption, PodSandboxConfig,
};
use netns_testbed::Node;
use serde_json::Value;

use super::{list, words};

/// A pod of the DaemonSet.
pub struct Pod {
    spec: Value,
    /// The ConfigMap that containers have their environment from.
    settings: Value,
}

impl Pod {
    /// The pod that a DaemonSet and its ConfigMap describe.
    pub fn of(set: &Value, config: &Value) -> Result<Self> {
        let spec = set.pointer("/spec/template/spec").context("the pod's specification")?.clone();
        Ok(Pod { spec, settings: config["data"].clone() })
    }

    /// Its specification.
    pub fn spec(&self) -> &Value {
        &self.spec
    }

    /// Makes the directories that kubelet makes (`DirectoryOrCreate`).
    pub fn make_directories(&self, node: &Node) -> Result<()> {
        for volume in list(&self.spec["volumes"]) {
            if volume["hostPath"]["type"] == "DirectoryOrCreate" {
                node.exec(["mkdir", "-p", volume["hostPath"]["path"].as_str().context("a path")?])?;
            }
        }
        Ok(())
    }

    fn namespaces(&self) -> NamespaceOption {
        let network = if self.spec["hostNetwork"] == true { NamespaceMode::Node } else { NamespaceMode::Pod };
        NamespaceOption {
            network: network as i32,
            pid: NamespaceMode::Container as i32,
            ipc: NamespaceMode::Pod as i32,
        }
    }

    /// The sandbox, from what the test's runtime gives every pod.
    pub fn sandbox(&self, base: PodSandboxConfig) -> PodSandboxConfig {
        let rights = LinuxSandboxSecurityContext { namespace_options: Some(self.namespaces()) };
        let linux = base.linux.clone().unwrap_or_default();
        // On the node's network a pod has the node's name.
        let hostname = if self.spec["hostNetwork"] == true { String::new() } else { base.hostname.clone() };
        PodSandboxConfig {
            hostname,
            linux: Some(LinuxPodSandboxConfig { security_context: Some(rights), ..linux }),
            ..base
        }
    }

    /// One of its containers.
    pub fn container(&self, container: &Value) -> Result<ContainerConfig> {
        let text = |key: &str| container[key].as_str().map(str::to_owned).with_context(|| key.to_owned());
        let rights = &container["securityContext"];
        let security = LinuxContainerSecurityContext {
            capabilities: Some(Capability {
                add_capabilities: words(&rights["capabilities"]["add"]),
                drop_capabilities: words(&rights["capabilities"]["drop"]),
            }),
            namespace_options: Some(self.namespaces()),
            readonly_rootfs: rights["readOnlyRootFilesystem"] == true,
            no_new_privs: rights["allowPrivilegeEscalation"] == false,
        };
        Ok(ContainerConfig {
            metadata: Some(ContainerMetadata { name: text("name")?, attempt: 0 }),
            image: Some(ImageSpec { image: text("image")? }),
            command: words(&container["command"]),
            args: words(&container["args"]),
            envs: if container["envFrom"].is_null() { Vec::new() } else { self.environment() },
            mounts: list(&container["volumeMounts"]).iter().map(|m| self.mount(m)).collect::<Result<_>>()?,
            linux: Some(LinuxContainerConfig { security_context: Some(security) }),
        })
    }

    fn environment(&self) -> Vec<KeyValue> {
        let settings = self.settings.as_object().into_iter().flatten();
        let value = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        settings.map(|(key, v)| KeyValue { key: key.clone(), value: value(v) }).collect()
    }

    fn mount(&self, mount: &Value) -> Result<Mount> {
        let volume = list(&self.spec["volumes"]).into_iter().find(|volume| volume["name"] == mount["name"]);
        let path = volume.context("a volume")?["hostPath"]["path"].as_str().context("a path")?.to_owned();
        let propagation = match mount["mountPropagation"].as_str() {
            Some("HostToContainer") => MountPropagation::HostToContainer,
            _ => MountPropagation::Private,
        };
        Ok(Mount {
            container_path: mount["mountPath"].as_str().context("mountPath")?.to_owned(),
            host_path: path,
            readonly: mount["readOnly"] == true,
            propagation: propagation as i32,
        })
    }
}
