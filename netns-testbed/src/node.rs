//! Minions: hosts on which the daemon runs and pods are attached.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::binaries::Binaries;
use crate::cni::{Attachment, CniAnswer, CniCall};
use crate::error::{During, Error, Result};
use crate::eventually::eventually;
use crate::host::Host;
use crate::pod::{Pod, PodSpec};
use crate::process;

/// The `EnvironmentFile=` of a minion's services.
pub const ENVIRONMENT_FILE: &str = "/etc/sysconfig/kubernetes-minions";
/// Where the daemon's output goes.
pub const DAEMON_LOG: &str = "/var/log/minionetd.log";
/// How long a daemon may take from its start until it listens for signals.
const HEARD: Duration = Duration::from_secs(10);
/// What the daemon writes when it is ready for pods.
pub const CNI_CONFIG: &str = "/etc/cni/net.d/10-minionet.conflist";

/// A minion.
pub struct Node {
    host: Host,
    binaries: Binaries,
    arguments: Vec<String>,
    daemon: Mutex<Option<Child>>,
}

impl Node {
    /// Turns a host into a minion; `arguments` follow `minionetd run`.
    pub(crate) fn new(host: Host, binaries: Binaries, arguments: Vec<String>) -> Self {
        Self { host, binaries, arguments, daemon: Mutex::new(None) }
    }

    /// The node's first address on the underlay.
    pub fn address(&self) -> IpAddr {
        self.host.addresses().first().copied().unwrap_or(IpAddr::from([0; 4]))
    }

    /// Starts the daemon, with the environment that systemd would give it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it runs already.
    pub fn start_daemon(&self) -> Result<()> {
        let mut daemon = self.daemon();
        if let Some(child) = daemon.as_mut()
            && child.try_wait().during(|| format!("look after the daemon of {}", self.name()))?.is_none()
        {
            return Err(Error::Invalid {
                what: "the daemon of",
                value: self.name().into(),
                reason: "it is running; kill it first".into(),
            });
        }
        let log = || {
            self.run(|| File::options().create(true).append(true).open(DAEMON_LOG))?
                .during(|| format!("open {DAEMON_LOG} of {}", self.name()))
        };
        let mut command = self.command(self.binaries.daemon());
        command.arg("run").args(&self.arguments);
        // systemd.exec(5): the environment of services starts out with little more than PATH.
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(environment(&self.read(ENVIRONMENT_FILE)?));
        command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
        *daemon = Some(self.spawn(command)?);
        Ok(())
    }

    /// Sends the daemon a signal and waits until it has ended.
    pub fn kill_daemon(&self, signal: Signal) -> Result<ExitStatus> {
        let what = || format!("kill the daemon of {}", self.name());
        let mut daemon = self.daemon();
        let mut child = daemon.take().ok_or_else(|| Error::Invalid {
            what: "the daemon of",
            value: self.name().into(),
            reason: "it is not running".into(),
        })?;
        wait_until_heard(&mut child, signal);
        // A process id fits: the kernel's own type is a signed integer.
        kill(Pid::from_raw(child.id() as i32), signal).during(what)?;
        child.wait().during(what)
    }

    /// Sends the daemon a signal that it is to survive.
    pub fn signal_daemon(&self, signal: Signal) -> Result<()> {
        match self.daemon().as_mut() {
            Some(child) => {
                wait_until_heard(child, signal);
                kill(Pid::from_raw(child.id() as i32), signal)
                    .during(|| format!("signal the daemon of {}", self.name()))
            }
            None => Ok(()),
        }
    }

    /// The process id of the daemon, if it was started.
    pub fn daemon_pid(&self) -> Option<u32> {
        self.daemon().as_ref().map(Child::id)
    }

    /// How the daemon ended, if it did so by itself.
    pub fn daemon_exit(&self) -> Option<String> {
        let status = self.daemon().as_mut()?.try_wait().ok()??;
        Some(match status.signal() {
            Some(signal) => format!("was killed by signal {signal}"),
            None => format!("exited with {}", status.code().unwrap_or_default()),
        })
    }

    /// What the daemon wrote so far.
    pub fn log(&self) -> Result<String> {
        self.read(DAEMON_LOG)
    }

    /// Fails until the daemon has opened the node for pods; for [`crate::eventually`].
    pub fn ready(&self) -> Result<()> {
        let reason = match self.daemon_exit() {
            Some(exit) => format!("its daemon {exit}: {}", self.log().unwrap_or_default().trim()),
            None if self.exists(CNI_CONFIG)? => return Ok(()),
            None => format!("{CNI_CONFIG} is missing"),
        };
        Err(Error::Invalid { what: "the node", value: self.name().into(), reason })
    }

    /// Attaches a pod the way a kubelet does.
    pub fn add_pod(&self, name: &str) -> Result<Pod> {
        self.add_pod_with(name, PodSpec::default())
    }

    /// Attaches a pod with capabilities, another interface or another version.
    pub fn add_pod_with(&self, name: &str, spec: PodSpec) -> Result<Pod> {
        Pod::attach(&self.host, self.binaries.directory().to_path_buf(), name, spec)
    }

    /// Executes the plugin under test for an attachment, with any input; for black-box tests.
    ///
    /// `adjust` may change the call, as in `|call| call.without_env("CNI_NETNS")`.
    pub fn cni_exec(
        &self,
        command: &str,
        attachment: &Attachment,
        stdin: impl Into<Vec<u8>>,
        adjust: impl FnOnce(CniCall) -> CniCall,
    ) -> Result<CniAnswer> {
        let path = self.binaries.directory().display().to_string();
        adjust(CniCall::new(command, attachment, &path, stdin)).execute(&self.host, &self.binaries.plugin())
    }

    /// Runs the operator's command: `minionetd` with these words.
    pub fn minionetd<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let mut command = self.command(self.binaries.daemon());
        command.args(words);
        process::forget_settings(&mut command);
        process::run_checked(command, self.name(), b"")
    }

    /// The directory of the programs under test.
    pub fn programs(&self) -> &Path {
        self.binaries.directory()
    }

    /// The host, which [`Node`] dereferences to.
    pub fn host(&self) -> &Host {
        &self.host
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Child>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Node {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = self.daemon().as_mut() {
            // It may have ended already; then there is only the status to collect.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until a daemon that was started just now would not end by a signal that it understands; not
/// for ever, as it may be a program that never does.
fn wait_until_heard(child: &mut Child, signal: Signal) {
    if ![Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].contains(&signal) {
        return;
    }
    let _ = eventually("the daemon to listen for signals", HEARD, || {
        let ended = child.try_wait().is_ok_and(|status| status.is_some());
        if ended || process::catches(child.id(), signal) { Ok(()) } else { Err("not yet") }
    });
}

/// The variables of an environment file: systemd.exec(5), `EnvironmentFile=`.
fn environment(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), unquote(value.trim()).to_owned()))
        .collect()
}

fn unquote(value: &str) -> &str {
    let inner = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_file_of_an_image_is_understood() {
        let read = environment(
            "# made by the image\nCLUSTER_NAME=cncfdemo\nCLOUD_PROVIDER=--cloud-provider=aws\n\n\
             QUOTED=\"two words\"\n;no\n",
        );
        let expected = [
            ("CLOUD_PROVIDER", "--cloud-provider=aws"),
            ("CLUSTER_NAME", "cncfdemo"),
            ("QUOTED", "two words"),
        ];
        assert_eq!(read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
    }
}
