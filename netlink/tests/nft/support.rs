//! Namespaces, commands and a few rulesets.

use std::fs::File;
use std::io::Write;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use ipnetwork::IpNetwork;
use minionet_core::nft::{
    BaseChain, Chain, ChainType, Hook, KUBE_PROXY_MARK, Masquerade, Policy, Rule, Ruleset, TABLE, masquerade,
};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace that lives as long as this value, or a socket in it.
pub struct Namespace(File);

impl Namespace {
    /// Makes one.
    ///
    /// # Panics
    /// If that is refused.
    pub fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect(
                "these tests need network namespaces of their own: run them as root, or under \
                 `unshare -rn`",
            );
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let namespace = match std::thread::spawn(make).join() {
            Ok(namespace) => Self(namespace),
            Err(panic) => std::panic::resume_unwind(panic),
        };
        namespace.run("ip link set lo up");
        namespace
    }

    /// Does something inside, on a thread that ends with it.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            match inside.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs a command line inside and returns what it printed.
    pub fn run(&self, line: &str) -> String {
        self.within(|| run(line))
    }

    /// A path by which `ip link … netns` finds the namespace.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// A UDP socket inside that gives up waiting after some seconds.
    pub fn udp(&self, address: &str) -> UdpSocket {
        let socket = self.within(|| UdpSocket::bind(address)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }
}

/// Runs a test in a new network namespace.
pub fn in_namespace(test: impl FnOnce() + Send) {
    Namespace::new().within(test);
}

/// Runs a command line in the calling thread's namespace and returns what it printed.
///
/// # Panics
/// If it fails.
pub fn run(line: &str) -> String {
    feed(line, "")
}

/// The same with something on its standard input.
pub fn feed(line: &str, input: &str) -> String {
    let mut child = Command::new("sh")
        .args(["-c", line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh is missing");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}\n{input}", text(&output.stderr));
    text(&output.stdout)
}

pub fn networks(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The policy with something of everything.
pub fn usual_masquerade() -> Ruleset {
    masquerade(&Masquerade {
        pods: networks(&["10.32.0.0/12", "fd00:32::/48"]),
        exempt: networks(&["198.51.100.0/24", "198.51.100.7/32", "2001:db8:7::/64"]),
        foreign_mark: KUBE_PROXY_MARK,
    })
}

/// A table of one filter chain.
pub fn filter(rules: Vec<Rule>) -> Ruleset {
    let mut ruleset = Ruleset::new(TABLE);
    ruleset.chains.push(Chain {
        name: "input".into(),
        base: Some(BaseChain {
            kind: ChainType::Filter,
            hook: Hook::Input,
            priority: -10,
            policy: Policy::Accept,
        }),
        rules,
    });
    ruleset
}
