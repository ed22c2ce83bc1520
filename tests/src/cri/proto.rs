//! The messages of CRI v1, as far as a network test needs them.
//!
//! Field numbers are those of `k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`; a field that
//! is left out here is skipped by protobuf when it is received and has its default when it
//! is sent. Names are those of the file, so that its comments apply.

use std::collections::HashMap;

mod container;
mod rights;

pub use container::*;
pub use rights::*;

/// Asks the runtime who it is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VersionRequest {
    /// Version of the kubelet's side of the interface.
    #[prost(string, tag = "1")]
    pub version: String,
}

/// Who the runtime is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VersionResponse {
    /// Name of the runtime, such as `containerd`.
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    /// Its release.
    #[prost(string, tag = "3")]
    pub runtime_version: String,
    /// The interface that it speaks, such as `v1`.
    #[prost(string, tag = "4")]
    pub runtime_api_version: String,
}

/// Asks for the conditions that kubelet watches.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusRequest {
    /// Also return `info`.
    #[prost(bool, tag = "1")]
    pub verbose: bool,
}

/// Answer to [`StatusRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusResponse {
    /// The conditions.
    #[prost(message, optional, tag = "1")]
    pub status: Option<RuntimeStatus>,
    /// JSON texts by topic, when asked for.
    #[prost(map = "string, string", tag = "2")]
    pub info: HashMap<String, String>,
}

/// The conditions of a runtime.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuntimeStatus {
    /// `RuntimeReady`, `NetworkReady` and whatever else the runtime reports.
    #[prost(message, repeated, tag = "1")]
    pub conditions: Vec<RuntimeCondition>,
}

/// One condition of a runtime.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RuntimeCondition {
    /// Its name: `NetworkReady` is the one that a CNI plugin decides.
    #[prost(string, tag = "1")]
    pub r#type: String,
    /// Whether it holds.
    #[prost(bool, tag = "2")]
    pub status: bool,
    /// One word for why not.
    #[prost(string, tag = "3")]
    pub reason: String,
    /// A sentence for why not; a failed CNI STATUS is quoted here.
    #[prost(string, tag = "4")]
    pub message: String,
}

/// Resolver configuration of a pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DnsConfig {
    /// Addresses of the resolvers.
    #[prost(string, repeated, tag = "1")]
    pub servers: Vec<String>,
    /// Search domains.
    #[prost(string, repeated, tag = "2")]
    pub searches: Vec<String>,
    /// Options of resolv.conf.
    #[prost(string, repeated, tag = "3")]
    pub options: Vec<String>,
}

/// Transport protocol of a [`PortMapping`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Protocol {
    /// TCP.
    Tcp = 0,
    /// UDP.
    Udp = 1,
    /// SCTP.
    Sctp = 2,
}

/// A port of the node that leads to a port of the pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PortMapping {
    /// Transport protocol.
    #[prost(enumeration = "Protocol", tag = "1")]
    pub protocol: i32,
    /// Port of the pod.
    #[prost(int32, tag = "2")]
    pub container_port: i32,
    /// Port of the node; containerd passes only mappings above 0 to the plugin.
    #[prost(int32, tag = "3")]
    pub host_port: i32,
    /// Address of the node; empty means all.
    #[prost(string, tag = "4")]
    pub host_ip: String,
}

/// Who a sandbox is; together unique on a node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxMetadata {
    /// Name of the pod (`K8S_POD_NAME` of `CNI_ARGS`).
    #[prost(string, tag = "1")]
    pub name: String,
    /// UID of the pod (`K8S_POD_UID`).
    #[prost(string, tag = "2")]
    pub uid: String,
    /// Namespace of the pod (`K8S_POD_NAMESPACE`).
    #[prost(string, tag = "3")]
    pub namespace: String,
    /// Number of the attempt to create it.
    #[prost(uint32, tag = "4")]
    pub attempt: u32,
}

/// The Linux part of a sandbox's configuration.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinuxPodSandboxConfig {
    /// Cgroup under which the sandbox's own are made, as a path in the hierarchies.
    #[prost(string, tag = "1")]
    pub cgroup_parent: String,
    /// Its rights.
    #[prost(message, optional, tag = "2")]
    pub security_context: Option<LinuxSandboxSecurityContext>,
    /// Sysctls of the pod.
    #[prost(map = "string, string", tag = "3")]
    pub sysctls: HashMap<String, String>,
}

