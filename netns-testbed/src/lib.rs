//! Whole clusters on one machine: hosts as network namespaces, a real DNS server, real packets.
//!
//! Nothing is left behind, however the program ends: namespaces are held by file descriptors, and
//! processes live in a pid namespace that dies with the program. See [`enter`].

mod binaries;
mod capture;
mod cluster;
pub mod cni;
mod dns;
mod enter;
mod error;
mod eventually;
mod frame;
mod host;
mod namespace;
mod node;
mod packet_socket;
mod pod;
mod process;
mod switch;
mod tables;
pub mod traffic;

pub use binaries::{Binaries, target};
pub use capture::Capture;
pub use cluster::{Cluster, ClusterBuilder};
pub use dns::{DOMAIN, DnsServer, Fault, Garbage, Queries, TcpAfterTruncation};
pub use enter::{EnterError, enter};
pub use error::{Error, Result};
pub use eventually::{eventually, patience};
pub use frame::{Frame, Packet, Transport, Vxlan};
pub use host::{Host, Nic};
pub use namespace::Namespace;
pub use node::{CNI_CONFIG, DAEMON_LOG, ENVIRONMENT_FILE, Node};
pub use pod::{Pod, PodSpec};
pub use process::{catches, forget_settings};
pub use switch::{Link, Switch};
pub use tables::Tables;
