//! Messages about containers and their images.

use super::{KeyValue, LinuxContainerConfig, Mount, PodSandboxConfig};

/// Names an image.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ImageSpec {
    /// Its reference.
    #[prost(string, tag = "1")]
    pub image: String,
}

/// Name of a container within its sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerMetadata {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Number of the attempt to create it.
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
}

/// What a container shall be.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerConfig {
    /// Its name.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<ContainerMetadata>,
    /// Its image.
    #[prost(message, optional, tag = "2")]
    pub image: Option<ImageSpec>,
    /// Its command, in place of the image's entry point.
    #[prost(string, repeated, tag = "3")]
    pub command: Vec<String>,
    /// Arguments, in place of the image's.
    #[prost(string, repeated, tag = "4")]
    pub args: Vec<String>,
    /// Its environment.
    #[prost(message, repeated, tag = "6")]
    pub envs: Vec<KeyValue>,
    /// What it sees of the node.
    #[prost(message, repeated, tag = "7")]
    pub mounts: Vec<Mount>,
    /// The Linux part.
    #[prost(message, optional, tag = "15")]
    pub linux: Option<LinuxContainerConfig>,
}

/// Creates a container in a sandbox.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateContainerRequest {
    /// The sandbox.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    /// What it shall be.
    #[prost(message, optional, tag = "2")]
    pub config: Option<ContainerConfig>,
    /// The configuration that the sandbox was made with.
    #[prost(message, optional, tag = "3")]
    pub sandbox_config: Option<PodSandboxConfig>,
}

/// Names a container: the answer of `CreateContainer`, the request of `StartContainer` and
/// `RemoveContainer`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerId {
    /// Identifier of the container.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// Stops a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StopContainerRequest {
    /// Identifier of the container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Seconds of grace before it is killed.
    #[prost(int64, tag = "2")]
    pub timeout: i64,
}

/// Asks for the state of one container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStatusRequest {
    /// Identifier of the container.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// Answer to [`ContainerStatusRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStatusResponse {
    /// The state.
    #[prost(message, optional, tag = "1")]
    pub status: Option<ContainerStatus>,
}

/// Whether a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum ContainerState {
    /// It was never started.
    Created = 0,
    /// It runs.
    Running = 1,
    /// It ended.
    Exited = 2,
    /// The runtime does not know.
    Unknown = 3,
}

/// The state of a container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerStatus {
    /// Identifier of the container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Whether it runs.
    #[prost(enumeration = "ContainerState", tag = "3")]
    pub state: i32,
    /// How it ended.
    #[prost(int32, tag = "7")]
    pub exit_code: i32,
}

/// Runs a command in a container and waits for its end.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecSyncRequest {
    /// Identifier of the container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The command.
    #[prost(string, repeated, tag = "2")]
    pub cmd: Vec<String>,
    /// Seconds after which it is killed; 0 means never.
    #[prost(int64, tag = "3")]
    pub timeout: i64,
}

/// Answer to [`ExecSyncRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecSyncResponse {
    /// What it wrote to standard output.
    #[prost(bytes = "vec", tag = "1")]
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    #[prost(bytes = "vec", tag = "2")]
    pub stderr: Vec<u8>,
    /// Its exit code.
    #[prost(int32, tag = "3")]
    pub exit_code: i32,
}

/// Asks for one image.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ImageStatusRequest {
    /// The image.
    #[prost(message, optional, tag = "1")]
    pub image: Option<ImageSpec>,
}

/// Answer to [`ImageStatusRequest`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ImageStatusResponse {
    /// The image, or nothing when the runtime does not have it.
    #[prost(message, optional, tag = "1")]
    pub image: Option<Image>,
}

/// An image that the runtime has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Image {
    /// Its identifier: the digest of its configuration.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its references.
    #[prost(string, repeated, tag = "2")]
    pub repo_tags: Vec<String>,
}
