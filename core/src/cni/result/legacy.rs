//! The shape of versions 0.1.0 and 0.2.0: one address a family, each with its routes.

use serde_json::{Map, Value, json};

use super::{CniResult, IpConfig, ResultError, Route, insert_list, insert_some};
use crate::cni::version::Version;

impl CniResult {
    /// The first address of each family and the routes of that family; interfaces have no place.
    pub(super) fn to_legacy_json(&self, version: Version) -> Result<Value, ResultError> {
        let mut out = Map::new();
        out.insert("cniVersion".into(), json!(version.as_str()));
        for (key, v4) in [("ip4", true), ("ip6", false)] {
            if let Some(ip) = self.ips.iter().find(|ip| ip.address.is_ipv4() == v4) {
                out.insert(key.into(), family(ip, self.routes.iter().filter(|r| is_ipv4(r) == v4)));
            }
        }
        if out.len() == 1 {
            return Err(ResultError::NoAddress { version });
        }
        out.insert("dns".into(), self.dns.to_json());
        Ok(Value::Object(out))
    }
}

fn family<'a>(ip: &IpConfig, routes: impl Iterator<Item = &'a Route>) -> Value {
    let mut out = Map::new();
    out.insert("ip".into(), json!(format!("{}/{}", ip.address, ip.prefix_len)));
    insert_some(&mut out, "gateway", ip.gateway.as_ref());
    // Routes of 0.2.0 and 0.3.0 look the same.
    insert_list(&mut out, "routes", routes.map(|r| r.to_json(Version::V0_3_0)));
    Value::Object(out)
}

fn is_ipv4(route: &Route) -> bool {
    !route.dst.contains(':')
}
