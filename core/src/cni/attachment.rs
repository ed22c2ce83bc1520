//! The record of an attachment: everything that ADD makes, decided before it is made.
//!
//! The record is what CHECK compares with and what DEL works from, whatever became of the
//! configuration in between.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::bandwidth::{Bandwidth, Bucket};
use super::error::{Code, Coded};
use super::ipam::{Assigned, Origin};
use super::portmap::PortMapping;
use super::result::{CniResult, Dns, Interface, IpConfig, Route};
use crate::addr::{Family, MacAddr};
use crate::constants::SOURCE_TABLES;

/// Version of the record's format; raised when an older reader would misunderstand a record.
pub const SCHEMA: u32 = 1;

/// First letters of the name of the host's end of a pod's veth pair.
pub const HOST_IFNAME_PREFIX: &str = "mnet";

/// First letters of the name of the device through which what a pod sends is limited.
pub const IFB_PREFIX: &str = "mifb";

/// First word of the alias of every host's end.
const ALIAS_START: &str = "minionet ";

/// Most octets of an interface's alias: `IFALIASZ` of the kernel (`linux/if.h`) is 256, its
/// policy (`ifla_policy` in net/core/rtnetlink.c) takes one less, and a NUL that is sent counts.
const ALIAS_MAX: usize = 254;

/// What makes an attachment: one interface of one container in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Name of the network.
    pub network: String,
    /// Container id.
    pub container: String,
    /// Name of the interface in the container.
    pub ifname: String,
}

/// A short name of a [`Key`], fit for file names: 128 bits of a hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u128);

impl Key {
    /// The hash of the key: FNV-1a with 128 bits (draft-eastlake-fnv), each part closed by a
    /// NUL octet, which no part can contain.
    pub fn id(&self) -> Id {
        const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let parts = [&self.network, &self.container, &self.ifname];
        let bytes = parts.into_iter().flat_map(|part| part.bytes().chain([0]));
        Id(bytes.fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME)))
    }
}

impl Id {
    /// Name of the host's end of the veth pair: [`HOST_IFNAME_PREFIX`] and 44 bits of the hash,
    /// 15 octets in all.
    pub fn host_ifname(self) -> String {
        format!("{HOST_IFNAME_PREFIX}{:011x}", self.folded())
    }

    /// Name of the device through which what the pod sends is limited: [`IFB_PREFIX`] and the
    /// same 44 bits.
    pub fn ifb_name(self) -> String {
        format!("{IFB_PREFIX}{:011x}", self.folded())
    }

    /// The low bits of an FNV hash depend on every octet of the input, but weakly on the last;
    /// folding mixes them with the high ones.
    fn folded(self) -> u128 {
        (self.0 ^ (self.0 >> 64)) & 0xfff_ffff_ffff
    }

    /// The interface alias by which the host's end is recognised as this attachment's: the
    /// whole id first, then what a person wants to know, cut to what the kernel takes.
    pub fn alias(self, key: &Key) -> String {
        let start = self.alias_start();
        let mut text = format!("{start}{} {} {}", key.network, key.ifname, key.container);
        let end = (0..=ALIAS_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text
    }
}

impl Id {
    /// How the alias of the host's end begins: enough to know whose it is.
    pub fn alias_start(self) -> String {
        format!("{ALIAS_START}{self} ")
    }

    /// The attachment to which an interface with this alias belongs.
    pub fn from_alias(alias: &str) -> Option<Self> {
        alias.strip_prefix(ALIAS_START)?.split(' ').next()?.parse().ok()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let id = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        id.map(Id).ok_or(NotAnId)
    }
}

/// A text that is not an [`Id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not the id of an attachment: 32 hexadecimal digits expected")]
pub struct NotAnId;

/// A network namespace: where it was found, and which one it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsRef {
    /// `CNI_NETNS`, verbatim.
    pub path: String,
    /// Device of its file in nsfs.
    pub device: u64,
    /// Inode of its file in nsfs: the namespace's number.
    pub inode: u64,
}

/// The veth pair of a pod and all that hangs on it, as the kernel is to have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodLink {
    /// Name of the host's end.
    pub host_ifname: String,
    /// Alias of the host's end.
    pub alias: String,
    /// MAC of the host's end: the pod's neighbour entry for its gateway.
    pub host_mac: MacAddr,
    /// Name of the container's end.
    pub ifname: String,
    /// MAC of the container's end.
    pub mac: MacAddr,
    /// MTU of both ends, in octets.
    pub mtu: u32,
    /// The pod's addresses, IPv4 first.
    pub addresses: Vec<Assigned>,
    /// Where another interface of the container has the default route: by which rules packets
    /// from these addresses leave through this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_rules: Vec<SourceRule>,
}

