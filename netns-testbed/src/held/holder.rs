//! The demo's side: it waits for a signal and lets others in meanwhile.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use anyhow::{Context, Result};
use netns_testbed::Namespace;
use nix::fcntl::renameat;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::place;
use super::protocol::{self, Answer, Request};

/// The signals that end a demo.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// What must be known before the namespaces are entered.
pub struct Reservation {
    directory: OwnedFd,
    /// The name of the socket there.
    name: String,
    /// As the rest of the machine knows it.
    process: u32,
}

/// A demo that is going to be held.
pub struct Holder {
    reservation: Reservation,
    holding: Arc<AtomicBool>,
    ended: Receiver<()>,
}

/// What can be entered.
pub struct Rooms {
    overview: String,
    variables: BTreeMap<String, String>,
    /// By every name that a person may use.
    namespaces: BTreeMap<String, Namespace>,
}

/// A socket that is removed in the end.
struct Door {
    directory: OwnedFd,
    name: String,
}

impl Reservation {
    /// Opens the directory of the socket: inside, its path leads elsewhere.
    pub fn make() -> Result<Self> {
        let directory = place::open().context("neither the runtime directory nor /tmp can be written to")?;
        let process = std::process::id();
        Ok(Self { directory, name: place::socket_name(process), process })
    }

    /// Takes care of the signals that end the demo. To be called before the first thread starts,
    /// as each of them could take a signal otherwise.
    pub fn guard(self) -> Result<Holder> {
        let signals: SigSet = ENDING.into_iter().collect();
        signals.thread_block().context("block signals")?;
        let holding = Arc::new(AtomicBool::new(false));
        let (end, ended) = channel();
        thread::spawn({
            let holding = Arc::clone(&holding);
            move || {
                while let Ok(signal) = signals.wait() {
                    if !holding.load(Ordering::SeqCst) {
                        // There is nothing yet that would have to be removed.
                        std::process::exit(128 + signal as i32);
                    }
                    // Whoever waits for it may be at it already.
                    let _ = end.send(());
                }
            }
        });
        Ok(Holder { reservation: self, holding, ended })
    }
}

impl Holder {
    /// Lets others in until a signal comes.
    pub fn hold(self, rooms: Rooms) -> Result<()> {
        self.holding.store(true, Ordering::SeqCst);
        let (door, listener) = Door::open(self.reservation.directory, self.reservation.name)?;
        let hint = rooms.hint(self.reservation.process);
        crate::terminal::note(&hint);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // One after the other: an answer takes no time, and who is silent is cut off. What
                // goes wrong is the other side's to report.
                let _ = rooms.serve(&stream);
            }
        });
        // Ends with the thread that takes the signals, if it should; then there is no use waiting.
        let _ = self.ended.recv();
        drop(door);
        Ok(())
    }
}

impl Door {
    fn open(directory: OwnedFd, name: String) -> Result<(Self, UnixListener)> {
        let door = Self { directory, name };
        // In the place of that of an earlier process with the same number, and only when somebody
        // listens: a visitor takes a socket on which nobody does for what a killed demo left.
        let new = format!("{}.new", door.name);
        door.remove(&new);
        // Through the descriptor: the path is hidden behind the testbed's own /run.
        let path = format!("/proc/self/fd/{}/{new}", door.directory.as_raw_fd());
        let listener = UnixListener::bind(path).context("make the socket for exec and status")?;
        renameat(&door.directory, new.as_str(), &door.directory, door.name.as_str())
            .context("name the socket for exec and status")?;
        Ok((door, listener))
    }

    fn remove(&self, name: &str) {
        // Absence is what is wanted.
        let _ = unlinkat(&self.directory, name, UnlinkatFlags::NoRemoveDir);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.remove(&self.name);
    }
}

impl Rooms {
    /// No rooms yet; `overview` is what `status` prints, `programs` the directory of the programs
    /// that run on the nodes.
    pub fn new(overview: String, cluster: &str, programs: &Path) -> Self {
        let variables = BTreeMap::from([
            ("CLUSTER_NAME".to_owned(), cluster.to_owned()),
            ("PATH".to_owned(), programs.display().to_string()),
        ]);
        Self { overview, variables, namespaces: BTreeMap::new() }
    }

    /// Adds a host or pod.
    pub fn add(&mut self, name: &str, namespace: &Namespace) {
        self.namespaces.insert(name.to_owned(), namespace.clone());
    }

    /// How to look inside.
    fn hint(&self, process: u32) -> String {
        let program = std::env::args().next().unwrap_or_else(|| "netns-testbed".to_owned());
        // Only who started it may enter.
        let sudo = if std::env::var_os("SUDO_USER").is_some() { "sudo " } else { "" };
        let pod = self.namespaces.keys().find(|name| name.starts_with("pod"));
        let pod = pod.map_or("pod1-1", String::as_str);
        let line = |words: &str| format!("  {sudo}{program} {words}\n");
        [
            format!("\nThe cluster stays until Ctrl-C (or: {sudo}kill {process}). A look inside:\n"),
            line("status"),
            line("exec node1 -- ip route"),
            line("exec node1 -- bridge fdb show dev minionet"),
            line("exec node1 -- cat /var/log/minionetd.log"),
            line(&format!("exec {pod} -- ip address")),
            line(&format!("exec {pod}")),
        ]
        .concat()
    }

    fn serve(&self, stream: &UnixStream) -> io::Result<()> {
        protocol::greet(stream)?;
        match protocol::hear(stream)? {
            Request::Overview => protocol::answer(stream, &Answer::Overview(self.overview.clone()), &[]),
            Request::Enter(name) => match self.namespaces.get(&name) {
                Some(namespace) => self.admit(stream, namespace),
                None => {
                    let names: Vec<&str> = self.namespaces.keys().map(String::as_str).collect();
                    let text = format!("there is no {name} in this demo: choose among {}", names.join(" "));
                    protocol::answer(stream, &Answer::Refused(text), &[])
                }
            },
        }
    }

    fn admit(&self, stream: &UnixStream, namespace: &Namespace) -> io::Result<()> {
        let own = |kind: &str| File::open(format!("/proc/self/ns/{kind}"));
        let (user, pid, mounts) = (own("user")?, own("pid")?, own("mnt")?);
        let mounts = namespace.mount_fd().unwrap_or(mounts.as_fd());
        let descriptors: [_; protocol::DESCRIPTORS] =
            [user.as_fd(), pid.as_fd(), mounts, namespace.net_fd()].map(|fd| fd.as_raw_fd());
        protocol::answer(stream, &Answer::Enter(self.variables.clone()), &descriptors)
    }
}
