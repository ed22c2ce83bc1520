//! Configuration: from what was written, in flags, environment and file, to checked values.
//!
//! Every setting is one row of [`SETTINGS`]; the flag, the variable, the key in the file and the
//! documentation all come from that row, so they cannot drift apart. The sources are merged
//! value by value, flags before environment before file, and every problem is reported, not
//! only the first, each with the place where the value was written.

pub mod document;
mod parse;
mod registration;
mod settings;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

use crate::membership::Thresholds;

pub use self::settings::{SETTINGS, Setting, Shape};
pub use self::source::{Layer, Place, Value};
use crate::addr::Cidr;
use crate::overlay::Encapsulation;
use crate::plan::{AddressPlan, PlanError, PlanSpec, PodNetwork};
use crate::register;

/// Checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cluster's name.
    pub cluster_name: String,
    /// Domain below which the names of clusters live.
    pub domain: String,
    /// Roles whose nodes are peers.
    pub roles: Vec<String>,
    /// Networks in which nodes live; empty means the subnet of the node's own address.
    pub node_networks: Vec<Cidr>,
    /// Pod networks with the size of a node's block.
    pub pod_networks: Vec<PodNetwork>,
    /// The node's own address, where it shall not be found by DNS.
    pub node_ip: Option<IpAddr>,
    /// The interface on which the node's own address is to be looked for.
    pub interface: Option<String>,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port of VXLAN.
    pub port: u16,
    /// MTU of the underlay in octets, where it shall not be read from the interface.
    pub underlay_mtu: Option<u32>,
    /// Which peers' packets are encapsulated.
    pub encapsulation: Encapsulation,
    /// Resolvers to ask; empty means those of the system.
    pub resolvers: Vec<SocketAddr>,
    /// File with the keys that sign the answers; none if answers are taken unsigned.
    pub trust_anchor: Option<String>,
    /// When a peer is believed to be there, and when to be gone.
    pub thresholds: Thresholds,
    /// How long one query may take.
    pub dns_timeout: Duration,
    /// Time between two audits of the kernel.
    pub audit_interval: Duration,
    /// How long DNS may give no complete answer before the plugin's STATUS says so.
    pub dns_silence: Duration,
    /// Time between two looks for what pods left behind.
    pub collect_interval: Duration,
    /// How long an attachment may lack its interface before it is taken for dead.
    pub collect_grace: Duration,
    /// UDP port inside of the tunnel on which peers probe each other; none for no probe.
    pub probe_port: Option<u16>,
    /// Time between two probes of a peer that answers.
    pub probe_interval: Duration,
    /// Where metrics and health are served; nowhere if none.
    pub metrics_address: Option<Endpoint>,
    /// Whether every peer gets metrics of its own.
    pub metrics_every_peer: bool,
    /// UDP port on which traces of other nodes are answered; none for no answers.
    pub trace_port: Option<u16>,
    /// Whether pods' connections to the outside get the node's address.
    pub masquerade: bool,
    /// Destinations outside the pod networks to which pods keep their address.
    pub masquerade_exempt: Vec<Cidr>,
    /// How this node registers itself in DNS.
    pub register: register::Settings,
    /// Directory of the configuration list for the container runtime; empty means none.
    pub cni_conf_dir: String,
    /// What is logged, in the syntax of tracing's `Targets`.
    pub log_level: String,
    /// How it is logged.
    pub log_format: LogFormat,
}

/// Where something is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address and port of TCP.
    Tcp(SocketAddr),
    /// The absolute path of a socket.
    Unix(String),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => write!(f, "http://{address}"),
            Endpoint::Unix(path) => f.write_str(path),
        }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {problem}")]
pub struct Problem {
    /// Where it was written.
    pub place: Place,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl Config {
    /// Merges the layers, the first being the strongest, and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of every layer.
    pub fn from_layers(layers: &[Layer]) -> Result<Self, ConfigError> {
        source::merge(layers)
    }

    /// The names that are resolved: `{role}.{cluster}.{domain}`, fully qualified.
    pub fn names(&self) -> Vec<String> {
        self.roles.iter().map(|role| self.name(role)).collect()
    }

    /// The name that gets this node's record, if it registers itself.
    pub fn registered_name(&self) -> String {
        self.name(&self.register.role)
    }

    fn name(&self, role: &str) -> String {
        format!("{role}.{}.{}.", self.cluster_name, self.domain)
    }

    /// The plan, given the subnet of the node's own address for the case that no node networks
    /// are configured.
    ///
    /// # Errors
    /// [`PlanError`] when the plan cannot hold.
    pub fn plan(&self, own_subnet: Option<Cidr>) -> Result<AddressPlan, PlanError> {
        let configured = !self.node_networks.is_empty();
        let node_networks =
            if configured { self.node_networks.clone() } else { own_subnet.into_iter().collect() };
        AddressPlan::new(PlanSpec { node_networks, pod_networks: self.pod_networks.clone() })
    }
}
