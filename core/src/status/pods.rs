//! The pods of this node, from their records.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::PodEvidence;
use crate::cni::attachment::Limits;
use crate::cni::portmap::PortMapping;

/// An interface of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// `namespace/name`, where the runtime said it.
    pub name: Option<String>,
    /// Container id.
    pub container: String,
    /// Name of the CNI network.
    pub network: String,
    /// Name of the interface in the pod.
    pub interface: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// MTU in octets.
    pub mtu: u32,
    /// Name of the host's end.
    pub host_interface: String,
    /// Whether its ADD is done; otherwise it is at work, or was killed.
    pub ready: bool,
    /// Whether the host's end is there; none where the kernel could not be asked.
    pub linked: Option<bool>,
    /// Ports of the node that lead to it.
    pub ports: Vec<PortMapping>,
    /// The limits of its traffic: rates in octets per second, sizes in octets.
    pub limits: Limits,
}

pub(super) fn pod(evidence: PodEvidence) -> Pod {
    let PodEvidence { record, ready, linked } = evidence;
    Pod {
        name: record.pod,
        container: record.key.container,
        network: record.key.network,
        interface: record.link.ifname,
        addresses: record.link.addresses.iter().map(|assigned| assigned.address).collect(),
        mtu: record.link.mtu,
        host_interface: record.link.host_ifname,
        ready,
        linked,
        ports: record.ports,
        limits: record.limits,
    }
}
