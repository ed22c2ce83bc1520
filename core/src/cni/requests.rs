//! What a runtime may ask for one attachment: addresses, a MAC, name servers, host ports, limits.
//!
//! The same wish can come on three ways; the strongest that is there wins as a whole:
//! `runtimeConfig`, then `args.cni` of the configuration, then `CNI_ARGS` (CONVENTIONS.md of
//! the specification).

use std::net::IpAddr;

use serde_json::Value;
use thiserror::Error;

use super::args::CniArgs;
use super::bandwidth::{Bandwidth, BandwidthError};
use super::conf::{ConfError, NetConf};
use super::error::{Code, Coded};
use super::json::{brief, get};
use super::portmap::{self, PortError, PortMapping};
use super::result::Dns;
use crate::addr::MacAddr;

/// Wishes of the runtime, checked as far as they can be without knowing the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Addresses that the container must get.
    pub ips: Vec<IpAddr>,
    /// MAC of the container's interface.
    pub mac: Option<MacAddr>,
    /// Name servers (`runtimeConfig.dns`).
    pub dns: Option<Dns>,
    /// Ports of the node that lead to the pod (`runtimeConfig.portMappings`).
    pub ports: Vec<PortMapping>,
    /// Limits of the pod's traffic (`runtimeConfig.bandwidth`).
    pub bandwidth: Bandwidth,
}

