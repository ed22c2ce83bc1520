//! Host ports: what arrives at a port of the node and is meant for a pod (`portMappings`,
//! CONVENTIONS.md of the specification).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::conf::{ConfError, integer};
use super::error::{Code, Coded};
use super::json::{brief, get};

/// Where the mappings stand in the configuration.
const KEY: &str = "runtimeConfig.portMappings";

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

/// One port of the node that leads to a port of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The protocol.
    pub protocol: Protocol,
    /// The address of the node that is listened on; the unspecified address (`0.0.0.0`, `::`)
    /// stands for all of its family, none for all of both families.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The node's port, not 0.
    pub host_port: u16,
    /// The pod's port, not 0.
    pub container_port: u16,
}

/// Why port mappings are refused.
#[derive(Debug, Error)]
pub enum PortError {
    /// A key has a value of the wrong kind.
    #[error(transparent)]
    Conf(#[from] ConfError),
    /// A port is missing or out of range.
    #[error("{KEY}: {key} is {found}, not a port from 1 to 65535")]
    Port {
        /// "hostPort" or "containerPort".
        key: &'static str,
        /// What stands there.
        found: String,
    },
    /// A protocol without ports, or an unknown one.
    #[error("{KEY}: protocol {found} is not supported: use tcp, udp or sctp")]
    Protocol {
        /// What stands there.
        found: String,
    },
    /// Not an address.
    #[error("{KEY}: hostIP {found} is not an IP address")]
    HostIp {
        /// What stands there.
        found: String,
    },
    /// The kernel takes answers to ::1 from the loopback device only.
    #[error("{KEY}: hostIP ::1 cannot lead to a pod: use 127.0.0.1, or leave hostIP out")]
    Loopback6,
    /// Two mappings of the same port.
    #[error("{KEY}: {mapping} overlaps {other}: a port can lead to one place only")]
    Duplicate {
        /// The later one.
        mapping: PortMapping,
        /// The earlier one.
        other: PortMapping,
    },
    /// The pod has no address of the family that the node's address is of.
    #[error("{KEY}: {mapping} cannot lead to this pod: it has no {family} address")]
    Family {
        /// The mapping.
        mapping: PortMapping,
        /// "IPv4" or "IPv6".
        family: &'static str,
    },
}

impl Coded for PortError {
    fn code(&self) -> Code {
        match self {
            PortError::Conf(error) => error.code(),
            PortError::Protocol { .. } => Code::UnsupportedField,
            _ => Code::InvalidConfig,
        }
    }
}

// === impl Protocol ===

impl Protocol {
    /// The number in an IP header (IANA, protocol numbers).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// Whether what is known about a connection outlives its end unnoticed, so that packets go
    /// on to where the port led before. TCP begins each connection with a packet of its own kind.
    pub fn is_sticky(self) -> bool {
        self != Protocol::Tcp
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = ();

    /// The name in any case: runtimes send `tcp`, the Kubernetes API says `TCP`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        all.into_iter().find(|it| it.to_string().eq_ignore_ascii_case(text)).ok_or(())
    }
}

// === impl PortMapping ===

impl PortMapping {
    /// Whether the node's address may be of this kind: always, where none is named.
    pub fn takes(&self, address: IpAddr) -> bool {
        self.host_ip.is_none_or(|host| host.is_ipv4() == address.is_ipv4())
    }

    /// The node's address, where a single one is meant.
    pub fn single_host_ip(&self) -> Option<IpAddr> {
        self.host_ip.filter(|ip| !ip.is_unspecified())
    }

    /// Whether a packet could be meant for either.
    pub fn overlaps(&self, other: &Self) -> bool {
        let addresses = match (self.host_ip, other.host_ip) {
            (Some(one), Some(other)) => {
                one == other
                    || one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified())
            }
            _ => true,
        };
        (self.protocol, self.host_port) == (other.protocol, other.host_port) && addresses
    }

    /// Whether the node itself reaches the mapping at 127.0.0.1.
    pub fn serves_loopback4(&self) -> bool {
        match self.host_ip {
            None => true,
            Some(IpAddr::V4(host)) => host.is_unspecified() || host.is_loopback(),
            Some(IpAddr::V6(_)) => false,
        }
    }

    fn read(map: &Map<String, Value>) -> Result<Self, PortError> {
        let protocol = match get(map, "protocol") {
            None => Protocol::Tcp,
            Some(Value::String(text)) if text.is_empty() => Protocol::Tcp,
            Some(value) => {
                let known = value.as_str().and_then(|text| text.parse().ok());
                known.ok_or_else(|| PortError::Protocol { found: brief(value) })?
            }
        };
        let host_ip = match get(map, "hostIP") {
            None => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(value) => Some(host_ip(value).ok_or_else(|| PortError::HostIp { found: brief(value) })?),
        };
        if host_ip == Some(IpAddr::V6(Ipv6Addr::LOCALHOST)) {
            return Err(PortError::Loopback6);
        }
        let (host_port, container_port) = (port(map, "hostPort")?, port(map, "containerPort")?);
        Ok(PortMapping { protocol, host_ip, host_port, container_port })
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            None => write!(f, "host port {}/{}", self.host_port, self.protocol),
            Some(ip) => write!(f, "host port {}/{} of {ip}", self.host_port, self.protocol),
        }
    }
}

/// Reads the list of a runtime; nothing is an empty list, and what is said twice counts once.
///
/// # Errors
/// [`PortError`] for the first mapping that is not in order, or that overlaps an earlier one.
pub fn read(value: Option<&Value>) -> Result<Vec<PortMapping>, PortError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let wrong = || ConfError::kind(KEY, "a list of objects", value);
    let mut mappings: Vec<PortMapping> = Vec::new();
    for item in value.as_array().ok_or_else(wrong)? {
        let mapping = PortMapping::read(item.as_object().ok_or_else(wrong)?)?;
        if mappings.contains(&mapping) {
            continue;
        }
        if let Some(other) = mappings.iter().find(|other| other.overlaps(&mapping)) {
            return Err(PortError::Duplicate { mapping, other: *other });
        }
        mappings.push(mapping);
    }
    Ok(mappings)
}

/// Makes sure that every mapping can lead to one of the pod's addresses.
///
/// # Errors
/// [`PortError::Family`].
pub fn check(
    mappings: &[PortMapping],
    addresses: impl IntoIterator<Item = IpAddr> + Clone,
) -> Result<(), PortError> {
    for mapping in mappings {
        if !addresses.clone().into_iter().any(|address| mapping.takes(address)) {
            let family = if mapping.host_ip.is_some_and(|ip| ip.is_ipv4()) { "IPv4" } else { "IPv6" };
            return Err(PortError::Family { mapping: *mapping, family });
        }
    }
    Ok(())
}

/// An IPv4 address in the clothes of IPv6 is that IPv4 address.
fn host_ip(value: &Value) -> Option<IpAddr> {
    let ip: IpAddr = value.as_str()?.parse().ok()?;
    Some(ip.to_canonical())
}

fn port(map: &Map<String, Value>, key: &'static str) -> Result<u16, PortError> {
    let value = get(map, key);
    let number = value.and_then(integer).and_then(|number| u16::try_from(number).ok());
    number
        .filter(|number| *number != 0)
        .ok_or_else(|| PortError::Port { key, found: value.map_or_else(|| "missing".into(), brief) })
}

#[cfg(test)]
mod tests;
