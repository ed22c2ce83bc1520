//! The kernel side of minionet.
//!
//! The only crate that speaks netlink. It reads and writes what it is told to, in own
//! types, and never decides. Every request is acknowledged or an error; every error names the
//! operation, the object, the kernel's error number and its explanation (extack).
//!
//! | module | what it owns |
//! |---|---|
//! | [`socket`] | one blocking `NETLINK_ROUTE` socket: dumps, single reads, acknowledged batches |
//! | [`error`] | what can go wrong, and the kernel's explanation |
//! | [`link`] | network devices, above all the VTEP |
//! | [`address`], [`neighbour`], [`nexthop`], [`route`] | the objects on them |
//! | [`overlay`] | the whole overlay: read as one state, changed by a list of changes |
//! | [`monitor`] | notifications that something of ours was changed |
//! | [`departures`] | notifications that interfaces of pods are to go, or are gone |
//! | [`nft`] | nftables: minionet's table replaced, read back, its elements changed |
//! | [`netns`] | namespaces: opened by path, verified, entered for a moment |
//! | [`packet`] | packets with a mark, watched on all interfaces |
//! | [`pod`] | the veth pair of a pod: made, examined, removed |
//! | [`tc`] | limits of a pod's traffic |
//! | [`conntrack`] | connections that the kernel remembers, forgotten |
//! | [`sysctl`] | kernel settings below `/proc/sys/net` |
//! | [`xtables`] | the rules of `iptables-legacy`, read |

pub mod address;
mod attribute;
pub mod conntrack;
mod decode;
pub mod departures;
mod dump;
pub mod error;
mod filter;
pub mod link;
pub mod monitor;
pub mod neighbour;
pub mod netns;
pub mod nexthop;
pub mod nft;
pub mod overlay;
pub mod packet;
pub mod pod;
mod received;
mod request;
pub mod route;
pub mod rule;
pub mod socket;
pub mod sysctl;
pub mod tc;
pub mod xtables;

pub use error::Error;
pub use socket::Socket;