/// What a sandbox shall be.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxConfig {
    /// Who it is.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<PodSandboxMetadata>,
    /// Host name inside; must be empty on the node's network, and nowhere else.
    #[prost(string, tag = "2")]
    pub hostname: String,
    /// Directory for the logs of its containers; empty means none.
    #[prost(string, tag = "3")]
    pub log_directory: String,
    /// Resolvers (`runtimeConfig.dns`).
    #[prost(message, optional, tag = "4")]
    pub dns_config: Option<DnsConfig>,
    /// Host ports (`runtimeConfig.portMappings`).
    #[prost(message, repeated, tag = "5")]
    pub port_mappings: Vec<PortMapping>,
    /// Labels.
    #[prost(map = "string, string", tag = "6")]
    pub labels: HashMap<String, String>,
    /// Annotations; containerd derives `runtimeConfig.bandwidth` from them.
    #[prost(map = "string, string", tag = "7")]
    pub annotations: HashMap<String, String>,
    /// The Linux part.
    #[prost(message, optional, tag = "8")]
    pub linux: Option<LinuxPodSandboxConfig>,
}

/// Creates and starts a sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RunPodSandboxRequest {
    /// What it shall be.
    #[prost(message, optional, tag = "1")]
    pub config: Option<PodSandboxConfig>,
}

/// Answer to [`RunPodSandboxRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct RunPodSandboxResponse {
    /// Identifier of the new sandbox, `CNI_CONTAINERID` of the plugin.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
}

/// Names a sandbox: the request of `StopPodSandbox` and `RemovePodSandbox`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxId {
    /// Identifier of the sandbox.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
}

/// Asks for the state of one sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxStatusRequest {
    /// Identifier of the sandbox.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    /// Also return `info`.
    #[prost(bool, tag = "2")]
    pub verbose: bool,
}

/// Answer to [`PodSandboxStatusRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxStatusResponse {
    /// The state.
    #[prost(message, optional, tag = "1")]
    pub status: Option<PodSandboxStatus>,
    /// JSON texts by topic, when asked for; containerd puts the CNI result there.
    #[prost(map = "string, string", tag = "2")]
    pub info: HashMap<String, String>,
}

/// One address of a pod.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodIp {
    /// The address as text.
    #[prost(string, tag = "1")]
    pub ip: String,
}

/// The addresses of a sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxNetworkStatus {
    /// The first address.
    #[prost(string, tag = "1")]
    pub ip: String,
    /// The others.
    #[prost(message, repeated, tag = "2")]
    pub additional_ips: Vec<PodIp>,
}

/// Whether a sandbox runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum PodSandboxState {
    /// It runs.
    Ready = 0,
    /// It does not.
    NotReady = 1,
}

/// The state of a sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandboxStatus {
    /// Identifier of the sandbox.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Who it is.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<PodSandboxMetadata>,
    /// Whether it runs.
    #[prost(enumeration = "PodSandboxState", tag = "3")]
    pub state: i32,
    /// Its addresses.
    #[prost(message, optional, tag = "5")]
    pub network: Option<PodSandboxNetworkStatus>,
}

impl PodSandboxStatus {
    /// All addresses in the order of the runtime; empty when it knows none.
    pub fn addresses(&self) -> Vec<&str> {
        self.network
            .iter()
            .flat_map(|network| {
                std::iter::once(network.ip.as_str())
                    .chain(network.additional_ips.iter().map(|other| other.ip.as_str()))
                    .filter(|address| !address.is_empty())
            })
            .collect()
    }
}

/// Asks for all sandboxes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListPodSandboxRequest {}

/// Answer to [`ListPodSandboxRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListPodSandboxResponse {
    /// All sandboxes, running or not.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<PodSandbox>,
}

/// A sandbox in a list.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PodSandbox {
    /// Identifier of the sandbox.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Who it is.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<PodSandboxMetadata>,
    /// Whether it runs.
    #[prost(enumeration = "PodSandboxState", tag = "3")]
    pub state: i32,
}

/// An answer without content.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}