/// Why a wish is refused.
#[derive(Debug, Error)]
pub enum RequestError {
    /// A piece of the configuration has the wrong form.
    #[error(transparent)]
    Conf(#[from] ConfError),
    /// The host ports are not in order.
    #[error(transparent)]
    Ports(#[from] PortError),
    /// The limits are not in order.
    #[error(transparent)]
    Bandwidth(#[from] BandwidthError),
    /// Not an address.
    #[error("{origin}: {text:?} is not an IP address, with or without prefix length")]
    Ip {
        /// Where it stands.
        origin: &'static str,
        /// What stands there.
        text: String,
    },
    /// Not a MAC that a pod can have.
    #[error("{origin}: {text:?} is not a MAC address of a single interface, such as 0e:70:00:00:00:05")]
    Mac {
        /// Where it stands.
        origin: &'static str,
        /// What stands there.
        text: String,
    },
    /// The MAC of the host's end.
    #[error("{origin}: {mac} is the MAC of the host's end of every pod's interface: request another")]
    GatewayMac {
        /// Where it stands.
        origin: &'static str,
        /// What stands there.
        mac: MacAddr,
    },
}

impl Coded for RequestError {
    fn code(&self) -> Code {
        match self {
            RequestError::Conf(error) => error.code(),
            RequestError::Ports(error) => error.code(),
            RequestError::Bandwidth(error) => error.code(),
            RequestError::Ip { origin, .. }
            | RequestError::Mac { origin, .. }
            | RequestError::GatewayMac { origin, .. } => match *origin {
                CNI_ARGS => Code::InvalidEnvironment,
                _ => Code::InvalidConfig,
            },
        }
    }
}

const CNI_ARGS: &str = "CNI_ARGS";

impl Requests {
    /// Gathers the wishes from the configuration and `CNI_ARGS`.
    ///
    /// # Errors
    /// [`RequestError`] for the first that cannot be read; also for capabilities that are not
    /// supported, which must not be dropped in silence.
    pub fn read(conf: &NetConf, args: &CniArgs) -> Result<Self, RequestError> {
        let runtime = conf.object(&["runtimeConfig"])?;
        let metadata = conf.object(&["args", "cni"])?;
        let runtime_key = |key| runtime.and_then(|map| get(map, key));
        if let Some(value) = runtime_key("ipRanges").filter(|v| !is_empty(v)) {
            return Err(ConfError::Unsupported {
                key: "runtimeConfig.ipRanges".to_owned(),
                value: brief(value),
                remedy: "take it out of \"capabilities\"; addresses come from the node's pod CIDR",
            }
            .into());
        }
        let sources = [("runtimeConfig", runtime), ("args.cni", metadata)];
        let ips = sources.iter().find_map(|(origin, map)| Some((*origin, get((*map)?, "ips")?)));
        let ips = match (ips, &args.ip) {
            (Some((origin, value)), _) => ip_list(origin, value)?,
            (None, Some(text)) => text.split(',').map(|t| ip(CNI_ARGS, t)).collect::<Result<_, _>>()?,
            (None, None) => Vec::new(),
        };
        // An empty text is none, as Go leaves it where nothing is set.
        let mac_in = |map| get(map, "mac").filter(|value| value.as_str() != Some(""));
        let macs = sources.iter().find_map(|(origin, map)| Some((*origin, mac_in((*map)?)?)));
        let mac = match (macs, &args.mac) {
            (Some((origin, Value::String(text))), _) => mac(origin, text)?,
            (Some((_, other)), _) => return Err(ConfError::kind("mac", "a string", other).into()),
            (None, Some(text)) => mac(CNI_ARGS, text)?,
            (None, None) => None,
        };
        let dns = runtime_key("dns").map(|value| Dns::from_json("runtimeConfig.dns", value)).transpose()?;
        let dns = dns.filter(|dns| *dns != Dns::default());
        let ports = portmap::read(runtime_key("portMappings"))?;
        let bandwidth = Bandwidth::read(runtime_key("bandwidth"))?;
        Ok(Requests { ips, mac, dns, ports, bandwidth })
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(keys) => keys.is_empty(),
        _ => false,
    }
}

fn ip_list(origin: &'static str, value: &Value) -> Result<Vec<IpAddr>, RequestError> {
    let wrong = || ConfError::kind(&format!("{origin}.ips"), "a list of addresses", value);
    let items = value.as_array().ok_or_else(wrong)?;
    items.iter().map(|item| ip(origin, item.as_str().ok_or_else(wrong)?)).collect()
}

/// An address; a prefix length behind it must make sense, and says nothing.
fn ip(origin: &'static str, text: &str) -> Result<IpAddr, RequestError> {
    let wrong = || RequestError::Ip { origin, text: text.to_owned() };
    let (addr, len) = text.split_once('/').map_or((text, None), |(addr, len)| (addr, Some(len)));
    let addr: IpAddr = addr.parse().map_err(|_| wrong())?;
    let most = if addr.is_ipv4() { 32 } else { 128 };
    match len.map(str::parse::<u8>) {
        None => Ok(addr),
        Some(Ok(len)) if len <= most => Ok(addr),
        Some(_) => Err(wrong()),
    }
}

/// A MAC; empty is none. One for groups (its lowest bit set) or of zeros only is refused, as the
/// kernel would, and that of the other end of the link: the pod would take its gateway for itself.
fn mac(origin: &'static str, text: &str) -> Result<Option<MacAddr>, RequestError> {
    let wrong = || RequestError::Mac { origin, text: text.to_owned() };
    if text.is_empty() {
        return Ok(None);
    }
    let mac: MacAddr = text.replace('-', ":").parse().map_err(|_| wrong())?;
    match mac {
        MacAddr::POD_GATEWAY => Err(RequestError::GatewayMac { origin, mac }),
        MacAddr([first, ..]) if first & 1 == 1 || mac.0 == [0; 6] => Err(wrong()),
        mac => Ok(Some(mac)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(extra: Value, args: &str) -> Result<Requests, RequestError> {
        let mut conf = json!({"name": "n", "cniVersion": "1.1.0"});
        conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let conf = NetConf::parse(conf.to_string().as_bytes()).unwrap();
        Requests::read(&conf, &CniArgs::parse(args).unwrap())
    }

    fn ips(extra: Value, args: &str) -> Vec<String> {
        read(extra, args).unwrap().ips.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_strongest_source_of_addresses_wins_as_a_whole() {
        let runtime =
            json!({"runtimeConfig": {"IPs": ["10.0.0.5/24"]}, "args": {"cni": {"ips": ["10.0.0.6"]}}});
        assert_eq!(ips(runtime, "IP=10.0.0.7"), ["10.0.0.5"]);
        assert_eq!(ips(json!({"args": {"cni": {"ips": ["10.0.0.6"]}}}), "IP=10.0.0.7"), ["10.0.0.6"]);
        assert_eq!(ips(json!({}), "IP=10.0.0.7/24,fd00::7"), ["10.0.0.7", "fd00::7"]);
        assert!(ips(json!({"args": {"cni": {"ips": []}}}), "IP=10.0.0.7").is_empty());
        assert!(ips(json!({"runtimeConfig": {"ips": []}}), "IP=10.0.0.7").is_empty());
    }

    #[test]
    fn the_strongest_source_of_a_mac_wins() {
        let all = json!({"runtimeConfig": {"mac": "0E:00:00:00:00:01"}, "args": {"cni": {"mac": "0e:00:00:00:00:02"}}});
        let mac = |extra, args| read(extra, args).unwrap().mac.map(|m| m.0[5]);
        assert_eq!(mac(all, "MAC=0e:00:00:00:00:03"), Some(1));
        assert_eq!(
            mac(json!({"args": {"cni": {"mac": "0e:00:00:00:00:02"}}}), "MAC=0e:00:00:00:00:03"),
            Some(2)
        );
        assert_eq!(mac(json!({}), "MAC=0e-00-00-00-00-03"), Some(3));
        assert_eq!(mac(json!({}), ""), None);
    }

    #[test]
    fn garbage_is_refused_with_its_origin() {
        let code = |extra, args| read(extra, args).unwrap_err().code();
        assert_eq!(code(json!({}), "IP=10.0.0"), Code::InvalidEnvironment);
        assert_eq!(code(json!({}), "MAC=01:00:00:00:00:00"), Code::InvalidEnvironment);
        assert_eq!(code(json!({"runtimeConfig": {"ips": ["10.0.0.1/33"]}}), ""), Code::InvalidConfig);
        assert_eq!(code(json!({"runtimeConfig": {"ips": "10.0.0.1"}}), ""), Code::Decode);
        assert_eq!(code(json!({"runtimeConfig": {"mac": "00:00:00:00:00:00"}}), ""), Code::InvalidConfig);
        assert_eq!(code(json!({"runtimeConfig": []}), ""), Code::Decode);
        assert_eq!(code(json!({"runtimeConfig": {"mac": "0E-67-00-00-00-01"}}), ""), Code::InvalidConfig);
        assert_eq!(code(json!({}), "MAC=0e:67:00:00:00:01"), Code::InvalidEnvironment);
    }

    #[test]
    fn capabilities_that_are_missing_are_not_dropped_in_silence() {
        let ranges = json!({"runtimeConfig": {"IPRanges": [[{"subnet": "10.0.0.0/24"}]]}});
        assert_eq!(read(ranges, "").unwrap_err().code(), Code::UnsupportedField);
        let nothing = json!({"runtimeConfig": {"ipRanges": [], "portMappings": [], "bandwidth": null}});
        assert_eq!(read(nothing, "").unwrap(), Requests::default());
    }

    #[test]
    fn host_ports_and_limits_are_found_in_any_case() {
        let runtime = json!({"runtimeConfig": {
            "PortMappings": [{"HostPort": 80, "ContainerPort": 8080, "Protocol": "tcp", "HostIP": ""}],
            "BandWidth": {"IngressRate": 8000, "IngressBurst": 4294967295u64}}});
        let requests = read(runtime, "").unwrap();
        assert_eq!(requests.ports[0].container_port, 8080);
        assert_eq!(requests.bandwidth.ingress.unwrap().rate, 1000);
        let wrong = json!({"runtimeConfig": {"portMappings": [{"hostPort": 80}]}});
        assert_eq!(read(wrong, "").unwrap_err().code(), Code::InvalidConfig);
    }
}
