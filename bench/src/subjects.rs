//! Who attaches pods: minionet, the reference plugins, and the floor.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use minionet_netlink::Socket;
use netns_testbed::{Cluster, Host, Namespace};
use serde_json::{Value, json};

use crate::measure::{time, time_here, until};
use crate::pair::MASQUERADING;
use crate::programs::{Programs, REFERENCE};

/// How long anything may take to disappear.
const PATIENT: Duration = Duration::from_secs(30);

/// The name of the network, of ours and theirs.
const NETWORK: &str = "bench";

/// What the floor calls a DEL that destroys nothing.
const LEAVE: &str = "LEAVE";

/// Where the floor keeps its files, in memory as the plugin's are.
const FLOOR_DIR: &str = "/run/floor";

/// What it finds there: as much as the plugin does of its node, of its boot, and of free addresses.
const FLOOR_FILES: [(&str, [u8; 512]); 3] =
    [("node.json", [b'n'; 512]), ("boot", [b'b'; 512]), ("queue", [0; 512])];

/// The group of links that the floor leaves to others; see there.
const LEFT: u32 = 0x6d6e;

/// Somebody who attaches pods of a host.
pub struct Subject {
    /// For people.
    pub name: String,
    host: Namespace,
    kind: Kind,
    /// One that the kernel remembers as long as it is open.
    connection: Option<(TcpListener, TcpStream)>,
    /// Keeps the host, and what runs on it.
    _owner: Owner,
}

enum Kind {
    Cni { program: PathBuf, conf: String },
    Floor { program: PathBuf, dual: bool, files: bool },
}

enum Owner {
    Cluster(Box<Cluster>),
    Host(#[allow(dead_code)] Host),
}

/// How the reference plugins are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A bridge, with host-local.
    Bridge,
    /// The same, with masquerade for each pod.
    Masquerade,
    /// Point to point, with addresses of both families.
    PtpDual,
}

impl Subject {
    /// minionet on a minion whose daemon runs.
    pub fn minionet(programs: &Programs, config: &str) -> Result<Self> {
        let builder = Cluster::builder("bench").nodes(1).binaries(programs.binaries()).config(config);
        let cluster = builder.start()?;
        cluster.wait_ready()?;
        let host = cluster.node(0).namespace().clone();
        // The daemon tells what it knows of itself a moment after it is ready.
        until("the daemon's health", PATIENT, || {
            Ok(host.read("/run/minionet/health.json").is_ok_and(|text| text.contains("rules")))
        })?;
        let conf = json!({"cniVersion": "1.1.0", "name": NETWORK, "type": "minionet"}).to_string();
        let kind = Kind::Cni { program: programs.path("minionet"), conf };
        Ok(Subject {
            name: "minionet".into(),
            host,
            kind,
            connection: None,
            _owner: Owner::Cluster(Box::new(cluster)),
        })
    }

    /// minionet for pods of both families.
    pub fn minionet_dual(programs: &Programs) -> Result<Self> {
        let config = "pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]";
        Ok(Subject { name: "minionet, dual stack".into(), ..Self::minionet(programs, config)? })
    }

    /// Somebody on a host of its own, where nothing is remembered.
    fn on(host: Host, name: &str, kind: Kind) -> Self {
        let place = host.namespace().clone();
        Subject { name: name.into(), host: place, kind, connection: None, _owner: Owner::Host(host) }
    }

    /// A reference plugin of Debian on a host of its own.
    pub fn reference(reference: Reference) -> Result<Self> {
        let (name, plugin, ranges) = match reference {
            Reference::Bridge => ("bridge + host-local", "bridge", json!([[{"subnet": "10.88.0.0/16"}]])),
            Reference::Masquerade => {
                ("bridge + host-local, masquerade", "bridge", json!([[{"subnet": "10.88.0.0/16"}]]))
            }
            Reference::PtpDual => (
                "ptp + host-local, dual stack",
                "ptp",
                json!([[{"subnet": "10.88.0.0/16"}], [{"subnet": "fd00:88::/64"}]]),
            ),
        };
        let mut routes = vec![json!({"dst": "0.0.0.0/0"})];
        if reference == Reference::PtpDual {
            routes.push(json!({"dst": "::/0"}));
        }
        let mut conf = json!({
            "cniVersion": "1.0.0", "name": NETWORK, "type": plugin,
            "ipMasq": reference == Reference::Masquerade,
            "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
        });
        if plugin == "bridge" {
            conf["bridge"] = json!("cni0");
            conf["isGateway"] = json!(true);
        }
        let host = Host::new("reference")?;
        if reference == Reference::PtpDual {
            // As distributions have it; hosts of the testbed do without the wait for duplicates.
            host.sysctl([("net.ipv6.conf.default.accept_dad", "1"), ("net.ipv6.conf.all.accept_dad", "1")])?;
        }
        let kind = Kind::Cni { program: PathBuf::from(REFERENCE).join(plugin), conf: conf.to_string() };
        Ok(Subject::on(host, name, kind))
    }

