//! Which of this host's addresses is the node's own: the local one that appears in the answer.
//!
//! Other overlays guess the interface and are wrong on hosts with several. Here an address that
//! other nodes would not look for is never taken, and an address that was right is kept as long
//! as it is local, so that an answer that lacks it, or no answer at all, changes nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;

use thiserror::Error;

use crate::addr::{Cidr, Family};

/// An address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of its subnet's prefix in bits.
    pub prefix_len: u8,
    /// The interface that carries it.
    pub interface: String,
    /// Whether it may be used: of global scope, neither being probed nor deprecated.
    pub usable: bool,
}

/// All that the choice depends on.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The addresses of this host, without those of loopback and of our own device.
    pub local: &'a [LocalAddress],
    /// Every address that DNS lists.
    pub answered: &'a BTreeSet<IpAddr>,
    /// The address that was configured, if one was.
    pub node_ip: Option<IpAddr>,
    /// The interface that was configured, if one was.
    pub interface: Option<&'a str>,
    /// The node networks that were configured; empty if none were.
    pub node_networks: &'a [Cidr],
    /// The address that was chosen last, by this run or an earlier one.
    pub last: Option<IpAddr>,
}

/// The node's own address, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The address.
    pub address: IpAddr,
    /// Length of its subnet's prefix in bits.
    pub prefix_len: u8,
    /// The interface that carries it.
    pub interface: String,
}

/// Why no address can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unknown {
    /// The configured address is not one of this host's.
    #[error("node_ip {address} is no address of this host{}; its addresses are {}", on(.interface.as_deref()), list(.local))]
    NotLocal {
        /// What was configured.
        address: IpAddr,
        /// The interface it was to be on.
        interface: Option<String>,
        /// The addresses there are.
        local: Vec<IpAddr>,
    },
    /// DNS has not answered, and there is no earlier choice that is still local.
    #[error(
        "this node's own address is not known yet: DNS has not answered, and no earlier run left one that is still local"
    )]
    NoAnswer,
    /// None of the addresses is in the answer.
    #[error(
        "none of this host's addresses{} is among the {answered} that DNS lists: add one of {} to DNS, or set node_ip",
        on(.interface.as_deref()), list(.local)
    )]
    NotListed {
        /// How many addresses DNS lists.
        answered: usize,
        /// The interface that was asked for.
        interface: Option<String>,
        /// The addresses there are.
        local: Vec<IpAddr>,
    },
    /// Those that are listed lie outside of the node networks.
    #[error("{} is listed by DNS, but lies outside of node_networks ({}): append its network on every node", list(.addresses), list_networks(.networks))]
    OutsidePlan {
        /// The local addresses that are listed.
        addresses: Vec<IpAddr>,
        /// What was configured.
        networks: Vec<Cidr>,
    },
}

/// The address carries no subnet from which the node networks could follow.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{address} on {interface} has no subnet (prefix length {prefix_len}), so the network of the nodes is not known: set node_networks to the subnets in which the nodes live"
)]
pub struct NoSubnet {
    /// The address.
    pub address: IpAddr,
    /// Its interface.
    pub interface: String,
    /// Its prefix length.
    pub prefix_len: u8,
}

impl Identity {
    /// The subnet of the address: the node networks where none are configured.
    ///
    /// # Errors
    /// [`NoSubnet`] for a prefix that holds no other node (`/32`, `/31`; `/128`, `/127`).
    pub fn default_network(&self) -> Result<Cidr, NoSubnet> {
        let none = || NoSubnet {
            address: self.address,
            interface: self.interface.clone(),
            prefix_len: self.prefix_len,
        };
        if self.prefix_len + 1 >= Family::of(self.address).bits() {
            return Err(none());
        }
        Cidr::containing(self.address, self.prefix_len).map_err(|_| none())
    }
}

/// Chooses the node's own address.
///
/// In this order: the one configured; the one chosen last, if it is still there, unless DNS by
/// now lists only another one of this host; of those that DNS lists, IPv4 first, the first by
/// the order of the node networks and then the lowest.
///
/// # Errors
/// [`Unknown`] with what was looked for and what to do.
pub fn choose(input: &Input<'_>) -> Result<Identity, Unknown> {
    let on_interface = |l: &&LocalAddress| input.interface.is_none_or(|name| l.interface == name);
    let local: Vec<&LocalAddress> = input.local.iter().filter(|l| l.usable).filter(on_interface).collect();
    let identity = |l: &LocalAddress| Identity {
        address: l.address,
        prefix_len: l.prefix_len,
        interface: l.interface.clone(),
    };
    let interface = || input.interface.map(str::to_owned);
    let addresses = || local.iter().map(|l| l.address).collect::<Vec<_>>();

    if let Some(address) = input.node_ip {
        let found = local.iter().find(|l| l.address == address);
        return found.map(|l| identity(l)).ok_or_else(|| Unknown::NotLocal {
            address,
            interface: interface(),
            local: addresses(),
        });
    }
    let position = |addr: IpAddr| match input.node_networks {
        [] => Some(0),
        networks => networks.iter().position(|n| n.contains(addr)),
    };
    let listed: Vec<&&LocalAddress> = local.iter().filter(|l| input.answered.contains(&l.address)).collect();
    let candidate = listed
        .iter()
        .filter_map(|l| Some((position(l.address)?, Family::of(l.address), l.address, l)))
        .min_by_key(|(position, family, address, _)| (*position, *family, *address));
    let last = local.iter().find(|l| Some(l.address) == input.last && position(l.address).is_some());
    match (last, candidate) {
        (Some(last), None) => Ok(identity(last)),
        (Some(last), Some(_)) if input.answered.contains(&last.address) => Ok(identity(last)),
        (_, Some((.., chosen))) => Ok(identity(chosen)),
        (None, None) if input.answered.is_empty() => Err(Unknown::NoAnswer),
        (None, None) if !listed.is_empty() => Err(Unknown::OutsidePlan {
            addresses: listed.iter().map(|l| l.address).collect(),
            networks: input.node_networks.to_vec(),
        }),
        (None, None) => Err(Unknown::NotListed {
            answered: input.answered.len(),
            interface: interface(),
            local: addresses(),
        }),
    }
}

