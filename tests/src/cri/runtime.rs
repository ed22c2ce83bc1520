//! One instance of containerd with everything that belongs to it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::client::Client;
use super::config::{self, BUSYBOX_IMAGE, Layout, PAUSE_IMAGE};
use super::grpc::CallError;
use super::proto::{
    ContainerConfig, ContainerMetadata, ImageSpec, LinuxPodSandboxConfig, PodSandboxConfig,
    PodSandboxMetadata,
};
use super::supervisor::{Supervisor, SupervisorError};
use super::{image, needs, poll};

/// Time for containerd to answer after its start, and for an image to appear in CRI.
const START: Duration = Duration::from_mins(3);

/// Lines of the log that an error quotes.
const TAIL: usize = 15;

/// Why the runtime could not be set up or taken down.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A program is missing; `available` would have said so.
    #[error("{program} is not installed; see cri::available")]
    Missing {
        /// The program.
        program: &'static str,
    },
    /// A file or directory could not be prepared.
    #[error("cannot prepare {what}")]
    Prepare {
        /// What was to be prepared.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The owner of the namespaces failed.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// containerd does not answer.
    #[error("containerd did not start, or did not answer within {limit:?}; the end of its log:\n{log}")]
    NotReady {
        /// How long was waited.
        limit: Duration,
        /// The last lines of its log.
        log: String,
    },
    /// The images could not be imported.
    #[error("cannot import the images: {output}")]
    Import {
        /// What `ctr` said.
        output: String,
    },
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// What the caller decides.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directories of CNI plugins; of equal names the one in the earlier directory is taken.
    /// A plugin named `loopback` must be among them, for containerd runs it in every pod.
    pub cni_bin: Vec<PathBuf>,
    /// The directory of CNI configuration lists, as the runtime's mount namespace sees it. It
    /// need not exist yet: until it holds a list, `NetworkReady` is false.
    pub cni_conf: PathBuf,
}

/// A running containerd. Dropping it kills and removes everything; [`Runtime::stop`] does the
/// same and reports what could not be removed.
#[derive(Debug)]
pub struct Runtime {
    // Fields are dropped in this order: first the processes, then their files.
    supervisor: Supervisor,
    directory: TempDir,
    cgroup: String,
    client: Client,
}

impl Runtime {
    /// Starts containerd and imports the images.
    ///
    /// `spawn` is called once and gives a command for the named program in the network and
    /// mount namespaces of a node: `|program| node.command(program)`, or just `Command::new`
    /// for those of the test. The runtime makes a mount and a pid namespace of its own from
    /// there. The directory for temporary files must be the same in both, and the loopback
    /// interface must be up.
    ///
    /// # Errors
    /// [`RuntimeError`]; nothing is left behind then.
    pub fn start(options: &Options, spawn: impl FnOnce(&str) -> Command) -> Result<Self, RuntimeError> {
        let directory = tempfile::Builder::new()
            .prefix("minionet-cri-")
            .tempdir()
            .map_err(prepare("a temporary directory"))?;
        write_files(directory.path(), options)?;
        // The name of the directory is unique on the machine; so is that of the cgroup.
        let cgroup = file_name(directory.path());
        let supervisor = Supervisor::start(directory.path(), &cgroup, spawn)?;
        let client = Client::new(&directory.path().join("containerd.sock"));
        let mut runtime = Self { supervisor, directory, cgroup, client };
        runtime.start_again()?;
        runtime.import_images()?;
        Ok(runtime)
    }

    /// A client of this instance; it stays valid when containerd is killed and started again.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A command for a program in the namespaces of the runtime: it sees the network
    /// namespaces of the pods by the paths that the plugin was given, and dies with the
    /// runtime.
    pub fn command(&self, program: &str) -> Command {
        self.supervisor.command(program)
    }

