//! The result of an ADD, in the shape of every version.
//!
//! One structure holds what version 1.1.0 can say; writing drops what an older version has no
//! word for, and reading takes any of the shapes, since `prevResult` comes in the caller's.

mod legacy;
mod read;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::conf::ConfError;
use super::error::{Code, Coded};
use super::json::get;
use super::version::Version;

/// What an ADD made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniResult {
    /// Interfaces, on the host and in the container.
    pub interfaces: Vec<Interface>,
    /// Addresses.
    pub ips: Vec<IpConfig>,
    /// Routes in the container.
    pub routes: Vec<Route>,
    /// Name servers for the container.
    pub dns: Dns,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC, as text.
    pub mac: Option<String>,
    /// Its MTU in octets; told from 1.1.0.
    pub mtu: Option<u64>,
    /// The network namespace in which it is; none for the host's.
    pub sandbox: Option<String>,
    /// Path of a socket; from 1.1.0. Only ever passed on.
    pub socket_path: Option<String>,
    /// Identifier of a PCI device; from 1.1.0. Only ever passed on.
    pub pci_id: Option<String>,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpConfig {
    /// The address.
    pub address: IpAddr,
    /// Its prefix length in bits.
    pub prefix_len: u8,
    /// The gateway, if there is one.
    pub gateway: Option<IpAddr>,
    /// Position in the list of interfaces.
    pub interface: Option<usize>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination, as `address/length`.
    pub dst: String,
    /// Next hop.
    pub gw: Option<IpAddr>,
    /// What only 1.1.0 can say: `mtu`, `advmss`, `priority`, `table`, `scope`.
    pub extra: Map<String, Value>,
}

/// Name servers for a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of servers.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: Option<String>,
    /// Domains in which short names are searched.
    pub search: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<String>,
}

/// Why a result cannot be written or a `prevResult` cannot be read.
#[derive(Debug, Error)]
pub enum ResultError {
    /// Versions before 0.3.0 are nothing but addresses.
    #[error("a result of version {version} must have an address")]
    NoAddress {
        /// The version to write.
        version: Version,
    },
    /// A piece is missing or of the wrong kind.
    #[error("prevResult: {key} must be {expected}")]
    Malformed {
        /// Where.
        key: String,
        /// What is expected.
        expected: &'static str,
    },
}

impl Coded for ResultError {
    fn code(&self) -> Code {
        Code::Decode
    }
}

impl CniResult {
    /// The result in the shape of a version.
    ///
    /// # Errors
    /// [`ResultError::NoAddress`] when a version before 0.3.0 has nothing to say.
    pub fn to_json(&self, version: Version) -> Result<Value, ResultError> {
        if version < Version::V0_3_0 {
            return self.to_legacy_json(version);
        }
        let mut out = Map::new();
        out.insert("cniVersion".into(), json!(version.as_str()));
        insert_list(&mut out, "interfaces", self.interfaces.iter().map(|i| i.to_json(version)));
        insert_list(&mut out, "ips", self.ips.iter().map(|ip| ip.to_json(version)));
        insert_list(&mut out, "routes", self.routes.iter().map(|r| r.to_json(version)));
        // Before 1.0.0 the key was always written.
        if version < Version::V1_0_0 || self.dns != Dns::default() {
            out.insert("dns".into(), self.dns.to_json());
        }
        Ok(Value::Object(out))
    }
}

impl Interface {
    fn to_json(&self, version: Version) -> Value {
        let mut out = Map::new();
        out.insert("name".into(), json!(self.name));
        insert_some(&mut out, "mac", self.mac.as_ref());
        if version >= Version::V1_1_0 {
            insert_some(&mut out, "mtu", self.mtu.as_ref());
        }
        insert_some(&mut out, "sandbox", self.sandbox.as_ref());
        if version >= Version::V1_1_0 {
            insert_some(&mut out, "socketPath", self.socket_path.as_ref());
            insert_some(&mut out, "pciID", self.pci_id.as_ref());
        }
        Value::Object(out)
    }
}

impl IpConfig {
    fn to_json(&self, version: Version) -> Value {
        let mut out = Map::new();
        if version < Version::V1_0_0 {
            out.insert("version".into(), json!(if self.address.is_ipv4() { "4" } else { "6" }));
        }
        insert_some(&mut out, "interface", self.interface.as_ref());
        out.insert("address".into(), json!(format!("{}/{}", self.address, self.prefix_len)));
        insert_some(&mut out, "gateway", self.gateway.as_ref());
        Value::Object(out)
    }
}

impl Route {
    /// The way to everything, through a gateway.
    pub fn default_via(gateway: IpAddr) -> Self {
        let dst = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        Route { dst: dst.into(), gw: Some(gateway), extra: Map::new() }
    }

    fn to_json(&self, version: Version) -> Value {
        let mut out = Map::new();
        out.insert("dst".into(), json!(self.dst));
        insert_some(&mut out, "gw", self.gw.as_ref());
        if version >= Version::V1_1_0 {
            out.extend(self.extra.clone());
        }
        Value::Object(out)
    }
}

impl Dns {
    fn to_json(&self) -> Value {
        let mut out = Map::new();
        insert_list(&mut out, "nameservers", self.nameservers.iter().map(|s| json!(s)));
        insert_some(&mut out, "domain", self.domain.as_ref());
        insert_list(&mut out, "search", self.search.iter().map(|s| json!(s)));
        insert_list(&mut out, "options", self.options.iter().map(|s| json!(s)));
        Value::Object(out)
    }

    /// Reads a `dns` object; also the spelling of `runtimeConfig.dns` (`servers`, `searches`).
    ///
    /// # Errors
    /// [`ConfError::Kind`] where something else than strings stands.
    pub(super) fn from_json(path: &str, value: &Value) -> Result<Self, ConfError> {
        let Value::Object(keys) = value else {
            return Err(ConfError::kind(path, "an object", value));
        };
        let list = |names: [&str; 2]| -> Result<Vec<String>, ConfError> {
            let Some((name, value)) = names.iter().find_map(|n| Some((n, get(keys, n)?))) else {
                return Ok(Vec::new());
            };
            let wrong = || ConfError::kind(&format!("{path}.{name}"), "a list of strings", value);
            let items = value.as_array().ok_or_else(wrong)?;
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        };
        let domain = match get(keys, "domain") {
            None => None,
            Some(Value::String(domain)) => Some(domain.clone()).filter(|d| !d.is_empty()),
            Some(other) => return Err(ConfError::kind(&format!("{path}.domain"), "a string", other)),
        };
        Ok(Dns {
            nameservers: list(["nameservers", "servers"])?,
            domain,
            search: list(["search", "searches"])?,
            options: list(["options", "options"])?,
        })
    }
}

fn insert_some<T: serde::Serialize>(out: &mut Map<String, Value>, key: &str, value: Option<&T>) {
    if let Some(value) = value {
        out.insert(key.into(), json!(value));
    }
}

fn insert_list(out: &mut Map<String, Value>, key: &str, items: impl Iterator<Item = Value>) {
    let items: Vec<_> = items.collect();
    if !items.is_empty() {
        out.insert(key.into(), Value::Array(items));
    }
}