impl PodLink {
    /// The rules by source address that an interface needs, by its number in the container: one
    /// for each family whose default route is another's.
    pub fn rules_beside(&self, index: u32, own_defaults: &[Family]) -> Vec<SourceRule> {
        let beside = self.addresses.iter().filter(|a| !own_defaults.contains(&Family::of(a.address)));
        let table = SOURCE_TABLES | index;
        beside.map(|a| SourceRule { source: a.address, gateway: a.gateway, table }).collect()
    }
}

/// A rule of the container: packets from an address are routed by a table of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRule {
    /// The packets' source.
    pub source: IpAddr,
    /// Where the table's default route leads.
    pub gateway: IpAddr,
    /// The table's number.
    pub table: u32,
}

/// The limits of an attachment's traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// What the pod receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Bucket>,
    /// What the pod sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Bucket>,
    /// Name of the device through which the pod's packets are led; there is one exactly where
    /// what the pod sends is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifb: Option<String>,
}

impl Limits {
    /// The limits of an attachment.
    pub fn new(bandwidth: Bandwidth, id: Id) -> Self {
        let Bandwidth { ingress, egress } = bandwidth;
        Limits { ingress, egress, ifb: egress.map(|_| id.ifb_name()) }
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }
}

/// The record of an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// Version of the plugin that wrote it.
    pub writer: String,
    /// What is attached.
    #[serde(flatten)]
    pub key: Key,
    /// `namespace/name` of the pod, where the runtime said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The boot during which the attachment was made (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// The container's network namespace.
    pub netns: NetnsRef,
    /// Where its addresses return to when they are free again.
    pub origin: Origin,
    /// What is in the kernel.
    pub link: PodLink,
    /// The ports of the node that lead to the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
    /// The limits of its traffic.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

/// Why a record cannot be used.
#[derive(Debug, Error)]
pub enum RecordError {
    /// Not a record.
    #[error("the record {id} cannot be read: {source}; if its pod is gone, remove the file")]
    Malformed {
        /// The attachment.
        id: Id,
        /// What the decoder said.
        source: serde_json::Error,
    },
    /// Written by a later version of the plugin.
    #[error(
        "the record {id} has format {found}, this program knows {SCHEMA}: install the version of minionet that wrote it, or a later one"
    )]
    Schema {
        /// The attachment.
        id: Id,
        /// The format found.
        found: u64,
    },
    /// Two attachments have the same hash.
    #[error("the record {id} belongs to container {} interface {}", .other.container, .other.ifname)]
    Collision {
        /// The hash of both.
        id: Id,
        /// The attachment that has the record.
        other: Box<Key>,
    },
}

impl Coded for RecordError {
    fn code(&self) -> Code {
        Code::State
    }
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// [`RecordError`] when it is no record, or of a format that is not known.
    pub fn parse(id: Id, text: &[u8]) -> Result<Self, RecordError> {
        let malformed = |source| RecordError::Malformed { id, source };
        // The format comes first: a later one need not have today's fields.
        let value: serde_json::Value = serde_json::from_slice(text).map_err(malformed)?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(found) if found != u64::from(SCHEMA) => Err(RecordError::Schema { id, found }),
            _ => serde_json::from_value(value).map_err(malformed),
        }
    }

    /// Makes sure that the record is that of a key, and not of another with the same hash.
    ///
    /// # Errors
    /// [`RecordError::Collision`].
    pub fn belongs_to(&self, key: &Key) -> Result<(), RecordError> {
        if self.key == *key {
            return Ok(());
        }
        Err(RecordError::Collision { id: key.id(), other: Box::new(self.key.clone()) })
    }

    /// The text of the record, ending in a newline.
    pub fn to_text(&self) -> String {
        // A struct of plain fields with string keys always serialises.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// The result that the runtime gets: what plugins before us made, and then our part.
    pub fn result(&self, prev: CniResult, dns: Option<Dns>) -> CniResult {
        let link = &self.link;
        let mut result = prev;
        let mtu = Some(u64::from(link.mtu));
        let interface = |name: &str, mac: MacAddr, sandbox: Option<String>| Interface {
            name: name.to_owned(),
            mac: Some(mac.to_string()),
            mtu,
            sandbox,
            ..Interface::default()
        };
        result.interfaces.push(interface(&link.host_ifname, link.host_mac, None));
        result.interfaces.push(interface(&link.ifname, link.mac, Some(self.netns.path.clone())));
        let inside = result.interfaces.len() - 1;
        if let Some(ifb) = &self.limits.ifb {
            result.interfaces.push(interface(ifb, link.host_mac, None));
        }
        for assigned in &link.addresses {
            let prefix_len = assigned.prefix_len();
            result.ips.push(IpConfig {
                address: assigned.address,
                prefix_len,
                gateway: Some(assigned.gateway),
                interface: Some(inside),
            });
            result.routes.push(Route::default_via(assigned.gateway));
        }
        if let Some(dns) = dns {
            result.dns = dns;
        }
        result
    }
}

#[cfg(test)]
mod tests;
