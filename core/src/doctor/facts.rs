//! What there is to know about a node, as the shell gathers it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::addr::Cidr;
use crate::config::Config;
use crate::forward::ForwardPolicy;
use crate::health::Health;
use crate::identity::Identity;
use crate::membership::FailureKind;
use crate::overlay::{Observed, Overlay};
use crate::plan::{AddressPlan, NodePlan};
use crate::probe::view::ProbeView;
use crate::register::Registration;

/// A fact, or why it could not be gathered.
pub type Gathered<T> = Result<T, String>;

/// Everything.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The version of this program.
    pub version: String,
    /// The time of day in seconds since 1970-01-01T00:00:00Z.
    pub now: u64,
    /// The settings.
    pub config: Gathered<Config>,
    /// The daemon.
    pub daemon: DaemonFacts,
    /// What each resolver said; an error where none is known.
    pub resolvers: Gathered<Vec<ResolverFacts>>,
    /// Which node this is.
    pub place: Gathered<PlaceFacts>,
    /// The kernel's tables.
    pub kernel: Gathered<KernelFacts>,
    /// Peers, asked one by one.
    pub peers: Gathered<Vec<PeerFacts>>,
    /// Kernel settings, by their path below `/proc/sys/net`.
    pub settings: BTreeMap<String, String>,
    /// Differences of the nft table, in words.
    pub rules: Gathered<Vec<String>>,
    /// Chains of other programs that drop what is forwarded.
    pub forward: Gathered<Vec<ForwardPolicy>>,
    /// Network managers and firewalls.
    pub host: HostFacts,
    /// The container runtime's side.
    pub cni: CniFacts,
    /// Pods of this node.
    pub pods: Gathered<PodFacts>,
    /// Kubernetes' programs.
    pub kube: KubeFacts,
}

/// The daemon.
#[derive(Clone, Debug, Default)]
pub struct DaemonFacts {
    /// Whether it ever left facts about this node.
    pub ever: bool,
    /// Whether it holds its lock, and touches it.
    pub lives: bool,
    /// Its version, as it wrote it.
    pub version: Option<String>,
    /// What it says about itself.
    pub health: Option<Health>,
    /// The time since the boot in seconds, to judge the age of that.
    pub uptime: u64,
    /// When its files were written, in seconds since 1970-01-01T00:00:00Z, by name.
    pub written: Vec<(String, u64)>,
    /// The results of its probe.
    pub probe: Option<ProbeView>,
    /// How it registers this node, where it does.
    pub registration: Option<Registration>,
    /// The peers that it has saved.
    pub saved: BTreeSet<IpAddr>,
}

/// One resolver and one name.
#[derive(Clone, Debug)]
pub struct ResolverFacts {
    /// The name.
    pub name: String,
    /// The resolver.
    pub server: SocketAddr,
    /// What it says over UDP, asked several times.
    pub udp: Vec<Reply>,
    /// Whether an answer over UDP was truncated.
    pub truncated: bool,
    /// What it says over TCP.
    pub tcp: Reply,
}

/// What a resolver said: addresses and TTL in seconds, or what went wrong.
pub type Reply = Result<(BTreeSet<IpAddr>, u32), (FailureKind, String)>;

/// Which node this is.
#[derive(Clone, Debug)]
pub struct PlaceFacts {
    /// Its address, and why this one.
    pub identity: Identity,
    /// The plan.
    pub plan: AddressPlan,
    /// Its share.
    pub me: NodePlan,
    /// All addresses of this host but those of the device.
    pub local: Vec<(IpAddr, u8, String)>,
    /// The MTU of the interface in octets.
    pub mtu: u32,
    /// Whether the interface is up, and has a carrier.
    pub running: bool,
    /// Whether the interface is a bridge, or a port of one.
    pub bridged: bool,
    /// What the kernel should hold for all peers that are known.
    pub wanted: Overlay,
}

/// The kernel's tables.
#[derive(Clone, Debug)]
pub struct KernelFacts {
    /// The overlay.
    pub observed: Observed,
    /// Other VXLAN devices: name, VNI, port.
    pub tunnels: Vec<(String, u32, u16)>,
    /// Programs that have a socket on the port of VXLAN.
    pub port_owners: Vec<String>,
    /// For each peer's pod CIDR the device that packets to it leave by; none for no route.
    pub leads: Vec<(Cidr, Option<u32>)>,
    /// Names of devices by number.
    pub names: BTreeMap<u32, String>,
}

/// A peer, as it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    /// Its address.
    pub node: IpAddr,
    /// Whether it answers an ICMP echo on the underlay.
    pub ping: bool,
    /// Whether its daemon answers on the underlay; none where it was not asked.
    pub underlay: Option<bool>,
    /// Whether its daemon answers through the tunnel, by whichever means.
    pub tunnel: bool,
    /// Whether a packet of the full size passes; none where it was not tried.
    pub full_size: Option<bool>,
}

/// Network managers and firewalls; those that do not run are not there.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// systemd-networkd.
    pub networkd: Option<NetworkdFacts>,
    /// NetworkManager: whether it leaves the device, and the pods' links, alone.
    pub network_manager: Option<[bool; 2]>,
    /// firewalld: whether a zone has the device, and whether one lets the port of VXLAN in.
    pub firewalld: Option<[bool; 2]>,
}

/// systemd-networkd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkdFacts {
    /// Whether it removes routes that it did not make.
    pub manages_foreign_routes: bool,
    /// The first file that makes it configure the device, or the links of pods, if one does.
    pub unmanaged: bool,
}

/// The container runtime's side.
#[derive(Clone, Debug)]
pub struct CniFacts {
    /// The directory of configurations; empty where none is to be installed.
    pub directory: String,
    /// The configurations in it, in the order in which runtimes read them.
    pub files: Gathered<Vec<CniFile>>,
    /// The plugin.
    pub plugin: PluginFacts,
}

/// A configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniFile {
    /// Its file name.
    pub name: String,
    /// The types of its plugins; an error where it cannot be read.
    pub types: Result<Vec<String>, String>,
}

/// The plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFacts {
    /// Where it should be.
    pub path: String,
    /// Whether it is there.
    pub present: bool,
    /// Whether it may be executed.
    pub executable: bool,
    /// The program that has to load it, for one that is not static; an error where it is no program.
    pub interpreter: Result<Option<String>, String>,
    /// The version that it says it has.
    pub version: Gathered<String>,
}

/// Pods of this node.
#[derive(Clone, Debug, Default)]
pub struct PodFacts {
    /// How many addresses there are for pods, and how many of them are left.
    pub room: (usize, usize),
    /// Attachments whose ADD is done: what they are called, and whether their link is there.
    pub attachments: Vec<(String, bool)>,
    /// Leases of attachments that have no record.
    pub orphans: Vec<IpAddr>,
    /// Links of pods that have no record.
    pub strays: Vec<String>,
    /// Addresses of attachments to which no route leads by their link.
    pub unrouted: Vec<IpAddr>,
}

/// Kubernetes' programs, as far as they can be seen.
#[derive(Clone, Debug, Default)]
pub struct KubeFacts {
    /// kube-proxy's cluster CIDR as written, and where; empty where it has none.
    pub proxy: Option<(String, String)>,
    /// kubelet's pod CIDR as written, and where; empty where it has none.
    pub kubelet: Option<(String, String)>,
    /// The addresses that kubelet says the node has, as written.
    pub node_ip: Option<String>,
}
