//! The calls of CRI v1 that a pod's life consists of.

use std::path::{Path, PathBuf};
use std::time::Duration;

use prost::Message;

use super::grpc::{CallError, unary};
use super::proto::{
    ContainerConfig, ContainerId, ContainerStatus, ContainerStatusRequest, ContainerStatusResponse,
    CreateContainerRequest, Empty, ExecSyncRequest, ExecSyncResponse, Image, ImageSpec, ImageStatusRequest,
    ImageStatusResponse, ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox, PodSandboxConfig,
    PodSandboxId, PodSandboxStatusRequest, PodSandboxStatusResponse, RunPodSandboxRequest,
    RunPodSandboxResponse, RuntimeCondition, StatusRequest, StatusResponse, StopContainerRequest,
    VersionRequest, VersionResponse,
};

/// How long a call may take: kubelet's own limit for RunPodSandbox, twice its
/// `runtimeRequestTimeout` of two minutes.
const LIMIT: Duration = Duration::from_mins(4);

/// A client of the runtime behind one socket. It holds no connection: it can be cloned and
/// shared freely, and it survives restarts of the runtime.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    limit: Duration,
}

impl Client {
    /// A client for the socket at `socket`, which need not exist yet.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), limit: LIMIT }
    }

    /// The same with another limit for every call.
    pub fn with_limit(&self, limit: Duration) -> Self {
        Self { socket: self.socket.clone(), limit }
    }

    /// Who the runtime is.
    ///
    /// # Errors
    /// See [`CallError`], as for every call here.
    pub fn version(&self) -> Result<VersionResponse, CallError> {
        self.runtime("Version", &VersionRequest { version: "v1".to_owned() })
    }

    /// The runtime's conditions, `NetworkReady` among them.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn status(&self) -> Result<Vec<RuntimeCondition>, CallError> {
        let answer: StatusResponse = self.runtime("Status", &StatusRequest { verbose: false })?;
        Ok(answer.status.unwrap_or_default().conditions)
    }

    /// The condition that says whether pods can get a network, with the reason if not.
    ///
    /// # Errors
    /// See [`CallError`]; also when the runtime reports no such condition.
    pub fn network_ready(&self) -> Result<RuntimeCondition, CallError> {
        self.status()?
            .into_iter()
            .find(|condition| condition.r#type == "NetworkReady")
            .ok_or_else(|| missing("Status", "condition NetworkReady"))
    }

    /// Creates and starts a sandbox, ADD of the plugin included; returns its identifier.
    ///
    /// # Errors
    /// See [`CallError`]; the plugin's error is quoted in the message of the status.
    pub fn run_pod_sandbox(&self, config: &PodSandboxConfig) -> Result<String, CallError> {
        let request = RunPodSandboxRequest { config: Some(config.clone()) };
        let answer: RunPodSandboxResponse = self.runtime("RunPodSandbox", &request)?;
        Ok(answer.pod_sandbox_id)
    }

    /// The state of a sandbox with, in `info`, what containerd knows beyond CRI (the CNI
    /// result, the path of the network namespace).
    ///
    /// # Errors
    /// See [`CallError`]; also when the answer holds no status.
    pub fn pod_sandbox_status(&self, id: &str) -> Result<PodSandboxStatusResponse, CallError> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        let answer: PodSandboxStatusResponse = self.runtime("PodSandboxStatus", &request)?;
        match answer.status {
            Some(_) => Ok(answer),
            None => Err(missing("PodSandboxStatus", "status")),
        }
    }

    /// All addresses of a sandbox, the first first.
    ///
    /// # Errors
    /// See [`Client::pod_sandbox_status`].
    pub fn pod_addresses(&self, id: &str) -> Result<Vec<String>, CallError> {
        let status = self.pod_sandbox_status(id)?.status.unwrap_or_default();
        Ok(status.addresses().into_iter().map(str::to_owned).collect())
    }

    /// Stops a sandbox and its containers, DEL of the plugin included; may be repeated.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn stop_pod_sandbox(&self, id: &str) -> Result<(), CallError> {
        let request = PodSandboxId { pod_sandbox_id: id.to_owned() };
        self.runtime::<Empty>("StopPodSandbox", &request).map(drop)
    }

    /// Removes a sandbox and its containers; may be repeated.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn remove_pod_sandbox(&self, id: &str) -> Result<(), CallError> {
        let request = PodSandboxId { pod_sandbox_id: id.to_owned() };
        self.runtime::<Empty>("RemovePodSandbox", &request).map(drop)
    }

    /// All sandboxes, running or not.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn list_pod_sandbox(&self) -> Result<Vec<PodSandbox>, CallError> {
        let answer: ListPodSandboxResponse = self.runtime("ListPodSandbox", &ListPodSandboxRequest {})?;
        Ok(answer.items)
    }

    /// Creates a container in a sandbox, whose configuration must be given again; returns
    /// its identifier.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn create_container(
        &self,
        sandbox: &str,
        config: &ContainerConfig,
        sandbox_config: &PodSandboxConfig,
    ) -> Result<String, CallError> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(sandbox_config.clone()),
        };
        let answer: ContainerId = self.runtime("CreateContainer", &request)?;
        Ok(answer.container_id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn start_container(&self, id: &str) -> Result<(), CallError> {
        let request = ContainerId { container_id: id.to_owned() };
        self.runtime::<Empty>("StartContainer", &request).map(drop)
    }

    /// The state of a container.
    ///
    /// # Errors
    /// See [`CallError`]; also when the answer holds no status.
    pub fn container_status(&self, id: &str) -> Result<ContainerStatus, CallError> {
        let request = ContainerStatusRequest { container_id: id.to_owned() };
        let answer: ContainerStatusResponse = self.runtime("ContainerStatus", &request)?;
        answer.status.ok_or_else(|| missing("ContainerStatus", "status"))
    }

    /// Stops a container; it is killed after `grace` (whole seconds count).
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn stop_container(&self, id: &str, grace: Duration) -> Result<(), CallError> {
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: whole_seconds(grace) };
        self.runtime::<Empty>("StopContainer", &request).map(drop)
    }

    /// Removes a container.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn remove_container(&self, id: &str) -> Result<(), CallError> {
        let request = ContainerId { container_id: id.to_owned() };
        self.runtime::<Empty>("RemoveContainer", &request).map(drop)
    }

    /// Runs a command in a container and waits for its end, at most `limit` (whole seconds
    /// count, zero means no limit).
    ///
    /// # Errors
    /// See [`CallError`]; a command that fails is no error but an exit code.
    pub fn exec_sync(
        &self,
        container: &str,
        command: &[&str],
        limit: Duration,
    ) -> Result<ExecSyncResponse, CallError> {
        let request = ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: whole_seconds(limit),
        };
        self.runtime("ExecSync", &request)
    }

    /// The image behind a reference, if the runtime has it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn image_status(&self, reference: &str) -> Result<Option<Image>, CallError> {
        let image = Some(ImageSpec { image: reference.to_owned() });
        let answer: ImageStatusResponse =
            self.call("ImageService/ImageStatus", &ImageStatusRequest { image })?;
        Ok(answer.image)
    }

    fn runtime<Answer: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<Answer, CallError> {
        self.call(&format!("RuntimeService/{method}"), request)
    }

    fn call<Answer: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<Answer, CallError> {
        unary(&self.socket, &format!("/runtime.v1.{method}"), request, self.limit)
    }
}

fn missing(method: &str, what: &str) -> CallError {
    CallError::Malformed { method: method.to_owned(), problem: format!("it has no {what}") }
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
