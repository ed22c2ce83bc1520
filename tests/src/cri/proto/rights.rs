//! Messages about what a container may do and what it sees of its node.

/// Whose namespace a pod or container lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum NamespaceMode {
    /// The pod's.
    Pod = 0,
    /// The container's own.
    Container = 1,
    /// The node's.
    Node = 2,
}

/// Whose namespaces they live in; all messages of a pod say the same.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct NamespaceOption {
    /// Network; [`NamespaceMode::Node`] is `hostNetwork`.
    #[prost(enumeration = "NamespaceMode", tag = "1")]
    pub network: i32,
    /// Processes.
    #[prost(enumeration = "NamespaceMode", tag = "2")]
    pub pid: i32,
    /// System V IPC.
    #[prost(enumeration = "NamespaceMode", tag = "3")]
    pub ipc: i32,
}

/// The rights of a sandbox.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct LinuxSandboxSecurityContext {
    /// Its namespaces.
    #[prost(message, optional, tag = "1")]
    pub namespace_options: Option<NamespaceOption>,
}

/// Changes of the runtime's default capabilities, by names without `CAP_`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Capability {
    /// Those to add.
    #[prost(string, repeated, tag = "1")]
    pub add_capabilities: Vec<String>,
    /// Those to drop first; `ALL` is all.
    #[prost(string, repeated, tag = "2")]
    pub drop_capabilities: Vec<String>,
}

/// The rights of a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinuxContainerSecurityContext {
    /// Its capabilities.
    #[prost(message, optional, tag = "1")]
    pub capabilities: Option<Capability>,
    /// Its namespaces.
    #[prost(message, optional, tag = "3")]
    pub namespace_options: Option<NamespaceOption>,
    /// Whether its root file system is read-only.
    #[prost(bool, tag = "7")]
    pub readonly_rootfs: bool,
    /// Whether it can get no other rights (`allowPrivilegeEscalation: false`).
    #[prost(bool, tag = "11")]
    pub no_new_privs: bool,
}

/// The Linux part of a container's configuration.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LinuxContainerConfig {
    /// Its rights.
    #[prost(message, optional, tag = "2")]
    pub security_context: Option<LinuxContainerSecurityContext>,
}

/// A variable of the environment.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Which way mounts made later are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum MountPropagation {
    /// Neither way.
    Private = 0,
    /// Those of the node in the container.
    HostToContainer = 1,
}

/// A file or directory of the node in a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mount {
    /// Its path in the container.
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// Its path on the node.
    #[prost(string, tag = "2")]
    pub host_path: String,
    /// Whether it is read-only.
    #[prost(bool, tag = "3")]
    pub readonly: bool,
    /// Which way later mounts are seen.
    #[prost(enumeration = "MountPropagation", tag = "5")]
    pub propagation: i32,
}