fn on(interface: Option<&str>) -> String {
    interface.map_or(String::new(), |name| format!(" on {name}"))
}

fn list(addresses: &[IpAddr]) -> String {
    match addresses {
        [] => "none".to_owned(),
        some => some.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn list_networks(networks: &[Cidr]) -> String {
    networks.iter().map(Cidr::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn local(text: &str, interface: &str) -> LocalAddress {
        let (address, len) = text.split_once('/').unwrap();
        LocalAddress {
            address: ip(address),
            prefix_len: len.parse().unwrap(),
            interface: interface.into(),
            usable: true,
        }
    }

    fn host() -> Vec<LocalAddress> {
        vec![
            local("10.0.2.15/24", "nat0"),
            local("172.20.0.7/24", "eth0"),
            local("fd00:1::7/64", "eth0"),
            local("172.20.0.5/24", "eth1"),
        ]
    }

    struct Case {
        local: Vec<LocalAddress>,
        answered: BTreeSet<IpAddr>,
        node_ip: Option<IpAddr>,
        interface: Option<&'static str>,
        networks: Vec<Cidr>,
        last: Option<IpAddr>,
    }

    impl Case {
        fn answered(addresses: &[&str]) -> Self {
            let answered = addresses.iter().map(|a| ip(a)).collect();
            Case { local: host(), answered, node_ip: None, interface: None, networks: vec![], last: None }
        }

        fn choose(&self) -> Result<Identity, Unknown> {
            choose(&Input {
                local: &self.local,
                answered: &self.answered,
                node_ip: self.node_ip,
                interface: self.interface,
                node_networks: &self.networks,
                last: self.last,
            })
        }

        fn chosen(&self) -> String {
            self.choose().map_or_else(|e| format!("{e}"), |i| format!("{} {}", i.address, i.interface))
        }
    }

    #[test]
    fn the_address_that_dns_lists_is_the_nodes_own() {
        assert_eq!(Case::answered(&["172.20.0.7", "172.20.0.9"]).chosen(), "172.20.0.7 eth0");
        assert_eq!(Case::answered(&["fd00:1::7", "fd00:1::9"]).chosen(), "fd00:1::7 eth0");
    }

    #[test]
    fn of_several_the_choice_does_not_depend_on_any_order() {
        let mut case = Case::answered(&["fd00:1::7", "172.20.0.7", "172.20.0.5"]);
        assert_eq!(case.chosen(), "172.20.0.5 eth1");
        case.local.reverse();
        assert_eq!(case.chosen(), "172.20.0.5 eth1");
        case.networks = vec!["fd00:1::/112".parse().unwrap()];
        assert_eq!(case.chosen(), "fd00:1::7 eth0", "the node networks are of IPv6");
    }

    #[test]
    fn what_was_chosen_is_kept_while_it_is_local() {
        let mut case = Case::answered(&["172.20.0.7", "172.20.0.5"]);
        case.last = Some(ip("172.20.0.7"));
        assert_eq!(case.chosen(), "172.20.0.7 eth0", "still listed");
        case.answered = BTreeSet::from([ip("172.20.0.99")]);
        assert_eq!(case.chosen(), "172.20.0.7 eth0", "not listed any more, but no other is");
        case.answered = BTreeSet::from([ip("172.20.0.5")]);
        assert_eq!(case.chosen(), "172.20.0.5 eth1", "only another one is listed");
        case.answered.clear();
        assert_eq!(case.chosen(), "172.20.0.7 eth0", "no answer");
        case.local.retain(|l| l.interface != "eth0");
        assert!(case.chosen().contains("DNS has not answered"), "not local any more");
    }

    #[test]
    fn what_is_configured_wins() {
        let mut case = Case::answered(&["172.20.0.7", "172.20.0.5"]);
        case.interface = Some("eth0");
        assert_eq!(case.chosen(), "172.20.0.7 eth0");
        case.node_ip = Some(ip("fd00:1::7"));
        assert_eq!(case.chosen(), "fd00:1::7 eth0");
        case.node_ip = Some(ip("192.0.2.1"));
        let error = case.chosen();
        assert!(error.contains("192.0.2.1 is no address of this host on eth0"), "{error}");
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let error = Case::answered(&["172.20.0.99"]).chosen();
        assert!(error.contains("add one of 10.0.2.15, 172.20.0.7, fd00:1::7, 172.20.0.5 to DNS"), "{error}");
        let mut case = Case::answered(&["172.20.0.7"]);
        case.networks = vec!["172.21.0.0/24".parse().unwrap()];
        let error = case.chosen();
        assert!(
            error.contains("172.20.0.7 is listed by DNS, but lies outside of node_networks (172.21.0.0/24)")
        );
        let mut case = Case::answered(&["172.20.0.7"]);
        case.local[1].usable = false;
        assert!(case.choose().is_err(), "an address that is being probed is not taken");
    }

    #[test]
    fn the_subnet_is_the_default_node_network() {
        let mut identity = Case::answered(&["172.20.0.7"]).choose().unwrap();
        assert_eq!(identity.default_network().unwrap().to_string(), "172.20.0.0/24");
        for len in [31, 32] {
            identity.prefix_len = len;
            let error = identity.default_network().unwrap_err().to_string();
            assert!(error.contains("set node_networks"), "{error}");
        }
    }
}
