//! Everything that an ADD needs to know, gathered and checked before anything is changed.

use minionet_core::addr::{Family, MacAddr};
use minionet_core::cni::args::{CniArgs, Invocation};
use minionet_core::cni::attachment::{Key, NetnsRef};
use minionet_core::cni::bandwidth::Bandwidth;
use minionet_core::cni::conf::NetConf;
use minionet_core::cni::ipam::{Assigned, Space};
use minionet_core::cni::portmap::PortMapping;
use minionet_core::cni::requests::Requests;
use minionet_core::cni::result::{CniResult, Dns};
use minionet_core::cni::{Failure, Version};
use minionet_core::handoff::NodeFacts;
use minionet_netlink::Socket;
use minionet_netlink::netns::Netns;
use minionet_pods::boot;

use super::error::AddError;
use crate::facts::{self, Directories};
use crate::netns;

/// An ADD that can begin.
#[derive(Debug)]
pub struct Prepared {
    /// The caller's version.
    pub version: Version,
    /// What is to be attached.
    pub key: Key,
    /// `namespace/name` of the pod, if the runtime said it.
    pub pod: Option<String>,
    /// This boot.
    pub boot: String,
    /// The container's namespace.
    pub netns: Netns,
    /// The container's namespace, as the record has it.
    pub netns_ref: NetnsRef,
    /// MTU of the interface, in octets.
    pub mtu: u32,
    /// The requested MAC.
    pub mac: Option<MacAddr>,
    /// The node's addresses.
    pub space: Space,
    /// The requested addresses.
    pub requested: Vec<Assigned>,
    /// What plugins before us made.
    pub before: CniResult,
    /// Name servers, where the configuration or the runtime names them.
    pub dns: Option<Dns>,
    /// Ports of the node that are to lead to the pod.
    pub ports: Vec<PortMapping>,
    /// Limits of the pod's traffic.
    pub bandwidth: Bandwidth,
}

impl Prepared {
    /// Gathers and checks everything; changes nothing.
    pub fn new(
        invocation: &Invocation,
        conf: &NetConf,
        dirs: &Directories,
        host: &Socket,
    ) -> Result<Self, Failure> {
        let args = CniArgs::parse(&invocation.args)?;
        let settings = conf.settings()?;
        let requests = Requests::read(conf, &args)?;
        let before = conf.prev_result().map(CniResult::from_json).transpose()?.unwrap_or_default();
        let facts = facts::load(dirs)?;
        let space = Space::new(&facts.blocks);
        let requested = space.requested(&requests.ips)?;
        let mtu = mtu(settings.mtu, &facts)?;
        let netns = netns::open(&invocation.netns, host)?;
        let netns_ref =
            NetnsRef { path: invocation.netns.clone(), device: netns.device(), inode: netns.inode() };
        Ok(Prepared {
            version: conf.version,
            key: Key {
                network: conf.name.clone(),
                container: invocation.container.clone(),
                ifname: invocation.ifname.clone(),
            },
            pod: args.pod,
            boot: boot::current().to_owned(),
            netns,
            netns_ref,
            mtu,
            mac: requests.mac,
            space,
            requested,
            before,
            // What the runtime wants for this one container is stronger than what is configured
            // for all.
            dns: requests.dns.or(settings.dns),
            ports: requests.ports,
            bandwidth: requests.bandwidth,
        })
    }
}

/// The MTU of the interface, in octets: the one asked for, else the overlay's.
///
/// # Errors
/// [`AddError::Mtu`].
pub fn mtu(asked: Option<u32>, facts: &NodeFacts) -> Result<u32, AddError> {
    // RFC 8200 section 5 and RFC 791.
    let least = if facts.block(Family::V6).is_some() { 1280 } else { 68 };
    match asked {
        None => Ok(facts.mtu),
        Some(mtu) if (least..=facts.mtu).contains(&mtu) => Ok(mtu),
        Some(asked) => Err(AddError::Mtu { asked, least, most: facts.mtu }),
    }
}
