//! Why an ADD fails, beyond what other modules find.

use minionet_core::cni::{Code, Coded};
use minionet_netlink::pod::AttachError;
use minionet_pods::capabilities::PortHolder;
use thiserror::Error;

/// Why an ADD fails.
#[derive(Debug, Error)]
pub enum AddError {
    /// The MTU asked for does not fit.
    #[error(
        "invalid network config: mtu {asked} is not between {least} and {most}, the MTU of the overlay on this node: leave it out"
    )]
    Mtu {
        /// What the configuration says, in octets.
        asked: u32,
        /// The least that works, in octets.
        least: u32,
        /// The most that works, in octets.
        most: u32,
    },
    /// Another call for the same container and interface is at work.
    #[error("another call for this container and interface is at work: wait for its end")]
    InFlight,
    /// The container has the interface already.
    #[error("interface {ifname} of this container is attached already, with {addresses}: DEL it first")]
    AlreadyAttached {
        /// Name of the interface.
        ifname: String,
        /// Its addresses.
        addresses: String,
    },
    /// Another attachment has a port that is asked for.
    #[error("{} leads to {} already: use another port, or delete that pod", .0.port, holder(.0))]
    HostPortInUse(Box<PortHolder>),
    /// The interface cannot be made.
    #[error(transparent)]
    Attach(AttachError),
    /// The kernel cannot be spoken to.
    #[error(transparent)]
    Kernel(minionet_netlink::Error),
}

impl Coded for AddError {
    fn code(&self) -> Code {
        match self {
            AddError::Mtu { .. } => Code::InvalidConfig,
            AddError::InFlight => Code::TryAgainLater,
            AddError::AlreadyAttached { .. } => Code::AlreadyAttached,
            AddError::HostPortInUse(_) => Code::HostPortInUse,
            AddError::Attach(AttachError::InterfaceExists { .. }) => Code::InterfaceExists,
            AddError::Attach(AttachError::AddressInUse { .. }) => Code::AddressInUse,
            AddError::Attach(_) | AddError::Kernel(_) => Code::Kernel,
        }
    }

    fn details(&self) -> Option<String> {
        // The cause is part of each message.
        None
    }
}

/// The pod that has a port, as a person knows it.
fn holder(holder: &PortHolder) -> String {
    let container = format!("container {} interface {}", holder.key.container, holder.key.ifname);
    match &holder.pod {
        Some(pod) => format!("pod {pod} ({container})"),
        None => container,
    }
}
