//! What the daemon hands to the plugin: a small file of facts about this node.
//!
//! The daemon writes it to `/run/minionet/node.json`, and a copy to `/var/lib/minionet/node.json`
//! so that pods can be attached after a reboot before the daemon is up. The plugin reads the
//! first that is there. Both are replaced by rename, never written in place.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::addr::{Cidr, Family};
use crate::plan::Block;

/// File name of the facts, in the runtime and in the durable directory.
pub const FILE: &str = "node.json";

/// Version of the format; raised when an older reader would misunderstand a file.
pub const SCHEMA: u32 = 1;

/// What a plugin must know about its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// Version of the daemon that wrote it.
    pub version: String,
    /// Name of the cluster.
    pub cluster: String,
    /// This node's address on the underlay.
    pub node: IpAddr,
    /// MTU of the overlay in octets, for both ends of a pod's veth pair.
    pub mtu: u32,
    /// The blocks that pods of this node get addresses from, IPv4 first; one per family.
    pub blocks: Vec<Block>,
    /// The whole pod networks, one per family: what is inside is never masqueraded.
    pub pod_networks: Vec<Cidr>,
}

/// Why facts cannot be used.
#[derive(Debug, Error)]
pub enum FactsError {
    /// Not JSON, or fields are missing.
    #[error("the node's facts cannot be read: {source}; restart minionetd, it writes them anew")]
    Malformed {
        /// What the decoder said.
        #[from]
        source: serde_json::Error,
    },
    /// Written in a format that this program does not know.
    #[error(
        "the node's facts have format {found}, this program knows {SCHEMA}: install minionet and minionetd of the same version"
    )]
    Schema {
        /// The format found.
        found: u64,
    },
    /// Contradicts itself.
    #[error("the node's facts are not usable: {problem}; restart minionetd, it writes them anew")]
    Inconsistent {
        /// What is wrong.
        problem: String,
    },
}

impl NodeFacts {
    /// Reads and checks the text of a facts file.
    ///
    /// # Errors
    /// [`FactsError`] when it is not JSON, of an unknown format, or contradicts itself.
    pub fn parse(text: &str) -> Result<Self, FactsError> {
        // The format comes first: a later one need not have today's fields.
        let value: serde_json::Value = serde_json::from_str(text)?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(found) if found != u64::from(SCHEMA) => return Err(FactsError::Schema { found }),
            _ => {}
        }
        let facts: NodeFacts = serde_json::from_value(value)?;
        facts.check()?;
        Ok(facts)
    }

    /// The text of a facts file, ending in a newline.
    pub fn to_text(&self) -> String {
        // A struct of plain fields with string keys always serialises.
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        json + "\n"
    }

    /// The block of one family.
    pub fn block(&self, family: Family) -> Option<&Block> {
        self.blocks.iter().find(|b| b.cidr.family() == family)
    }

    fn check(&self) -> Result<(), FactsError> {
        let fail = |problem: String| Err(FactsError::Inconsistent { problem });
        if self.blocks.is_empty() {
            return fail("they name no pod CIDR".into());
        }
        if self.blocks.len() > 2 || self.blocks.windows(2).any(|w| w[0].cidr.family() >= w[1].cidr.family()) {
            return fail("they name more than one pod CIDR of a family, or IPv6 first".into());
        }
        for block in &self.blocks {
            if !block.cidr.contains(block.gateway) {
                return fail(format!("gateway {} lies outside of {}", block.gateway, block.cidr));
            }
        }
        // IPv6 needs 1280 (RFC 8200 section 5), IPv4 68 (RFC 791); a device takes up to 65535.
        let least = if self.block(Family::V6).is_some() { 1280 } else { 68 };
        if !(least..=65535).contains(&self.mtu) {
            return fail(format!("MTU {} is not between {least} and 65535", self.mtu));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> NodeFacts {
        let cidr: Cidr = "10.32.1.0/24".parse().unwrap();
        NodeFacts {
            schema: SCHEMA,
            version: "0.1.0".into(),
            cluster: "cncfdemo".into(),
            node: "172.20.0.1".parse().unwrap(),
            mtu: 1450,
            blocks: vec![Block { cidr, gateway: "10.32.1.1".parse().unwrap() }],
            pod_networks: vec!["10.32.0.0/12".parse().unwrap()],
        }
    }

    #[test]
    fn survives_the_round_trip() {
        assert_eq!(NodeFacts::parse(&facts().to_text()).unwrap(), facts());
    }

    #[test]
    fn an_unknown_format_is_named_even_with_unknown_fields() {
        let error = NodeFacts::parse(r#"{"schema": 9, "anything": true}"#).unwrap_err().to_string();
        assert!(error.contains("format 9"), "{error}");
    }

    #[test]
    fn contradictions_are_refused() {
        let mut outside = facts();
        outside.blocks[0].gateway = "10.33.1.1".parse().unwrap();
        let mut empty = facts();
        empty.blocks.clear();
        let mut twice = facts();
        twice.blocks.push(twice.blocks[0]);
        let mut mtu = facts();
        mtu.mtu = 20;
        for bad in [outside, empty, twice, mtu] {
            assert!(
                matches!(NodeFacts::parse(&bad.to_text()), Err(FactsError::Inconsistent { .. })),
                "{bad:?}"
            );
        }
        assert!(matches!(NodeFacts::parse("{"), Err(FactsError::Malformed { .. })));
    }
}
