//! What the kernel holds for the peers of a node, as `ip` and `bridge` tell.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::namespace::Namespace;

/// Routes, neighbours and forwarding entries on one tunnel device.
///
/// What the kernel makes by itself (routes of addresses, multicast neighbours) is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Destination and gateway of every route with a gateway.
    pub routes: BTreeSet<(IpNetwork, IpAddr)>,
    /// Address and hardware address of every permanent neighbour.
    pub neighbours: BTreeSet<(IpAddr, String)>,
    /// Hardware address and remote host of every forwarding entry.
    pub forwarding: BTreeSet<(String, IpAddr)>,
}

impl Tables {
    /// Reads the tables of a device.
    ///
    /// # Errors
    /// [`Error::Command`] where there is no such device.
    pub fn read(namespace: &Namespace, device: &str) -> Result<Self> {
        let mut tables = Self::default();
        for family in ["-4", "-6"] {
            let routes = namespace.json(["ip", "-j", family, "route", "show", "dev", device])?;
            tables.routes.extend(entries(&routes).filter_map(route));
            let neighbours = ["ip", "-j", family, "neigh", "show", "dev", device, "nud", "permanent"];
            tables.neighbours.extend(entries(&namespace.json(neighbours)?).filter_map(neighbour));
        }
        let forwarding = namespace.json(["bridge", "-j", "fdb", "show", "dev", device])?;
        tables.forwarding.extend(entries(&forwarding).filter_map(forwarding_entry));
        Ok(tables)
    }

    /// Adds what there is for one peer: a route to `network` via `gateway`, which is at `mac`, which
    /// is behind `host`.
    pub fn add(&mut self, network: IpNetwork, gateway: IpAddr, mac: &str, host: IpAddr) {
        self.routes.insert((network, gateway));
        self.neighbours.insert((gateway, mac.to_owned()));
        self.forwarding.insert((mac.to_owned(), host));
    }
}

impl Namespace {
    /// Runs a program inside that prints JSON; `Null` where it prints nothing.
    ///
    /// # Errors
    /// As [`Namespace::exec`], and [`Error::Json`] for other output.
    pub fn json<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<Value> {
        let words: Vec<&str> = words.into_iter().collect();
        let text = self.exec(&words)?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|source| Error::Json {
            what: format!("the output of `{}` in {}", words.join(" "), self.name()),
            source,
        })
    }
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text<'a>(entry: &'a Value, key: &str) -> Option<&'a str> {
    entry.get(key)?.as_str()
}

fn route(entry: &Value) -> Option<(IpNetwork, IpAddr)> {
    Some((text(entry, "dst")?.parse().ok()?, text(entry, "gateway")?.parse().ok()?))
}

fn neighbour(entry: &Value) -> Option<(IpAddr, String)> {
    Some((text(entry, "dst")?.parse().ok()?, text(entry, "lladdr")?.to_owned()))
}

fn forwarding_entry(entry: &Value) -> Option<(String, IpAddr)> {
    Some((text(entry, "mac")?.to_owned(), text(entry, "dst")?.parse().ok()?))
}
