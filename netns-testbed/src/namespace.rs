//! Namespaces held by file descriptors: they vanish with the process, however it ends.

mod mounts;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::error::{During, Error, Result};
use crate::process;

/// Where `ip netns` and container runtimes bind network namespaces.
const NETNS_DIR: &str = "/run/netns";

/// A network namespace, and for hosts a mount namespace with it. Clones are the same namespace.
#[derive(Clone)]
pub struct Namespace {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    net: OwnedFd,
    mounts: Option<Arc<OwnedFd>>,
}

// === impl Namespace ===

impl Namespace {
    /// A network namespace alone, as a switch needs.
    pub fn network_only(name: &str) -> Result<Self> {
        let net = in_new_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            current("net")
        })
        .during(|| format!("create the network namespace of {name}"))?;
        Self::finish(name, net, None)
    }

    /// A network namespace and a mount namespace with empty `/etc`, `/run`, `/var/lib` and `/var/log`.
    pub fn host(name: &str) -> Result<Self> {
        let (net, mounts) = in_new_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
            mounts::furnish()?;
            Ok((current("net")?, current("mnt")?))
        })
        .during(|| format!("create the namespaces of {name}"))?;
        Self::finish(name, net, Some(Arc::new(mounts)))
    }

    /// A pod of this host: a network namespace bound at `/run/netns/<name>` inside the host's mounts.
    pub fn pod(&self, name: &str) -> Result<Self> {
        let path = Self::netns_path(name);
        let net = self
            .run(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                fs::create_dir_all(NETNS_DIR)?;
                File::create_new(&path)?;
                let own = Some("/proc/thread-self/ns/net");
                mount(own, path.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
                current("net")
            })?
            .during(|| format!("create the pod {name} of {}", self.name()))?;
        let name = format!("{}/{name}", self.name());
        Self::finish(&name, net, self.inner.mounts.clone())
    }

    /// Removes the path of a pod's namespace, as a runtime does after DEL; absence is no error.
    pub fn unbind_pod(&self, name: &str) -> Result<()> {
        let path = Self::netns_path(name);
        self.run(|| match umount2(path.as_str(), MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::errno::Errno::EINVAL) => fs::remove_file(&path),
            Err(nix::errno::Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        })?
        .during(|| format!("remove {path} of {}", self.name()))
    }

    /// The path of a pod's namespace inside its host, as `CNI_NETNS` names it.
    pub fn netns_path(pod: &str) -> String {
        format!("{NETNS_DIR}/{pod}")
    }

    fn finish(name: &str, net: OwnedFd, mounts: Option<Arc<OwnedFd>>) -> Result<Self> {
        let namespace = Self { inner: Arc::new(Inner { name: name.to_owned(), net, mounts }) };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name given at creation; a pod's is `host/pod`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Runs `work` in a throw-away thread inside the namespaces. Sockets made there stay there.
    ///
    /// A panic in `work` goes on in the caller. Do not start long-lived programs in it; see
    /// [`Namespace::command`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let entered = thread::scope(|scope| {
            let thread = scope.spawn(|| self.join().map(|()| work()));
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        });
        entered.during(|| format!("enter the namespaces of {}", self.name()))
    }

    /// Starts a thread that stays inside the namespaces.
    pub(crate) fn spawn_thread(
        &self,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<thread::JoinHandle<()>> {
        let (entered, wait) = std::sync::mpsc::channel();
        let namespace = self.clone();
        let thread = thread::Builder::new()
            .name(self.name().to_owned())
            .spawn(move || {
                let joined = namespace.join();
                let ready = joined.is_ok();
                // The receiver waits below, so this arrives.
                let _ = entered.send(joined);
                if ready {
                    work();
                }
            })
            .during(|| format!("start a thread in {}", self.name()))?;
        wait.recv()
            .unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))
            .during(|| format!("enter the namespaces of {}", self.name()))?;
        Ok(thread)
    }

    /// Moves the calling thread into the namespaces, for good.
    fn join(&self) -> io::Result<()> {
        // The mounts first: the files of /proc that follow are the same in all of them.
        if let Some(mounts) = &self.inner.mounts {
            // A thread that shares its working directory cannot change mounts: setns(2).
            unshare(CloneFlags::CLONE_FS)?;
            setns(mounts.as_fd(), CloneFlags::CLONE_NEWNS)?;
        }
        setns(self.inner.net.as_fd(), CloneFlags::CLONE_NEWNET)?;
        Ok(())
    }

    /// A program that will run inside the namespaces and dies with the testbed.
    ///
    /// Start it with [`Namespace::spawn`], which gives it a parent that lives long enough.
    #[allow(unsafe_code)]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let namespace = self.clone();
        let enter = move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if let Some(mounts) = &namespace.inner.mounts {
                setns(mounts.as_fd(), CloneFlags::CLONE_NEWNS)?;
            }
            setns(namespace.inner.net.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(())
        };
        // SAFETY: the closure makes system calls only; it allocates nothing and takes no lock.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Starts a program prepared with [`Namespace::command`].
    pub fn spawn(&self, command: Command) -> Result<std::process::Child> {
        let line = process::command_line(&command);
        process::spawn(command).during(|| format!("start `{line}` in {}", self.name()))
    }

    /// Runs a program inside to its end and returns its standard output.
    ///
    /// # Errors
    /// [`Error::Command`] with its standard error where it reports a failure.
    pub fn exec<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<String> {
        self.exec_with_input(words, b"")
    }

    /// As [`Namespace::exec`], with a standard input.
    pub fn exec_with_input<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Result<String> {
        let mut words = words.into_iter();
        let program = words.next().ok_or_else(|| Error::Invalid {
            what: "the command",
            value: String::new(),
            reason: "it must name a program".into(),
        })?;
        let mut command = self.command(program);
        command.args(words);
        process::run_checked(command, self.name(), input)
    }

    /// Runs lines of iproute2 commands (without the word `ip`) in one process.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.exec_with_input(["ip", "-batch", "-"], lines.as_bytes()).map(drop)
    }

    /// Applies an nftables script as one transaction.
    pub fn nft(&self, script: &str) -> Result<()> {
        self.exec_with_input(["nft", "-f", "-"], script.as_bytes()).map(drop)
    }

    /// Sets kernel parameters of the namespace, named as in `net.ipv4.ip_forward`.
    pub fn sysctl<'a>(&self, settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<()> {
        let settings: Vec<_> = settings.into_iter().collect();
        self.run(|| {
            for (name, value) in settings {
                let path = format!("/proc/sys/{}", name.replace('.', "/"));
                fs::write(&path, value).during(|| format!("write {value} to {path} of {}", self.name()))?;
            }
            Ok(())
        })?
    }

    /// Writes a file as seen inside, with the directories above it.
    pub fn write(&self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<()> {
        let (path, contents) = (path.as_ref(), contents.as_ref());
        self.run(|| {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            fs::write(path, contents)
        })?
        .during(|| format!("write {} in {}", path.display(), self.name()))
    }

    /// Reads a file as seen inside.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<String> {
        let path = path.as_ref();
        self.run(|| fs::read_to_string(path))?
            .during(|| format!("read {} in {}", path.display(), self.name()))
    }

    /// Whether a path exists inside.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        let path = path.as_ref();
        self.run(|| path.try_exists())?.during(|| format!("look for {} in {}", path.display(), self.name()))
    }

    /// The network namespace as a path for a program of ours, as in `ip link set X netns PATH`.
    pub(crate) fn net_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.inner.net.as_raw_fd())
    }

    /// The descriptor of the network namespace.
    pub fn net_fd(&self) -> BorrowedFd<'_> {
        self.inner.net.as_fd()
    }

    /// The descriptor of the mount namespace: a host's own, which its pods share.
    pub fn mount_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.mounts.as_ref().map(|mounts| mounts.as_fd())
    }
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Namespace").field(&self.inner.name).finish()
    }
}

/// The calling thread's namespace of a kind, held open.
fn current(kind: &str) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/thread-self/ns/{kind}"))?.into())
}

/// Runs `work` in a thread that ends with it, for whatever cannot be undone in a thread.
fn in_new_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| resume_unwind(panic)))
}