    /// The program that sends the needed messages and nothing else.
    pub fn floor(programs: &Programs, dual: bool) -> Result<Self> {
        let host = Host::new("floor")?;
        host.forward()?;
        let kind = Kind::Floor { program: programs.path("minionet-floor"), dual, files: false };
        let name = if dual { "floor, dual stack" } else { "floor" };
        Ok(Subject::on(host, name, kind))
    }

    /// The same with the files that an ADD has to read and write to lose nothing by a crash.
    pub fn floor_with_files(programs: &Programs) -> Result<Self> {
        let host = Host::new("floor")?;
        host.forward()?;
        for (path, content) in FLOOR_FILES {
            host.namespace().write(Path::new(FLOOR_DIR).join(path), content)?;
        }
        let directories = || ["attachments", "leases"].map(|name| Path::new(FLOOR_DIR).join(name));
        host.namespace().run(|| directories().iter().try_for_each(std::fs::create_dir))??;
        let kind = Kind::Floor { program: programs.path("minionet-floor"), dual: false, files: true };
        Ok(Subject::on(host, "floor with files", kind))
    }

    /// The same on a node as kube-proxy makes them: a rule masquerades, and there is a connection that
    /// the kernel remembers, so that it goes through its whole table for each interface that goes down
    /// (`masq_device_event`, net/netfilter/nf_nat_masquerade.c).
    pub fn beside_kube_proxy(mut self) -> Result<Self> {
        self.host.nft(MASQUERADING)?;
        let connect = || -> std::io::Result<(TcpListener, TcpStream)> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let stream = TcpStream::connect(listener.local_addr()?)?;
            Ok((listener, stream))
        };
        self.connection = Some(self.host.run(connect)??);
        self.name += ", beside kube-proxy";
        Ok(self)
    }

    /// Where it works.
    pub fn host(&self) -> &Namespace {
        &self.host
    }

    /// The cluster, if it is ours.
    pub fn cluster(&self) -> Option<&Cluster> {
        match &self._owner {
            Owner::Cluster(cluster) => Some(cluster),
            Owner::Host(_) => None,
        }
    }

    /// Makes namespaces for pods, which are attached and detached again and again.
    pub fn pods(&self, count: usize) -> Result<Vec<Pod>> {
        (0..count).map(|number| Pod::new(&self.host, number)).collect()
    }

    /// ADD: how long the whole process takes.
    pub fn add(&self, pod: &Pod, call: usize) -> Result<Duration> {
        Ok(time(&self.host, self.command("ADD", pod, call), self.stdin())?.0)
    }

    /// DEL: how long the whole process takes. The link may still be there.
    pub fn del(&self, pod: &Pod, call: usize) -> Result<Duration> {
        Ok(time(&self.host, self.command("DEL", pod, call), self.stdin())?.0)
    }

    /// A verb that is about no pod, as STATUS or VERSION.
    pub fn ask(&self, verb: &str) -> Result<Duration> {
        let Kind::Cni { program, conf } = &self.kind else { return Ok(Duration::ZERO) };
        let mut command = Command::new(program);
        command.env_clear().env("CNI_COMMAND", verb).env("CNI_PATH", REFERENCE);
        Ok(time(&self.host, command, conf.as_bytes())?.0)
    }

    /// As [`Subject::add`], for a thread that is in the host.
    pub fn add_here(&self, pod: &Pod, call: usize) -> Result<Duration> {
        Ok(time_here(self.command("ADD", pod, call), self.stdin())?.0)
    }

    /// As [`Subject::del`], for a thread that is in the host.
    pub fn del_here(&self, pod: &Pod, call: usize) -> Result<Duration> {
        Ok(time_here(self.command("DEL", pod, call), self.stdin())?.0)
    }

    /// As [`Subject::del_here`], but the floor too leaves the destruction of the link to others.
    pub fn leave_here(&self, pod: &Pod, call: usize) -> Result<Duration> {
        let verb = if matches!(self.kind, Kind::Floor { .. }) { LEAVE } else { "DEL" };
        Ok(time_here(self.command(verb, pod, call), self.stdin())?.0)
    }

    /// Destroys what the floor has left; for the others, somebody does.
    pub fn destroy_left(&self) -> Result<()> {
        if matches!(self.kind, Kind::Floor { .. }) {
            self.host.run(Socket::open)??.delete_group(LEFT)?;
        }
        Ok(())
    }

    /// What the plugin reads.
    pub fn stdin(&self) -> &[u8] {
        match &self.kind {
            Kind::Cni { conf, .. } => conf.as_bytes(),
            // As long as that of minionet, if it is read at all.
            Kind::Floor { files: true, .. } => &[b'{'; 56],
            Kind::Floor { .. } => b"",
        }
    }

    /// The command line of a call.
    pub fn command(&self, verb: &str, pod: &Pod, call: usize) -> Command {
        match &self.kind {
            Kind::Cni { program, .. } => {
                let mut command = Command::new(program);
                command.env_clear().envs([
                    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                    ("CNI_COMMAND", verb),
                    // As long as those of runtimes.
                    ("CNI_CONTAINERID", &format!("{:032x}{call:032x}", pod.number + 1)),
                    ("CNI_NETNS", &pod.path),
                    ("CNI_IFNAME", "eth0"),
                    ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"),
                    ("CNI_PATH", REFERENCE),
                ]);
                command
            }
            Kind::Floor { program, dual, files } => {
                let outer = format!("floor{}", pod.number);
                let low = pod.number % 250 + 2;
                let mut command = Command::new(program);
                command.env_clear();
                let address = format!("10.32.1.{low}");
                if *files && verb == "ADD" {
                    command.args(["safely", FLOOR_DIR]);
                }
                match verb {
                    "ADD" => command.args(["add", &pod.path, &outer, &address, "10.32.1.1"]),
                    LEAVE => command.args(["leave", &pod.path, &outer, &address]),
                    _ if *files => command.args(["forget", FLOOR_DIR, &outer, &address]),
                    _ => command.args(["del", &outer]),
                };
                if *dual && verb == "ADD" {
                    command.args([format!("fd00:32:0:1::{low:x}"), "fd00:32:0:1::1".into()]);
                }
                command
            }
        }
    }

    /// Waits until no pod has a link any more.
    pub fn gone(&self) -> Result<()> {
        let mut socket = self.host.run(Socket::open)??;
        until("the links of pods to be gone", PATIENT, || Ok(pod_links(&mut socket)? == 0))
    }
}

