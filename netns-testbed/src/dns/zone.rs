//! Records and faults. Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{DOMAIN, Fault};
use crate::error::{Error, Result};

/// What is known about one name.
pub(super) struct Records {
    pub(super) addresses: Vec<IpAddr>,
    /// Seconds.
    pub(super) ttl: u32,
}

/// All that the server knows. Names are keys as [`key`] makes them.
#[derive(Default)]
pub(super) struct Zone {
    names: HashMap<String, Records>,
    fault: Option<Fault>,
    faults: HashMap<String, Fault>,
    draws: u64,
}

/// A name in the form in which names are compared: lower case, without the final dot.
pub(super) fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Whether the server is the authority for a key.
pub(super) fn in_domain(key: &str) -> bool {
    key.strip_suffix(DOMAIN).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl Zone {
    pub(super) fn set(&mut self, name: &str, addresses: &[IpAddr], ttl: u32) {
        self.names.insert(key(name), Records { addresses: addresses.to_vec(), ttl });
    }

    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut Vec<IpAddr>)) -> Result<()> {
        let records = self.names.get_mut(&key(name)).ok_or_else(|| Error::Invalid {
            what: "the name",
            value: name.into(),
            reason: "it has no records yet; set them first".into(),
        })?;
        change(&mut records.addresses);
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.names.remove(&key(name));
    }

    pub(super) fn get(&self, name: &str) -> Option<&Records> {
        self.names.get(&key(name))
    }

    /// Whether a name has children, so that it exists although it has no records of its own.
    pub(super) fn is_parent(&self, name: &str) -> bool {
        let suffix = format!(".{}", key(name));
        key(name) == DOMAIN || self.names.keys().any(|known| known.ends_with(&suffix))
    }

    pub(super) fn set_fault(&mut self, name: Option<&str>, fault: Option<Fault>) {
        match (name, fault) {
            (None, fault) => self.fault = fault,
            (Some(name), Some(fault)) => drop(self.faults.insert(key(name), fault)),
            (Some(name), None) => drop(self.faults.remove(&key(name))),
        }
    }

    pub(super) fn fault(&self, name: &str) -> Option<&Fault> {
        self.faults.get(&key(name)).or(self.fault.as_ref())
    }

    /// A different number at each call, the same sequence in each run: SplitMix64.
    pub(super) fn draw(&mut self) -> u64 {
        self.draws = self.draws.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.draws;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
