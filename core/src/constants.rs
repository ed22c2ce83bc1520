//! Names and numbers by which minionet's objects are recognised.
//!
//! Whatever carries one of these is ours and may be repaired or removed; nothing else on a
//! host is ever changed.

/// Name of the VXLAN device on a node.
pub const DEVICE: &str = "minionet";

/// Name of the nftables table (family `inet`) that the daemon owns.
pub const NFT_TABLE: &str = "minionet";

/// Route protocol of routes to peers, made by the daemon (`rtm_protocol`, rtnetlink(7)), and of the
/// next hop objects and neighbours that belong to them.
///
/// 109 is the letter `m`; the numbers up to 99 are taken by iproute2's `rt_protos`, those from
/// 186 by routing daemons.
pub const ROUTE_PROTOCOL_PEER: u8 = 109;

/// Route protocol of routes to this node's pods, made by the plugin.
///
/// A number of its own, so that neither program ever has to guess whose route it sees.
pub const ROUTE_PROTOCOL_POD: u8 = 110;

/// First table number for the routes of a pod's interfaces beside another that has the default
/// route; the interface's number is added.
///
/// Numbers of interfaces are positive and below 2^31 (`dev_new_index` in net/core/dev.c), so the sum
/// fits, no two interfaces of a pod share one, and nobody who counts from below comes this far.
pub const SOURCE_TABLES: u32 = 1 << 31;

/// Priority of the rules that lead to [`SOURCE_TABLES`]: the octets `mn`.
///
/// Behind rules that the pod numbers by hand, before the main table's (32766).
pub const SOURCE_RULE_PRIORITY: u32 = 28_014;

/// Link group of pods' interfaces that are to be destroyed (`ip link show group 1835951460`).
///
/// The octets are `mnpd`; groups made by hand are small numbers (iproute2's `group` file).
pub const DOOMED_GROUP: u32 = u32::from_be_bytes(*b"mnpd");

/// Default VXLAN network identifier (24 bits, RFC 7348 section 5).
pub const DEFAULT_VNI: u32 = 4097;

/// Default UDP port of VXLAN (IANA, RFC 7348 section 5).
pub const DEFAULT_PORT: u16 = 4789;

/// Octets that VXLAN adds over IPv4: IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14
/// (RFC 7348 section 5).
pub const OVERHEAD_V4: u32 = 50;

/// Octets that VXLAN adds over IPv6: as over IPv4, with a header of 40 instead of 20.
pub const OVERHEAD_V6: u32 = 70;

/// Runtime state; lies on a tmpfs and dies with the boot.
pub const RUN_DIR: &str = "/run/minionet";

/// Durable state.
pub const STATE_DIR: &str = "/var/lib/minionet";

/// The configuration file.
pub const CONFIG_FILE: &str = "/etc/minionet/minionet.toml";

/// The file that makes a node a minion, on image-based installs; `EnvironmentFile=` of its services.
pub const MINIONS_FILE: &str = "/etc/sysconfig/kubernetes-minions";

/// The file that makes a node a master, and then it is no minion.
pub const MASTERS_FILE: &str = "/etc/sysconfig/kubernetes-masters";

/// Where container runtimes look for plugins.
pub const CNI_BIN_DIR: &str = "/opt/cni/bin";

/// Where container runtimes look for network configurations.
pub const CNI_CONF_DIR: &str = "/etc/cni/net.d";

/// File name of our configuration list; runtimes take the first in lexical order.
pub const CNI_CONF_FILE: &str = "10-minionet.conflist";

/// Name of the CNI network in our configuration list.
pub const CNI_NETWORK: &str = "minionet";
