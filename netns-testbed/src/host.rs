//! Hosts: namespaces with interfaces on switches.

use std::fmt::Write;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use ipnetwork::IpNetwork;

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::switch::{Link, Switch};

/// How an interface of a host is set up.
#[derive(Clone, Debug)]
pub struct Nic {
    /// Its name, as in `eth0`.
    pub name: String,
    /// Its addresses with the prefix of their subnet.
    pub addresses: Vec<IpNetwork>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Default routes through it, at most one per family.
    pub gateways: Vec<IpAddr>,
}

/// A host: its own network, `/etc`, `/run`, `/var/lib` and `/var/log`.
pub struct Host {
    namespace: Namespace,
    attached: Mutex<Vec<Attached>>,
}

/// An interface that was given to the host, present or removed.
#[derive(Clone)]
struct Attached {
    nic: Nic,
    switch: Switch,
    link: Link,
    mac: String,
}

impl Host {
    /// A host without interfaces other than the loopback device.
    ///
    /// Kernel parameters that a machine inherits from whatever ran on it before are set to what a
    /// common server has: strict reverse path filter, no forwarding, no wait for duplicate
    /// addresses (a machine that is up has that wait behind it).
    pub fn new(name: &str) -> Result<Self> {
        let namespace = Namespace::host(name)?;
        namespace.sysctl([
            ("net.ipv4.ip_forward", "0"),
            ("net.ipv4.conf.all.rp_filter", "1"),
            ("net.ipv4.conf.default.rp_filter", "1"),
            ("net.ipv6.conf.default.accept_dad", "0"),
            ("net.ipv6.conf.all.accept_dad", "0"),
        ])?;
        namespace.write("/etc/hostname", format!("{name}\n"))?;
        Ok(Self { namespace, attached: Mutex::default() })
    }

    /// Connects an interface to a switch, with its addresses and default routes.
    pub fn attach(&self, switch: &Switch, nic: Nic) -> Result<Link> {
        let link = switch.connect(&self.namespace, &nic.name, nic.mtu, None)?;
        self.configure(&nic)?;
        // The address stays the interface's own when it is removed and comes back.
        let show = self.exec(["ip", "-o", "link", "show", "dev", &nic.name])?;
        let mac = show.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        let mac = mac.map(str::to_owned).ok_or_else(|| Error::Invalid {
            what: "the interface",
            value: nic.name.clone(),
            reason: "it has no hardware address".into(),
        })?;
        let attached = Attached { nic, switch: switch.clone(), link: link.clone(), mac };
        self.attached.lock().unwrap_or_else(PoisonError::into_inner).push(attached);
        Ok(link)
    }

    fn configure(&self, nic: &Nic) -> Result<()> {
        let name = &nic.name;
        let mut lines = String::new();
        for address in &nic.addresses {
            let nodad = if address.is_ipv6() { "nodad" } else { "" };
            let _ = writeln!(lines, "addr add {address} dev {name} {nodad}");
        }
        let _ = writeln!(lines, "link set {name} up");
        for gateway in &nic.gateways {
            let _ = writeln!(lines, "route add default via {gateway} dev {name}");
        }
        self.ip(&lines)
    }

    /// The link of an interface.
    pub fn link(&self, nic: &str) -> Result<Link> {
        Ok(self.attached(nic)?.link)
    }

    /// Takes an interface away, as when a cloud detaches it.
    pub fn remove_nic(&self, nic: &str) -> Result<()> {
        self.attached(nic)?.link.remove()
    }

    /// Gives a removed interface back: same name, hardware address, addresses and routes.
    pub fn restore_nic(&self, nic: &str) -> Result<Link> {
        let old = self.attached(nic)?;
        let link = old.switch.connect(&self.namespace, &old.nic.name, old.nic.mtu, Some(&old.mac))?;
        self.configure(&old.nic)?;
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        for known in attached.iter_mut().filter(|known| known.nic.name == nic) {
            known.link = link.clone();
        }
        Ok(link)
    }

    /// The addresses that were given to the host's interfaces.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        attached.iter().flat_map(|known| known.nic.addresses.iter().map(IpNetwork::ip)).collect()
    }

    /// Lets the host forward packets of both families, as a router does.
    pub fn forward(&self) -> Result<()> {
        self.sysctl([("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.all.forwarding", "1")])
    }

    /// The namespace, which [`Host`] dereferences to.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn attached(&self, nic: &str) -> Result<Attached> {
        let attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        attached.iter().find(|known| known.nic.name == nic).cloned().ok_or_else(|| Error::Invalid {
            what: "the interface",
            value: nic.to_owned(),
            reason: format!("{} was never given one of that name", self.name()),
        })
    }
}

impl Deref for Host {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}
