//! What `minionetd cleanup` removes, and in which order.
//!
//! The order lets nothing come back and breaks nothing earlier than it must: first the list by
//! which the container runtime makes pods, then the pods, then what leads to other nodes, and
//! last the files that tell of all that.

use std::collections::BTreeSet;
use std::fmt;

use thiserror::Error;

use crate::addr::Cidr;
use crate::constants::DEVICE;

/// What was found of ours on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Whether a daemon runs, which would put everything back.
    pub daemon: bool,
    /// The lists by which the container runtime finds the network.
    pub conflists: Vec<String>,
    /// Attachments with a record, for people.
    pub attachments: Vec<String>,
    /// How many of them have their interface: those pods run.
    pub running: usize,
    /// Interfaces of pods, by name.
    pub interfaces: BTreeSet<String>,
    /// Routes to pods of this node.
    pub pod_routes: BTreeSet<Cidr>,
    /// Routes to peers.
    pub peer_routes: BTreeSet<Cidr>,
    /// The numbers of the next hop objects that they refer to.
    pub objects: BTreeSet<u32>,
    /// Whether the nft table is there.
    pub table: bool,
    /// The VXLAN device, if it is there and ours.
    pub device: bool,
    /// Kernel settings that are still as the daemon set them, with what they were before.
    pub settings: Vec<(String, String)>,
    /// Directories of state that hold something.
    pub directories: Vec<String>,
}

/// One thing to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A file.
    File(String),
    /// All attachments, their interfaces and the routes to them.
    Pods {
        /// Attachments with a record.
        attachments: Vec<String>,
        /// Interfaces.
        interfaces: BTreeSet<String>,
        /// Routes.
        routes: BTreeSet<Cidr>,
    },
    /// The routes to peers.
    PeerRoutes(BTreeSet<Cidr>),
    /// The next hop objects that those refer to, by their numbers.
    Objects(BTreeSet<u32>),
    /// The nft table.
    Table,
    /// The VXLAN device with its addresses, neighbours and forwarding entries.
    Device,
    /// A kernel setting, which is given back the value that it had.
    Setting(String, String),
    /// A directory of state with everything in it.
    Directory(String),
}

/// Why nothing is removed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The daemon would put it all back.
    #[error(
        "minionetd runs and would put everything back: stop it first (systemctl disable --now minionetd)"
    )]
    Daemon,
    /// Pods would lose their network.
    #[error("{0} pods run on this network: drain the node first, or cut them off with --pods")]
    Pods(usize),
}

/// What is to be removed. Running pods are only cut off where `pods` says so; without `settings`,
/// kernel settings stay as they are.
///
/// # Errors
/// [`Refusal`]
pub fn plan(found: &Inventory, pods: bool, settings: bool) -> Result<Vec<Removal>, Refusal> {
    if found.daemon {
        return Err(Refusal::Daemon);
    }
    if found.running > 0 && !pods {
        return Err(Refusal::Pods(found.running));
    }
    let mut removals: Vec<Removal> = found.conflists.iter().cloned().map(Removal::File).collect();
    let nothing = found.attachments.is_empty() && found.interfaces.is_empty() && found.pod_routes.is_empty();
    if !nothing {
        removals.push(Removal::Pods {
            attachments: found.attachments.clone(),
            interfaces: found.interfaces.clone(),
            routes: found.pod_routes.clone(),
        });
    }
    if !found.peer_routes.is_empty() {
        removals.push(Removal::PeerRoutes(found.peer_routes.clone()));
    }
    // The kernel looks at all routes for each object that some refer to: so those went first.
    if !found.objects.is_empty() {
        removals.push(Removal::Objects(found.objects.clone()));
    }
    if found.device {
        removals.push(Removal::Device);
    }
    // The table goes after the device: as long as packets of the overlay can come in, they are
    // looked at.
    if found.table {
        removals.push(Removal::Table);
    }
    if settings {
        let back = |(key, value): &(String, String)| Removal::Setting(key.clone(), value.clone());
        removals.extend(found.settings.iter().filter(|(key, _)| stays(found, key)).map(back));
    }
    removals.extend(found.directories.iter().cloned().map(Removal::Directory));
    Ok(removals)
}

