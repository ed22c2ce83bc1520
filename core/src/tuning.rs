//! The kernel settings that the daemon changed, remembered so that they can be given back.
//!
//! The record lies in `/run/minionet`, and so lives as long as the settings do: until the next
//! boot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// File name in the runtime directory.
pub const FILE: &str = "sysctls.json";

/// Version of the format; another is taken for an empty record.
const SCHEMA: u32 = 1;

/// Settings by their path below `/proc/sys/net`, such as `ipv4/ip_forward`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    schema: u32,
    changed: BTreeMap<String, Changed>,
}

/// What one setting was, and what it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Changed {
    before: String,
    now: String,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning { schema: SCHEMA, changed: BTreeMap::new() }
    }
}

impl Tuning {
    /// Reads the text of the file; an empty record where it is not understood.
    pub fn parse(text: &str) -> Self {
        serde_json::from_str(text).ok().filter(|t: &Tuning| t.schema == SCHEMA).unwrap_or_default()
    }

    /// The text of the file, ending in a newline.
    pub fn to_text(&self) -> String {
        // A struct of plain fields with string keys always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Notes a change. What a setting was before the first of several changes is what counts,
    /// unless somebody else set it in between.
    pub fn note(&mut self, key: &str, before: &str, now: &str) {
        let first = self.changed.get(key).filter(|known| known.now == before);
        let before = first.map_or_else(|| before.to_owned(), |known| known.before.clone());
        if before == now {
            self.changed.remove(key);
        } else {
            self.changed.insert(key.to_owned(), Changed { before, now: now.to_owned() });
        }
    }

    /// Which settings to give back, and their values: those that are as the daemon left them.
    /// The switches of forwarding come first, because the kernel sets others along with them
    /// (`inet_forward_change` in net/ipv4/devinet.c, `addrconf_fixup_forwarding` in
    /// net/ipv6/addrconf.c).
    pub fn give_back(&self, current: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
        let ours = self.changed.iter().filter(|(key, c)| current(key).as_deref() == Some(&c.now));
        let mut back: Vec<(String, String)> =
            ours.map(|(key, changed)| (key.clone(), changed.before.clone())).collect();
        back.sort_by_key(|(key, _)| !is_switch(key));
        back
    }
}

/// Whether the kernel changes other settings along with this one.
pub fn is_switch(key: &str) -> bool {
    matches!(key, "ipv4/ip_forward" | "ipv6/conf/all/forwarding")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_given_back_switches_first() {
        let mut tuning = Tuning::default();
        tuning.note("ipv4/conf/all/accept_redirects", "1", "0");
        tuning.note("ipv4/ip_forward", "0", "1");
        tuning.note("ipv4/conf/eth0/rp_filter", "1", "2");
        let tuning = Tuning::parse(&tuning.to_text());
        let current = |key: &str| Some(if key.ends_with("rp_filter") { "0" } else { "1" }.to_owned());
        assert_eq!(tuning.give_back(current), [("ipv4/ip_forward".into(), "0".into())], "others changed two");
        let current = |key: &str| tuning.changed.get(key).map(|c| c.now.clone());
        let keys: Vec<String> = tuning.give_back(current).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["ipv4/ip_forward", "ipv4/conf/all/accept_redirects", "ipv4/conf/eth0/rp_filter"]);
        assert!(tuning.give_back(|_| None).is_empty(), "an interface that is gone");
    }

    #[test]
    fn the_first_value_counts_unless_somebody_came_in_between() {
        let mut tuning = Tuning::default();
        tuning.note("a", "1", "2");
        tuning.note("a", "2", "3");
        assert_eq!(tuning.give_back(|_| Some("3".into())), [("a".into(), "1".into())]);
        tuning.note("a", "7", "3");
        assert_eq!(tuning.give_back(|_| Some("3".into())), [("a".into(), "7".into())]);
        tuning.note("a", "3", "7");
        assert_eq!(tuning, Tuning::default(), "it is as it was");
        assert_eq!(Tuning::parse("{"), Tuning::default());
    }
}
