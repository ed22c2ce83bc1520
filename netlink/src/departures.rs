//! Notifications that interfaces of pods are to be destroyed, or were destroyed by others, and that
//! routes to pods were withdrawn.
//!
//! As with [`crate::monitor`], a notification only says *look*; what is lost is made up for by
//! looking now and then without being told.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use minionet_core::cni::attachment::HOST_IFNAME_PREFIX;
use minionet_core::constants::{DOOMED_GROUP, ROUTE_PROTOCOL_POD};
use nix::libc::IFLA_GROUP;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use std::os::fd::AsFd;

use crate::decode::{ip_of, u32_at};
use crate::error::Error;
use crate::filter;
use crate::monitor::{attribute, messages, text_attribute};
use crate::received::Received;

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_ROUTE` and `RTNLGRP_IPV6_ROUTE` of linux/rtnetlink.h.
const GROUPS: [u32; 3] = [1, 7, 11];

/// Size that is asked of the kernel for the buffer of the socket, in octets.
const KERNEL_BUFFER: usize = 1024 * 1024;

/// Size of one datagram at the most, in octets.
const BUFFER: usize = 64 * 1024;

/// `RTM_NEWLINK`, `RTM_DELLINK` and `RTM_DELROUTE` of linux/rtnetlink.h.
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const DEL_ROUTE: u16 = 25;

/// What was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// An interface was put into the group of those to be destroyed.
    pub doomed: bool,
    /// The host's end of a pod disappeared without having been in that group.
    pub vanished: bool,
    /// Pods to which a route was removed.
    pub withdrawn: BTreeSet<IpAddr>,
}

/// A socket that listens, in the namespace that its maker was in.
pub struct Departures {
    socket: netlink_sys::Socket,
    buffer: Vec<u8>,
}

impl Departures {
    /// Starts to listen.
    ///
    /// # Errors
    /// [`Error::Socket`] when the kernel refuses.
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<netlink_sys::Socket> {
            let mut socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            // Needs a right that a user namespace does not give; the default does as well.
            let _refused = setsockopt(&socket, sockopt::RcvBufForce, &KERNEL_BUFFER);
            filter::attach(&socket, &filter::departures());
            for group in GROUPS {
                socket.add_membership(group)?;
            }
            Ok(socket)
        };
        let operation = || "listen for interfaces that go".to_owned();
        let socket = open().map_err(|source| Error::Socket { operation: operation(), source })?;
        Ok(Departures { socket, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Waits until something is heard, or a moment has come.
    ///
    /// # Errors
    /// [`Error::Socket`] when the socket is of no use any more.
    pub fn wait(&mut self, until: Instant) -> Result<Heard, Error> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Rounded up, so that the last wait is not a busy one.
            let left = left.saturating_add(Duration::from_micros(999)).as_millis();
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let ready = {
                let mut waited = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
                poll(&mut waited, timeout)
            };
            match ready {
                Ok(0) => return Ok(Heard::default()),
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(failed(errno.into())),
            }
            let heard = self.drain()?;
            if heard != Heard::default() {
                return Ok(heard);
            }
        }
    }

    /// What has come until now.
    ///
    /// # Errors
    /// [`Error::Socket`] when the socket is of no use any more.
    pub fn drain(&mut self) -> Result<Heard, Error> {
        let mut heard = Heard::default();
        loop {
            self.buffer.clear();
            self.buffer.reserve(BUFFER);
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => messages(&self.buffer).for_each(|message| heard.take(&message)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                    // Whatever was withdrawn is not known then.
                    heard = Heard { doomed: true, vanished: true, ..heard };
                }
                Err(source) => return Err(failed(source)),
            }
        }
    }
}

impl Heard {
    /// Whether a pod is leaving by its DEL.
    pub fn tells_of_leaving(&self) -> bool {
        self.doomed || !self.withdrawn.is_empty()
    }

    /// Adds what was heard later.
    pub fn and(&mut self, later: Heard) {
        self.doomed |= later.doomed;
        self.vanished |= later.vanished;
        self.withdrawn.extend(later.withdrawn);
    }

    /// Message types and attributes are those of linux/rtnetlink.h and linux/if_link.h: struct
    /// ifinfomsg has 16 octets, IFLA_IFNAME is 3; struct rtmsg has 12 octets with
    /// the length of the destination in the second and the protocol in the sixth, RTA_DST is 1.
    fn take(&mut self, message: &Received<'_>) {
        let doomed = || {
            let group = attribute(message.body(), 16, IFLA_GROUP).and_then(|octets| u32_at(octets, 0));
            group == Some(DOOMED_GROUP)
        };
        let ours = || {
            let name = text_attribute(message.body(), 16, 3);
            name.is_some_and(|name| name.starts_with(HOST_IFNAME_PREFIX.as_bytes()))
        };
        match message.kind {
            // Also of a changed device.
            NEW_LINK => self.doomed |= doomed(),
            DEL_LINK => self.vanished |= ours() && !doomed(),
            DEL_ROUTE if message.body().get(5) == Some(&ROUTE_PROTOCOL_POD) => {
                self.withdrawn.extend(attribute(message.body(), 12, 1).and_then(ip_of));
            }
            _ => {}
        }
    }
}

fn failed(source: io::Error) -> Error {
    Error::Socket { operation: "hear of interfaces that go".into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(kind: u16, name: &str, group: u32) -> Vec<u8> {
        let mut octets = vec![0; 16];
        let mut attribute = |number: u16, value: &[u8]| {
            octets.extend((4 + value.len() as u16).to_ne_bytes());
            octets.extend(number.to_ne_bytes());
            octets.extend(value);
            octets.resize(octets.len().next_multiple_of(4), 0);
        };
        attribute(3, format!("{name}\0").as_bytes());
        attribute(27, &group.to_ne_bytes());
        let mut message = Vec::new();
        message.extend((16 + octets.len() as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.resize(16, 0);
        message.extend(octets);
        message
    }

    fn heard(kind: u16, name: &str, group: u32) -> (bool, bool) {
        let mut heard = Heard::default();
        messages(&link(kind, name, group)).for_each(|message| heard.take(&message));
        (heard.doomed, heard.vanished)
    }

    fn withdrawn(kind: u16, protocol: u8, destination: &[u8]) -> Vec<IpAddr> {
        let mut octets = vec![0; 12];
        octets[5] = protocol;
        octets.extend((4 + destination.len() as u16).to_ne_bytes());
        octets.extend(1u16.to_ne_bytes());
        octets.extend(destination);
        let mut message = Vec::new();
        message.extend((16 + octets.len() as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.resize(16, 0);
        message.extend(octets);
        let mut heard = Heard::default();
        messages(&message).for_each(|message| heard.take(&message));
        heard.withdrawn.into_iter().collect()
    }

    #[test]
    fn routes_to_pods_are_withdrawn_and_no_others() {
        let v4 = [10, 32, 1, 2];
        let v6 = [0xfd, 0, 0, 0x32, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
        assert_eq!(withdrawn(25, ROUTE_PROTOCOL_POD, &v4), [IpAddr::from(v4)]);
        assert_eq!(withdrawn(25, ROUTE_PROTOCOL_POD, &v6), [IpAddr::from(v6)]);
        assert!(withdrawn(25, 109, &v4).is_empty(), "a peer's");
        assert!(withdrawn(24, ROUTE_PROTOCOL_POD, &v4).is_empty(), "a new one");
        assert!(withdrawn(25, ROUTE_PROTOCOL_POD, &v4[..3]).is_empty(), "mangled");
    }

    #[test]
    fn only_what_goes_is_heard() {
        assert_eq!(heard(16, "mnet00000000000", 0), (false, false), "a new pod");
        assert_eq!(heard(16, "mnet00000000000", DOOMED_GROUP), (true, false));
        assert_eq!(heard(17, "mnet00000000000", DOOMED_GROUP), (false, false), "our own work");
        assert_eq!(heard(17, "mnet00000000000", 0), (false, true));
        assert_eq!(heard(17, "veth0", 0), (false, false));
    }
}