/// Whether a setting is still there afterwards: those of an interface go with it. Their keys are
/// as in `ipv4/conf/eth0/forwarding`.
fn stays(found: &Inventory, key: &str) -> bool {
    let interface = key.split('/').nth(2).unwrap_or_default();
    interface != DEVICE && !found.interfaces.contains(interface)
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |what: &mut dyn Iterator<Item = String>| what.collect::<Vec<_>>().join(" ");
        match self {
            Removal::File(path) => write!(f, "file       {path}"),
            Removal::Pods { attachments, interfaces, routes } => {
                let mut lines: Vec<String> = attachments.iter().map(|a| format!("pod        {a}")).collect();
                if !interfaces.is_empty() {
                    lines.push(format!("interfaces {}", list(&mut interfaces.iter().cloned())));
                }
                if !routes.is_empty() {
                    lines.push(format!(
                        "routes     {} (to pods)",
                        list(&mut routes.iter().map(Cidr::to_string))
                    ));
                }
                f.write_str(&lines.join("\n"))
            }
            Removal::PeerRoutes(routes) => {
                write!(f, "routes     {} (to peers)", list(&mut routes.iter().map(Cidr::to_string)))
            }
            Removal::Objects(numbers) => {
                write!(f, "next hops  {}", list(&mut numbers.iter().map(u32::to_string)))
            }
            Removal::Table => f.write_str("nft table  inet minionet"),
            Removal::Device => {
                f.write_str("device     minionet, with its addresses, neighbours and forwarding entries")
            }
            Removal::Setting(key, value) => write!(f, "setting    net/{key} back to {value}"),
            Removal::Directory(path) => write!(f, "directory  {path}/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory() -> Inventory {
        Inventory {
            daemon: false,
            conflists: vec!["/etc/cni/net.d/10-minionet.conflist".into()],
            attachments: vec!["container c interface eth0".into()],
            running: 1,
            interfaces: BTreeSet::from(["mnet0".to_owned()]),
            pod_routes: ["10.32.1.2/32".parse().unwrap()].into(),
            peer_routes: ["10.32.2.0/24".parse().unwrap()].into(),
            objects: [169_869_825].into(),
            table: true,
            device: true,
            settings: ["ipv4/ip_forward", "ipv4/conf/minionet/forwarding", "ipv4/conf/mnet0/forwarding"]
                .map(|key| (key.to_owned(), "0".to_owned()))
                .to_vec(),
            directories: vec!["/run/minionet".into()],
        }
    }

    #[test]
    fn running_pods_and_a_running_daemon_are_not_cut_off() {
        assert_eq!(plan(&inventory(), false, true), Err(Refusal::Pods(1)));
        assert_eq!(plan(&Inventory { daemon: true, ..inventory() }, true, true), Err(Refusal::Daemon));
        let dead = Inventory { running: 0, ..inventory() };
        assert!(plan(&dead, false, true).is_ok());
    }

    #[test]
    fn everything_goes_in_an_order_that_brings_nothing_back() {
        let lines: Vec<String> =
            plan(&inventory(), true, true).unwrap().iter().map(Removal::to_string).collect();
        let expected = [
            "file       /etc/cni/net.d/10-minionet.conflist",
            "pod        container c interface eth0\ninterfaces mnet0\nroutes     10.32.1.2/32 (to pods)",
            "routes     10.32.2.0/24 (to peers)",
            "next hops  169869825",
            "device     minionet, with its addresses, neighbours and forwarding entries",
            "nft table  inet minionet",
            "setting    net/ipv4/ip_forward back to 0",
            "directory  /run/minionet/",
        ];
        assert_eq!(lines, expected);
        assert_eq!(plan(&inventory(), true, false).unwrap().len(), expected.len() - 1);
        assert_eq!(plan(&Inventory::default(), false, true), Ok(Vec::new()));
    }
}
