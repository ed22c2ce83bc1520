//! The trace: how far a packet to a pod comes, and which hop loses it.
//!
//! `minionetd trace` sends a few ICMP echo requests with a random mark to a pod, or to the VTEP of
//! a node, by the very way of the pods' packets, and watches for the mark on all interfaces of its
//! own node. The daemon of the other node does the same there on request, for a few seconds, and
//! tells where it saw the mark. The request and the answer travel on two channels, through the
//! tunnel and beside it, so that a tunnel that is broken can be talked about.
//!
//! | module | what it owns |
//! |---|---|
//! | [`message`] | what the two say to each other |
//! | [`desk`] | whom the daemon answers, and how much it does for others |
//! | [`filter`], [`sight`] | finding the mark in a packet, in the kernel and outside |
//! | [`echo`] | the packets with the mark |
//! | [`verdict`] | what follows from what was seen |
//!
//! # Trust
//! Nothing is secret and nothing is authenticated: as with the probe, a message is worth as much
//! as the address that it came from. Whoever can send from a member's address on the underlay can
//! make a node look for a mark of eight octets for a few seconds, and learn how many packets with
//! this mark came by, which he has sent himself.
//!
//! # Architecture invariants
//! * Nobody but a member is answered, and an answer is as large as its request.
//! * At most [`desk::WATCHES`] watches at a time, each for at most [`desk::LIFE`], and at most
//!   [`desk::RATE`] messages of one peer a second are looked at.
//! * A watch sees packets with the mark, and of them only counts, addresses and network
//!   identifiers are told.

pub mod desk;
pub mod echo;
pub mod filter;
pub mod message;
pub mod sight;
pub mod verdict;

pub use self::message::{Account, Arrival, Kind, Message, MessageError, Point, State};
pub use self::sight::{Marked, Tunnel};
pub use self::verdict::{Evidence, Hop, Outcome, Seen, Trace, Way};
