//! Loss and partitions of a switch as one nftables script. Pure.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use crate::error::{Error, Result};

/// Draws are made out of a million: `numgen` has no fractions.
const DRAWS: f64 = 1_000_000.0;

/// What happens to the frames of one port.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct PortRules {
    /// Of a million frames from the host, how many are dropped.
    from_host: u32,
    /// Of a million frames to the host, how many are dropped.
    to_host: u32,
}

impl PortRules {
    /// The shares are between 0 (nothing is lost) and 1 (everything).
    pub(super) fn new(from_host: f64, to_host: f64) -> Result<Self> {
        let draws = |share: f64| {
            if (0.0..=1.0).contains(&share) {
                // In range, so the cast cannot saturate.
                return Ok((share * DRAWS).round() as u32);
            }
            Err(Error::Invalid {
                what: "the loss",
                value: share.to_string(),
                reason: "it is a share between 0 and 1".into(),
            })
        };
        Ok(Self { from_host: draws(from_host)?, to_host: draws(to_host)? })
    }
}

impl fmt::Display for PortRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |draws| f64::from(draws) * 100.0 / DRAWS;
        write!(f, "loss from host {} %, to host {} %", percent(self.from_host), percent(self.to_host))
    }
}

/// Whether any frame is to be dropped at all.
pub(super) fn needed(ports: &BTreeMap<&str, PortRules>, groups: &[Vec<&str>]) -> bool {
    !groups.is_empty() || ports.values().any(|rules| *rules != PortRules::default())
}

/// The whole table; it replaces the one before it in one transaction.
pub(super) fn script(ports: &BTreeMap<&str, PortRules>, groups: &[Vec<&str>]) -> String {
    let mut rules = String::new();
    for (port, PortRules { from_host, to_host }) in ports {
        for (direction, draws) in [("iifname", from_host), ("oifname", to_host)] {
            let chance = match f64::from(*draws) {
                0.0 => continue,
                // nft refuses a comparison that is always true.
                DRAWS => String::new(),
                _ => format!("numgen random mod {DRAWS} < {draws} "),
            };
            let _ = writeln!(rules, "    {direction} \"{port}\" {chance}counter drop");
        }
    }
    let groups: Vec<String> = groups
        .iter()
        .filter(|group| !group.is_empty())
        .map(|group| group.iter().map(|port| format!("\"{port}\"")).collect::<Vec<_>>().join(", "))
        .collect();
    for (index, from) in groups.iter().enumerate() {
        for (_, to) in groups.iter().enumerate().filter(|(other, _)| *other != index) {
            let _ = writeln!(rules, "    iifname {{ {from} }} oifname {{ {to} }} counter drop");
        }
    }
    format!(
        "table bridge testbed\ndelete table bridge testbed\n\
         table bridge testbed {{\n  chain forward {{\n    type filter hook forward priority 0;\n{rules}  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_outside_zero_to_one_are_refused() {
        for share in [-0.1, 1.1, f64::NAN] {
            assert!(PortRules::new(share, 0.0).is_err(), "{share} was accepted");
        }
    }

    #[test]
    fn a_quiet_switch_needs_no_rules() {
        let ports = BTreeMap::from([("p1", PortRules::default())]);
        assert!(!needed(&ports, &[]));
        assert!(needed(&ports, &[vec!["p1"]]));
    }

    #[test]
    fn each_direction_has_its_own_loss() {
        let ports = BTreeMap::from([("p1", PortRules::new(0.25, 0.0).unwrap())]);
        let script = script(&ports, &[]);
        assert!(
            script.contains("iifname \"p1\" numgen random mod 1000000 < 250000 counter drop"),
            "{script}"
        );
        assert!(!script.contains("oifname"), "{script}");
    }

    #[test]
    fn a_loss_of_everything_needs_no_draw() {
        let ports = BTreeMap::from([("p1", PortRules::new(0.0, 1.0).unwrap())]);
        let script = script(&ports, &[]);
        assert!(script.contains("oifname \"p1\" counter drop"), "{script}");
    }

    #[test]
    fn groups_are_cut_in_both_directions() {
        let script = script(&BTreeMap::new(), &[vec!["p1", "p2"], vec!["p3"]]);
        assert!(script.contains("iifname { \"p1\", \"p2\" } oifname { \"p3\" } counter drop"), "{script}");
        assert!(script.contains("iifname { \"p3\" } oifname { \"p1\", \"p2\" } counter drop"), "{script}");
    }
}