    /// Kills containerd as a crash would (SIGKILL) and waits for its end. Pods keep running.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn kill(&mut self) -> Result<(), RuntimeError> {
        Ok(self.supervisor.signal_daemon("KILL")?)
    }

    /// Stops containerd as an upgrade would (SIGTERM) and waits for its end. Pods keep running.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn terminate(&mut self) -> Result<(), RuntimeError> {
        Ok(self.supervisor.signal_daemon("TERM")?)
    }

    /// Starts containerd after [`Runtime::kill`] or [`Runtime::terminate`] and waits until it
    /// answers.
    ///
    /// # Errors
    /// When it does not answer, with the end of its log.
    pub fn start_again(&mut self) -> Result<(), RuntimeError> {
        self.supervisor.start_daemon()?;
        let client = self.client.with_limit(START);
        poll::until(START, || client.status().ok())
            .map(drop)
            .ok_or_else(|| RuntimeError::NotReady { limit: START, log: tail(&self.log()) })
    }

    /// containerd's log since the first start; empty when it cannot be read.
    pub fn log(&self) -> String {
        std::fs::read(self.directory.path().join("containerd.log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// The cgroup below which all pods of this instance run.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// The directory that holds everything of this instance.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A configuration for a pod of this name, complete but for what a test wants to add.
    pub fn pod(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}", self.cgroup),
                security_context: None,
                sysctls: HashMap::new(),
            }),
            ..PodSandboxConfig::default()
        }
    }

    /// Creates and starts a container of busybox in a sandbox; returns its identifier. With
    /// an empty `command` it idles, for use with `exec_sync`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn run_container(
        &self,
        sandbox: &str,
        sandbox_config: &PodSandboxConfig,
        name: &str,
        command: &[&str],
    ) -> Result<String, CallError> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: BUSYBOX_IMAGE.to_owned() }),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            ..ContainerConfig::default()
        };
        self.start_container(sandbox, sandbox_config, &config)
    }

    /// Creates and starts a container in a sandbox; returns its identifier.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn start_container(
        &self,
        sandbox: &str,
        sandbox_config: &PodSandboxConfig,
        config: &ContainerConfig,
    ) -> Result<String, CallError> {
        let id = self.client.create_container(sandbox, config, sandbox_config)?;
        self.client.start_container(&id)?;
        Ok(id)
    }

    /// Kills everything, containers included, removes what it left, and waits for that.
    ///
    /// # Errors
    /// When something could not be removed.
    pub fn stop(self) -> Result<(), RuntimeError> {
        Ok(self.supervisor.end()?)
    }

    /// Imports an archive of images, and waits until CRI knows them by these references.
    ///
    /// # Errors
    /// When containerd takes the archive not, or other references come of it.
    pub fn import(&self, archive: &Path, references: &[&str]) -> Result<(), RuntimeError> {
        let output = self
            .command("ctr")
            .arg("--address")
            .arg(self.directory.path().join("containerd.sock"))
            .args(["--namespace", "k8s.io", "images", "import", "--snapshotter", "native"])
            .arg(archive)
            .output()
            .map_err(prepare("ctr"))?;
        if !output.status.success() {
            let output = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(RuntimeError::Import { output });
        }
        // CRI learns of the images by an event.
        for reference in references {
            poll::until(START, || self.client.image_status(reference).ok().flatten())
                .ok_or_else(|| RuntimeError::Import { output: format!("CRI does not know {reference}") })?;
        }
        Ok(())
    }

    fn import_images(&self) -> Result<(), RuntimeError> {
        let path = self.directory.path().join("images.tar");
        let busybox = program("busybox")?;
        let archive = image::archive(&busybox).map_err(prepare("the images"))?;
        std::fs::write(&path, archive).map_err(prepare(&path.display().to_string()))?;
        self.import(&path, &[PAUSE_IMAGE, BUSYBOX_IMAGE])
    }
}

/// Writes the configuration and the directory of plugins.
fn write_files(directory: &Path, options: &Options) -> Result<(), RuntimeError> {
    let cni_bin = directory.join("cni-bin");
    collect_plugins(&options.cni_bin, &cni_bin)?;
    let crun = program("crun")?;
    let layout = Layout { directory, cni_bin: &cni_bin, cni_conf: &options.cni_conf, crun: &crun };
    let path = directory.join("config.toml");
    std::fs::write(&path, config::render(&layout)).map_err(prepare(&path.display().to_string()))
}

/// Makes a directory of links to all plugins, for containerd takes one directory only.
fn collect_plugins(sources: &[PathBuf], target: &Path) -> Result<(), RuntimeError> {
    std::fs::create_dir(target).map_err(prepare(&target.display().to_string()))?;
    for source in sources {
        let failed = prepare(&source.display().to_string());
        for entry in std::fs::read_dir(source).map_err(&failed)? {
            let entry = entry.map_err(&failed)?;
            match std::os::unix::fs::symlink(entry.path(), target.join(entry.file_name())) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed(error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn program(name: &'static str) -> Result<PathBuf, RuntimeError> {
    needs::find(name).ok_or(RuntimeError::Missing { program: name })
}

fn prepare(what: &str) -> impl Fn(io::Error) -> RuntimeError + use<> {
    let what = what.to_owned();
    move |source| RuntimeError::Prepare { what: what.clone(), source }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
