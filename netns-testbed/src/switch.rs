//! Layer-2 segments: a bridge in a namespace of its own, one port per connected interface.

mod relay;
mod rules;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::relay::Relay;
use self::rules::PortRules;
use crate::error::{Error, Result};
use crate::namespace::Namespace;

/// The bridge's name inside its namespace.
const BRIDGE: &str = "br0";

/// A switch. Clones are the same switch.
#[derive(Clone)]
pub struct Switch {
    namespace: Namespace,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    next: u32,
    /// By the name of the port's veth end.
    ports: BTreeMap<String, Port>,
    /// Ports that hear only their own group; a port in none hears everybody.
    groups: Vec<Vec<String>>,
    /// Whether nftables rules were ever loaded.
    ruled: bool,
}

#[derive(Default)]
struct Port {
    rules: PortRules,
    relay: Option<Relay>,
}

impl Port {
    /// The name of the interface that is in the bridge.
    fn bridge_port<'a>(&'a self, name: &'a str) -> &'a str {
        self.relay.as_ref().map_or(name, |relay| relay.bridge_port())
    }
}

/// One cable: an interface of a host and its port on a switch. Clones are the same cable.
#[derive(Clone)]
pub struct Link {
    switch: Switch,
    port: String,
    host: Namespace,
    interface: String,
}

// === impl Switch ===

impl Switch {
    /// A switch without ports. It learns addresses, and forwards whatever fits the link's MTU.
    pub fn new(name: &str) -> Result<Self> {
        let namespace = Namespace::network_only(name)?;
        namespace
            .sysctl([("net.ipv6.conf.all.disable_ipv6", "1"), ("net.ipv6.conf.default.disable_ipv6", "1")])?;
        namespace.ip(&format!(
            "link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set {BRIDGE} up"
        ))?;
        Ok(Self { namespace, state: Arc::default() })
    }

    /// Connects a new interface of `host`; its address and state are left to the caller.
    ///
    /// `mac` sets the interface's hardware address; without it the kernel draws one.
    /// Both ends let the stack cut large segments before the cable, so that a capture sees what a
    /// real network would carry.
    pub fn connect(&self, host: &Namespace, interface: &str, mtu: u32, mac: Option<&str>) -> Result<Link> {
        let port = {
            let mut state = self.lock();
            state.next += 1;
            format!("p{}", state.next)
        };
        let link = Link { switch: self.clone(), port, host: host.clone(), interface: interface.to_owned() };
        link.create(mtu, mac)?;
        self.lock().ports.insert(link.port.clone(), Port::default());
        Ok(link)
    }

    /// Cuts the segment: links of different groups no longer hear each other.
    ///
    /// Links in no group still reach everybody. Replaces an earlier partition.
    pub fn partition(&self, groups: &[Vec<&Link>]) -> Result<()> {
        let groups =
            groups.iter().map(|links| links.iter().map(|link| link.port.clone()).collect()).collect();
        let mut state = self.lock();
        state.groups = groups;
        self.apply(&mut state)
    }

    /// Ends a partition.
    pub fn heal(&self) -> Result<()> {
        self.partition(&[])
    }

