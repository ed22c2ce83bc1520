//! How the daemon is, for those who must tell others within a second: a small file that it
//! replaces in `/run/minionet`.

use serde::{Deserialize, Serialize};

use crate::forward::ForwardPolicy;

/// File name in the runtime directory.
pub const FILE: &str = "health.json";

/// Version of the format; a reader takes another for silence, which says nothing bad.
pub const SCHEMA: u32 = 1;

/// What the daemon says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// When it was written, in seconds since the boot.
    pub uptime: u64,
    /// Within how many seconds it is written again, if all is well.
    pub again: u64,
    /// How many routes of [`ROUTE_PROTOCOL_PEER`] the kernel should have, where that is known.
    ///
    /// [`ROUTE_PROTOCOL_PEER`]: crate::constants::ROUTE_PROTOCOL_PEER
    pub peer_routes: Option<usize>,
    /// How many rules minionet's nft table should have, where that is known.
    pub rules: Option<usize>,
    /// What is wrong, and what to do; nothing when all is well.
    pub troubles: Vec<String>,
    /// Chains of other programs that drop what is forwarded. They may be meant for others, so they
    /// are no trouble of the daemon's.
    #[serde(default)]
    pub forward_policies: Vec<ForwardPolicy>,
}

impl Health {
    /// Reads the text of the file; nothing where it is not understood.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|health: &Health| health.schema == SCHEMA)
    }

    /// The text of the file, ending in a newline.
    pub fn to_text(&self) -> String {
        // A struct of plain fields with string keys always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// What is wrong, at a moment in seconds since the boot.
    pub fn troubles_at(&self, uptime: u64) -> Vec<String> {
        let silent = uptime.saturating_sub(self.uptime);
        let mut troubles = self.troubles.clone();
        if silent > self.again {
            troubles.push(format!(
                "minionetd lives, but has not said anything for {silent} seconds: see journalctl -u minionetd, and restart it"
            ));
        }
        troubles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health {
            schema: SCHEMA,
            uptime: 100,
            again: 30,
            peer_routes: Some(2),
            rules: None,
            troubles: vec!["no device".into()],
            forward_policies: Vec::new(),
        }
    }

    #[test]
    fn survives_the_round_trip() {
        assert_eq!(Health::parse(&health().to_text()), Some(health()));
        assert_eq!(Health::parse("{"), None);
        // As a version without the last field wrote it.
        let mut older: serde_json::Value = serde_json::from_str(&health().to_text()).unwrap();
        older.as_object_mut().unwrap().remove("forward_policies");
        assert_eq!(Health::parse(&older.to_string()), Some(health()));
        assert_eq!(Health::parse(&Health { schema: 2, ..health() }.to_text()), None);
    }

    #[test]
    fn silence_is_a_trouble_of_its_own() {
        assert_eq!(health().troubles_at(130), ["no device"]);
        assert_eq!(health().troubles_at(131).len(), 2);
        assert_eq!(health().troubles_at(5), ["no device"], "never negative");
    }
}