/// Subjects with so many pods each.
pub fn with_pods(
    subjects: impl IntoIterator<Item = Subject>,
    count: usize,
) -> Result<Vec<(Subject, Vec<Pod>)>> {
    subjects.into_iter().map(|subject| subject.pods(count).map(|pods| (subject, pods))).collect()
}

/// How many ends of pods' links a host has; the testbed's own cable is not one.
pub fn pod_links(socket: &mut Socket) -> Result<usize> {
    match socket.links() {
        Ok(links) => {
            let of_pod = |link: &&minionet_netlink::link::Link| {
                link.kind.as_deref() == Some("veth") && link.name != "eth0"
            };
            Ok(links.iter().filter(of_pod).count())
        }
        // They go faster than they can be counted; there are some.
        Err(minionet_netlink::Error::Interrupted { .. }) => Ok(usize::MAX),
        Err(error) => Err(error.into()),
    }
}

/// A namespace to be attached.
pub struct Pod {
    number: usize,
    path: String,
    /// The namespace itself.
    pub namespace: Namespace,
}

impl Pod {
    fn new(host: &Namespace, number: usize) -> Result<Self> {
        let name = format!("pod{number}");
        let namespace = host.pod(&name)?;
        Ok(Pod { number, path: Namespace::netns_path(&name), namespace })
    }
}

/// The first IPv4 address in what ADD printed.
pub fn address(result: &[u8]) -> Result<std::net::IpAddr> {
    let result: Value = serde_json::from_slice(result).context("the result of ADD")?;
    let address = result["ips"][0]["address"].as_str().unwrap_or_default();
    let address = address.split('/').next().unwrap_or_default();
    ensure!(!address.is_empty(), "no address in {result}");
    Ok(address.parse()?)
}
