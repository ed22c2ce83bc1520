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
    /// What the kernel sets along with a switch of forwarding, changed or not.
    dependents: BTreeMap<String, Changed>,
}

/// What one setting was, and what it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Changed {
    before: String,
    now: String,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning { schema: SCHEMA, changed: BTreeMap::new(), dependents: BTreeMap::new() }
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
        let changed = Changed::since(self.changed.get(key), before, now);
        if changed.before == now {
            self.changed.remove(key);
        } else {
            self.changed.insert(key.to_owned(), changed);
        }
    }

    /// Notes what a setting is, before and after a switch of forwarding was set, that the kernel
    /// sets along with the switch: `inet_forward_change` in net/ipv4/devinet.c,
    /// `addrconf_fixup_forwarding` in net/ipv6/addrconf.c. Where it did not change, it will when
    /// the switch is set back.
    pub fn note_dependent(&mut self, key: &str, before: &str, now: &str) {
        let changed = Changed::since(self.dependents.get(key), before, now);
        self.dependents.insert(key.to_owned(), changed);
    }

    /// Which settings to give back, in their order, and their values: those that are as the
    /// daemon left them. After a switch follows what the kernel sets along with it, so that it
    /// gets back what it was or, where somebody changed it since, what it is.
    pub fn give_back(&self, current: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
        let ours = self.changed.iter().filter(|(key, c)| current(key).as_deref() == Some(&c.now));
        let mut back: Vec<(String, String)> =
            ours.map(|(key, changed)| (key.clone(), changed.before.clone())).collect();
        back.sort_by_key(|(key, _)| !is_switch(key));
        let switches: Vec<String> =
            back.iter().map(|(key, _)| key.clone()).filter(|k| is_switch(k)).collect();
        let follows = |key: &str| switches.iter().any(|switch| family(switch) == family(key));
        let dependents =
            self.dependents.iter().filter(|(key, _)| follows(key)).filter_map(|(key, changed)| {
                let now = current(key)?;
                Some((key.clone(), if now == changed.now { changed.before.clone() } else { now }))
            });
        back.splice(switches.len()..switches.len(), dependents);
        back
    }
}

impl Changed {
    /// A change that follows another: the value before the first of them counts, unless somebody
    /// else came in between.
    fn since(known: Option<&Changed>, before: &str, now: &str) -> Self {
        let first = known.filter(|known| known.now == before);
        let before = first.map_or_else(|| before.to_owned(), |known| known.before.clone());
        Changed { before, now: now.to_owned() }
    }
}

/// The first part of a key: `ipv4` or `ipv6`.
fn family(key: &str) -> &str {
    key.split('/').next().unwrap_or_default()
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
        tuning.note("ipv4/conf/eth0/rp_filter", "1", "2");
        tuning.note("ipv4/ip_forward", "0", "1");
        tuning.note_dependent("ipv4/conf/all/accept_redirects", "0", "0");
        tuning.note_dependent("ipv4/conf/eth0/forwarding", "0", "1");
        tuning.note_dependent("ipv6/conf/eth0/forwarding", "0", "1");
        let tuning = Tuning::parse(&tuning.to_text());
        let now = |changed: &[(&str, &str)]| {
            let all = tuning.changed.iter().chain(&tuning.dependents);
            let mut now: BTreeMap<String, String> = all.map(|(k, c)| (k.clone(), c.now.clone())).collect();
            now.extend(changed.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
            let back = tuning.give_back(|key| now.get(key).cloned());
            back.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        let switch = ["ipv4/ip_forward=0", "ipv4/conf/all/accept_redirects=0", "ipv4/conf/eth0/forwarding=0"];
        assert_eq!(now(&[]), [switch.as_slice(), &["ipv4/conf/eth0/rp_filter=1"]].concat());
        assert_eq!(now(&[("ipv4/conf/eth0/rp_filter", "0")]), switch, "somebody changed one");
        assert_eq!(now(&[("ipv4/ip_forward", "2")]), ["ipv4/conf/eth0/rp_filter=1"]);
        let redirects = now(&[("ipv4/conf/all/accept_redirects", "1")]);
        assert_eq!(redirects[1], "ipv4/conf/all/accept_redirects=1", "the kernel must not undo that");
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
