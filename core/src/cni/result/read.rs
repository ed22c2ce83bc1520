//! Reading a `prevResult` of any version.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::{CniResult, Dns, Interface, IpConfig, ResultError, Route};
use crate::cni::conf::integer;
use crate::cni::json::get;
use crate::cni::version::Version;

type Keys = Map<String, Value>;

impl CniResult {
    /// Reads a result; the shape tells its version, keys match in any case, unknown ones are
    /// dropped.
    ///
    /// # Errors
    /// [`ResultError::Malformed`] naming the key.
    pub fn from_json(value: &Value) -> Result<Self, ResultError> {
        let keys = object("the value", value)?;
        // What a version says that is not known, would be lost.
        Version::from_key(get(keys, "cniVersion"))
            .map_err(|_| malformed("cniVersion", "a version that is known, or absent"))?;
        let mut result = CniResult {
            interfaces: each(keys, "interfaces", interface)?,
            ips: each(keys, "ips", ip_config)?,
            routes: each(keys, "routes", route)?,
            dns: dns(keys)?,
        };
        for family in ["ip4", "ip6"] {
            if let Some(value) = get(keys, family) {
                let inner = object(family, value)?;
                let (address, prefix_len) = address(inner, "ip")?;
                let gateway = ip(inner, "gateway")?;
                result.ips.push(IpConfig { address, prefix_len, gateway, interface: None });
                result.routes.extend(each(inner, "routes", route)?);
            }
        }
        // Whatever is appended to the list must not come into the place of one that is not in it.
        let count = result.interfaces.len();
        for ip in &mut result.ips {
            ip.interface = ip.interface.filter(|position| *position < count);
        }
        Ok(result)
    }
}

fn interface(keys: &Keys) -> Result<Interface, ResultError> {
    Ok(Interface {
        name: text(keys, "name")?.unwrap_or_default(),
        mac: text(keys, "mac")?,
        mtu: get(keys, "mtu").and_then(integer),
        sandbox: text(keys, "sandbox")?,
        socket_path: text(keys, "socketPath")?,
        pci_id: text(keys, "pciID")?,
    })
}

fn ip_config(keys: &Keys) -> Result<IpConfig, ResultError> {
    let (address, prefix_len) = address(keys, "address")?;
    let interface = match get(keys, "interface") {
        None => None,
        Some(value) => {
            let index = integer(value).and_then(|i| usize::try_from(i).ok());
            Some(index.ok_or_else(|| malformed("interface", "the position of an interface"))?)
        }
    };
    Ok(IpConfig { address, prefix_len, gateway: ip(keys, "gateway")?, interface })
}

fn route(keys: &Keys) -> Result<Route, ResultError> {
    let dst = text(keys, "dst")?.filter(|dst| split_address(dst).is_some());
    let dst = dst.ok_or_else(|| malformed("dst", "a network such as 0.0.0.0/0"))?;
    let extra = ["mtu", "advmss", "priority", "table", "scope"];
    let extra = extra.iter().filter_map(|key| Some(((*key).to_owned(), get(keys, key)?.clone())));
    Ok(Route { dst, gw: ip(keys, "gw")?, extra: extra.collect() })
}

fn dns(keys: &Keys) -> Result<Dns, ResultError> {
    match get(keys, "dns") {
        None => Ok(Dns::default()),
        Some(value) => Dns::from_json("dns", value).map_err(|_| malformed("dns", "an object of strings")),
    }
}

fn malformed(key: &str, expected: &'static str) -> ResultError {
    ResultError::Malformed { key: key.to_owned(), expected }
}

fn object<'a>(key: &str, value: &'a Value) -> Result<&'a Keys, ResultError> {
    value.as_object().ok_or_else(|| malformed(key, "an object"))
}

fn each<T>(
    keys: &Keys,
    key: &str,
    read: impl Fn(&Keys) -> Result<T, ResultError>,
) -> Result<Vec<T>, ResultError> {
    let Some(value) = get(keys, key) else { return Ok(Vec::new()) };
    let items = value.as_array().ok_or_else(|| malformed(key, "a list"))?;
    items.iter().map(|item| read(object(key, item)?)).collect()
}

fn text(keys: &Keys, key: &str) -> Result<Option<String>, ResultError> {
    match get(keys, key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|t| !t.is_empty())),
        Some(_) => Err(malformed(key, "a string")),
    }
}

fn ip(keys: &Keys, key: &str) -> Result<Option<IpAddr>, ResultError> {
    let parse = |text: String| text.parse().map_err(|_| malformed(key, "an address"));
    text(keys, key)?.map(parse).transpose()
}

fn address(keys: &Keys, key: &str) -> Result<(IpAddr, u8), ResultError> {
    let parsed = text(keys, key)?.as_deref().and_then(split_address);
    parsed.ok_or_else(|| malformed(key, "an address with a prefix length"))
}

fn split_address(text: &str) -> Option<(IpAddr, u8)> {
    let (address, len) = text.split_once('/')?;
    let (address, len): (IpAddr, u8) = (address.parse().ok()?, len.parse().ok()?);
    (len <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, len))
}
