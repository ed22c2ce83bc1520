//! The numbers of a subnet: which host gets which address. Pure.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::error::{Error, Result};

/// A subnet of the underlay, of one family or both.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    v4: Option<Ipv4Network>,
    v6: Option<Ipv6Network>,
}

/// The host number of the router in an IPv6 subnet; DNS servers count down from the next.
const ROUTER_V6: u128 = 0xfffe;

impl Segment {
    /// Reads `172.20.0.0/24`, `fd00:20::/64` or both with a comma between them.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let invalid = |reason: String| Error::Invalid { what: "the subnet", value: text.to_owned(), reason };
        let mut segment = Self { v4: None, v6: None };
        for part in text.split(',').map(str::trim) {
            match part.parse::<IpNetwork>().map_err(|error| invalid(error.to_string()))? {
                IpNetwork::V4(network) if network.prefix() <= 28 => segment.v4 = Some(network),
                IpNetwork::V6(network) if network.prefix() <= 112 => segment.v6 = Some(network),
                _ => return Err(invalid("it is smaller than /28 or /112".into())),
            }
        }
        Ok(segment)
    }

    /// The subnets.
    pub(crate) fn networks(&self) -> Vec<IpNetwork> {
        self.v4.map(IpNetwork::V4).into_iter().chain(self.v6.map(IpNetwork::V6)).collect()
    }

    /// The addresses of the host with a number, counted from 1.
    ///
    /// # Errors
    /// When the number is one of the router's or the DNS servers', or outside.
    pub(crate) fn host(&self, number: u32) -> Result<Vec<IpNetwork>> {
        // The last of the numbers below the router and up to three DNS servers.
        let last = self.v4.map_or(0xfff0, |v4| v4.size() - 6);
        if number == 0 || number > last {
            return Err(Error::Invalid {
                what: "the host number",
                value: number.to_string(),
                reason: format!("the subnet has numbers 1 to {last} for nodes; give more or larger subnets"),
            });
        }
        Ok(self.at(|v4| u32::from(v4.network()) + number, u128::from(number)))
    }

    /// The addresses of the router: the highest of an IPv4 subnet.
    pub(crate) fn router(&self) -> Vec<IpNetwork> {
        self.at(|v4| u32::from(v4.broadcast()) - 1, ROUTER_V6)
    }

    /// The addresses of a DNS server, counted from 0, below the router's.
    pub(crate) fn dns(&self, index: u32) -> Vec<IpNetwork> {
        self.at(|v4| u32::from(v4.broadcast()) - 2 - index, ROUTER_V6 - 1 - u128::from(index))
    }

    /// The router's addresses, as gateways.
    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        self.router().iter().map(IpNetwork::ip).collect()
    }

    fn at(&self, v4: impl Fn(Ipv4Network) -> u32, v6: u128) -> Vec<IpNetwork> {
        let four = self.v4.and_then(|net| IpNetwork::new(IpAddr::V4(v4(net).into()), net.prefix()).ok());
        let six = self.v6.and_then(|net| {
            let address = Ipv6Addr::from(u128::from(net.network()) + v6);
            IpNetwork::new(address.into(), net.prefix()).ok()
        });
        four.into_iter().chain(six).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(addresses: &[IpNetwork]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_dual_stack_subnet_gives_each_host_one_address_of_each_family() {
        let segment = Segment::parse("172.20.0.0/24, fd00:20::/64").unwrap();
        assert_eq!(text(&segment.host(12).unwrap()), ["172.20.0.12/24", "fd00:20::c/64"]);
        assert_eq!(text(&segment.router()), ["172.20.0.254/24", "fd00:20::fffe/64"]);
        assert_eq!(text(&segment.dns(1)), ["172.20.0.252/24", "fd00:20::fffc/64"]);
    }

    #[test]
    fn nodes_never_get_the_address_of_a_server() {
        let segment = Segment::parse("172.20.0.0/28").unwrap();
        let servers: Vec<_> = [segment.router(), segment.dns(0), segment.dns(1), segment.dns(2)].concat();
        for number in 1..=20 {
            match segment.host(number) {
                Ok(host) => assert!(!servers.contains(&host[0]), "{number}"),
                Err(_) => assert!(number > 10, "{number}"),
            }
        }
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        for text in ["", "172.20.0.0/30", "fd00::/127", "node"] {
            assert!(Segment::parse(text).is_err(), "{text}");
        }
    }
}
