//! The ways in which a DNS server can misbehave.

use std::net::IpAddr;
use std::time::Duration;

/// What the server does instead of answering truthfully.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Response code SERVFAIL.
    ServFail,
    /// Response code NXDOMAIN.
    NxDomain,
    /// Response code REFUSED.
    Refused,
    /// Response code NOERROR without any data.
    Empty,
    /// No reply at all.
    Timeout,
    /// Over UDP an empty answer with the truncation bit; the retry over TCP does not help.
    Truncated(TcpAfterTruncation),
    /// A reply that is no proper answer.
    Garbage(Garbage),
    /// The truth, but late.
    Slow(Duration),
    /// Of each family at most so many addresses, drawn anew for each query, as large services do.
    RandomSubset(usize),
    /// Of the addresses only those.
    Partial(Vec<IpAddr>),
    /// These addresses, whatever is true.
    Lie(Vec<IpAddr>),
}

/// What becomes of the retry over TCP that a truncated answer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpAfterTruncation {
    /// The server closes the connection without an answer.
    Closed,
    /// The server keeps the connection and says nothing.
    Hung,
}

/// How a reply is spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// Bytes that are no DNS message.
    Noise,
    /// The true answer under the number of another query.
    WrongId,
    /// The first half of the true answer.
    Cut,
}
