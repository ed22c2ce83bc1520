//! Why an update did not work, and what to do about it.

use thiserror::Error;

/// What a server said, as far as it is bad news.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The response code (RFC 1035 section 4.1.1, RFC 2136 section 2.2).
    pub rcode: u16,
    /// The error in the answer's signature (RFC 8945 section 3), if there is one.
    pub tsig: Option<u16>,
    /// For an error about the time: how many seconds the server's clock is ahead of this node's.
    pub ahead: Option<i64>,
}

/// Why something could not be asked of a server, or was refused by it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// No connection, or no answer.
    #[error(
        "the server {server} cannot be reached: {cause}; updates are sent over TCP, so its port must be open for that"
    )]
    Unreachable {
        /// The server.
        server: String,
        /// Why.
        cause: String,
    },
    /// The zone or its server is not known.
    #[error("the zone of {name} cannot be found: {cause}; set register_zone and register_server")]
    NoZone {
        /// The name that is to be registered.
        name: String,
        /// Why.
        cause: String,
    },
    /// The primary server has no address.
    #[error("the server {host} has no address: {cause}; set register_server")]
    NoAddress {
        /// Its name.
        host: String,
        /// Why.
        cause: String,
    },
    /// The key cannot be used.
    #[error("the key file {file} cannot be used: {cause}")]
    Key {
        /// The file.
        file: String,
        /// Why, and what to do.
        cause: String,
    },
    /// The record was changed by somebody else meanwhile: a prerequisite is not met.
    #[error("the record was changed by another meanwhile")]
    Changed,
    /// BADKEY
    #[error(
        "{server} does not know the key {key} (BADKEY): put it into the server's configuration, with the same name and \
         algorithm"
    )]
    BadKey {
        /// The server.
        server: String,
        /// The key's name.
        key: String,
    },
    /// BADSIG
    #[error(
        "{server} has another secret for the key {key} (BADSIG): copy the server's key file here, or this one there"
    )]
    BadSignature {
        /// The server.
        server: String,
        /// The key's name.
        key: String,
    },
    /// BADTIME
    #[error("the clocks differ (BADTIME): that of {server} is {}; set them right, for example with chrony", by(*.ahead))]
    BadTime {
        /// The server.
        server: String,
        /// How many seconds the server's clock is ahead.
        ahead: Option<i64>,
    },
    /// The answer is not signed by the key.
    #[error(
        "the answer of {server} is not signed with the key {key}: something else than the server of the zone answers \
         there; set register_server"
    )]
    Unsigned {
        /// The server.
        server: String,
        /// The key's name.
        key: String,
    },
    /// NOTAUTH
    #[error(
        "{server} is not the primary server of {zone}, or does not let the key {key} change it (NOTAUTH): set \
         register_server and register_zone, and look at the server's list of who may update"
    )]
    NotAuthoritative {
        /// The server.
        server: String,
        /// The zone.
        zone: String,
        /// The key's name.
        key: String,
    },
    /// REFUSED
    #[error(
        "{server} does not let the key {key} change {zone} (REFUSED): permit it to change A, AAAA and TXT records, as \
         in docs/dns.md"
    )]
    Refused {
        /// The server.
        server: String,
        /// The zone.
        zone: String,
        /// The key's name.
        key: String,
    },
    /// NOTZONE
    #[error("a name of the update is not in the zone {zone} of {server} (NOTZONE): set register_zone")]
    NotZone {
        /// The server.
        server: String,
        /// The zone.
        zone: String,
    },
    /// NOTIMP
    #[error(
        "{server} takes no dynamic updates (NOTIMP): use a server that does, or register the nodes by other means, \
         see docs/dns.md"
    )]
    NotImplemented {
        /// The server.
        server: String,
    },
    /// SERVFAIL
    #[error(
        "{server} failed (SERVFAIL): see its log; the directory of its zones must be writable for it, as it keeps a journal there"
    )]
    ServerFailure {
        /// The server.
        server: String,
    },
    /// Anything else.
    #[error("{server} answered with code {rcode}: see its log")]
    Other {
        /// The server.
        server: String,
        /// The response code.
        rcode: u16,
    },
    /// Something of this machine does not work.
    #[error("{0}")]
    Local(String),
}

impl Failure {
    /// What a verdict means; nothing when it is good.
    pub fn of(verdict: Verdict, server: &str, zone: &str, key: &str) -> Option<Self> {
        let (server, zone, key) = (server.to_owned(), zone.to_owned(), key.to_owned());
        Some(match (verdict.tsig, verdict.rcode) {
            (Some(16), _) => Failure::BadSignature { server, key },
            (Some(17), _) => Failure::BadKey { server, key },
            (Some(18), _) => Failure::BadTime { server, ahead: verdict.ahead },
            (_, 0) => return None,
            (_, 2) => Failure::ServerFailure { server },
            (_, 4) => Failure::NotImplemented { server },
            (_, 5) => Failure::Refused { server, zone, key },
            // YXDOMAIN, YXRRSET, NXRRSET, and NXDOMAIN for "the name is not in use": RFC 2136 2.2.
            (_, 3 | 6 | 7 | 8) => Failure::Changed,
            (_, 9) => Failure::NotAuthoritative { server, zone, key },
            (_, 10) => Failure::NotZone { server, zone },
            (_, rcode) => Failure::Other { server, rcode },
        })
    }
}

fn by(ahead: Option<i64>) -> String {
    match ahead {
        Some(ahead @ 0..) => format!("{ahead} s ahead of this node's"),
        Some(behind) => format!("{} s behind this node's", behind.unsigned_abs()),
        None => "another than this node's".to_owned(),
    }
}