    /// The namespace, for captures and a look inside.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn apply(&self, state: &mut State) -> Result<()> {
        let ports: BTreeMap<&str, PortRules> =
            state.ports.iter().map(|(name, port)| (port.bridge_port(name), port.rules)).collect();
        let groups: Vec<Vec<&str>> = state
            .groups
            .iter()
            .map(|group| {
                let known = |name: &String| state.ports.get_key_value(name);
                group.iter().filter_map(known).map(|(name, port)| port.bridge_port(name)).collect()
            })
            .collect();
        let needed = rules::needed(&ports, &groups);
        if needed || state.ruled {
            self.namespace.nft(&rules::script(&ports, &groups))?;
            state.ruled = true;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Link ===

impl Link {
    fn create(&self, mtu: u32, mac: Option<&str>) -> Result<()> {
        let mac = mac.map(|mac| format!("address {mac}")).unwrap_or_default();
        let (port, interface) = (&self.port, &self.interface);
        let peer = self.host.net_path();
        self.switch.namespace.ip(&format!(
            "link add {port} mtu {mtu} gso_max_segs 1 type veth \
             peer name {interface} {mac} mtu {mtu} gso_max_segs 1 netns {peer}\n\
             link set {port} master {BRIDGE}\nlink set {port} up"
        ))
    }

    /// Whether the link is a port of this switch.
    pub(crate) fn is_on(&self, switch: &Switch) -> bool {
        Arc::ptr_eq(&self.switch.state, &switch.state)
    }

    /// The host's interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Drops a share of the frames at random in each direction.
    ///
    /// # Errors
    /// [`Error::Invalid`] for shares outside 0 to 1.
    pub fn set_loss(&self, from_host: f64, to_host: f64) -> Result<()> {
        let rules = PortRules::new(from_host, to_host)?;
        self.change(|port| port.rules = rules)
    }

    /// Limits the rate in both directions, in bits per second; `None` removes the limit.
    pub fn set_rate(&self, bits_per_second: Option<u64>) -> Result<()> {
        let ends = [(&self.switch.namespace, &self.port), (&self.host, &self.interface)];
        for (namespace, device) in ends {
            match bits_per_second {
                Some(rate) => {
                    // A bucket of 10 ms, but at least a few frames; a queue of 100 ms.
                    let burst = (rate / 8 / 100).max(15_000);
                    namespace.exec(tc(&format!(
                        "qdisc replace dev {device} root tbf rate {rate}bit burst {burst} latency 100ms"
                    )))?;
                }
                // Fails where there is no limit, which is what is wanted.
                None => drop(namespace.exec(tc(&format!("qdisc del dev {device} root")))),
            }
        }
        Ok(())
    }

    /// Delays every frame in each direction; a round trip takes twice as long.
    ///
    /// The first call puts a relay between the port and the bridge, which costs some microseconds
    /// a frame from then on, also after a delay of zero was set.
    pub fn set_delay(&self, one_way: Duration) -> Result<()> {
        let mut state = self.switch.lock();
        let port = state.ports.get_mut(&self.port).ok_or_else(|| self.unplugged())?;
        match &port.relay {
            Some(relay) => relay.set_delay(one_way),
            None => port.relay = Some(Relay::insert(&self.switch.namespace, &self.port, BRIDGE, one_way)?),
        }
        // The bridge now knows the port by another name.
        self.switch.apply(&mut state)
    }

    /// Takes the carrier away, as when a cable is pulled, or gives it back.
    pub fn set_carrier(&self, carrier: bool) -> Result<()> {
        let state = if carrier { "up" } else { "down" };
        self.switch.namespace.ip(&format!("link set {} {state}", self.port))
    }

    /// Removes the interface from the host, as when a cloud detaches it.
    pub fn remove(&self) -> Result<()> {
        let mut state = self.switch.lock();
        let port = state.ports.remove(&self.port).ok_or_else(|| self.unplugged())?;
        self.switch.apply(&mut state)?;
        let mut lines = format!("link del {}\n", self.port);
        if port.relay.is_some() {
            let _ = writeln!(lines, "link del {}", port.bridge_port(&self.port));
        }
        self.switch.namespace.ip(&lines)
    }

    fn change(&self, change: impl FnOnce(&mut Port)) -> Result<()> {
        let mut state = self.switch.lock();
        change(state.ports.get_mut(&self.port).ok_or_else(|| self.unplugged())?);
        self.switch.apply(&mut state)
    }

    fn unplugged(&self) -> Error {
        Error::Invalid {
            what: "the link",
            value: format!("{} {}", self.host.name(), self.interface),
            reason: "it was removed from the host; connect it again".into(),
        }
    }

    /// What a person needs to see of the port.
    fn describe(&self) -> String {
        let mut text = format!("{} of {}", self.interface, self.host.name());
        if let Some(port) = self.switch.lock().ports.get(&self.port) {
            let _ = write!(text, " on port {}, {}", port.bridge_port(&self.port), port.rules);
        }
        text
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.describe())
    }
}

/// A tc command as words.
fn tc(words: &str) -> impl Iterator<Item = String> {
    std::iter::once("tc").chain(words.split_whitespace()).map(str::to_owned).collect::<Vec<_>>().into_iter()
}
