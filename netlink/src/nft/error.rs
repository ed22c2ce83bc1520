//! What can go wrong between us and nf_tables.

use std::fmt;
use std::io;

use minionet_core::nft::ModelError;
use nix::errno::Errno;
use thiserror::Error;

use super::wire::Malformed;

/// An operation on nftables that failed. Unless a variant says otherwise, nothing was changed:
/// every change is one transaction.
#[derive(Debug, Error)]
pub enum NftError {
    /// No netlink socket to be had.
    #[error("cannot open a netfilter netlink socket: {source}; the kernel needs CONFIG_NETFILTER_NETLINK")]
    Open {
        /// Why.
        source: io::Error,
    },
    /// A request was not sent.
    #[error("cannot {action}: sending {bytes} bytes over netlink failed: {source}")]
    Send {
        /// What was to be done.
        action: String,
        /// The length of the request.
        bytes: usize,
        /// Why.
        source: io::Error,
    },
    /// An answer was not received. A change may have been made.
    #[error("cannot {action}: no answer over netlink: {source}")]
    Receive {
        /// What was to be done.
        action: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {}", .0)]
    Refused(Refusal),
    /// The kernel did not confirm a part of a transaction. The change may have been made.
    #[error("cannot tell whether the kernel did {action}: it acknowledged all but {missing} parts")]
    Unconfirmed {
        /// What was to be done.
        action: String,
        /// How many acknowledgements are missing.
        missing: usize,
    },
    /// An answer makes no sense.
    #[error("cannot {action}: the kernel's answer is malformed: {source}")]
    Malformed {
        /// What was to be done.
        action: String,
        /// What is wrong with it.
        source: Malformed,
    },
    /// Other programs changed rulesets all the time.
    #[error("cannot {action}: other programs changed nftables during each of {attempts} attempts; try again")]
    Contended {
        /// What was to be done.
        action: String,
        /// How often it was tried.
        attempts: usize,
    },
    /// The ruleset cannot be written down.
    #[error("cannot {action}: {source}")]
    Model {
        /// What was to be done.
        action: String,
        /// What is wrong with the ruleset.
        source: ModelError,
    },
    /// A rule or an element is too long for a netlink attribute.
    #[error("cannot {action}: it takes more than the 65535 bytes of a netlink attribute")]
    TooLong {
        /// What was to be done.
        action: String,
    },
}

/// The kind of object that a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A table, or nf_tables as a whole.
    Table,
    /// A set or map.
    Set,
    /// A chain.
    Chain,
    /// A rule.
    Rule,
    /// Elements of a set or map.
    Elements,
}

/// The kernel's answer to a request that it refused, and what the request was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it was about.
    pub subject: Subject,
    /// What was to be done, such as "add rule 3 of chain postrouting".
    pub action: String,
    /// The part of a rule that the kernel pointed at: the name of an expression.
    pub expr: Option<String>,
    /// The error.
    pub errno: Errno,
    /// What the kernel said about it (NETLINK_EXT_ACK), if anything.
    pub message: Option<String>,
}

impl NftError {
    /// The error number, where the kernel refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused(refusal) => Some(refusal.errno),
            _ => None,
        }
    }

    /// A race that was noticed here rather than by the kernel.
    pub(super) fn changed(action: &str) -> Self {
        Self::Refused(Refusal {
            subject: Subject::Table,
            action: action.to_owned(),
            expr: None,
            errno: Errno::EINTR,
            message: None,
        })
    }

    /// Whether the same request may succeed when it is made again, from a fresh dump.
    pub fn is_race(&self) -> bool {
        matches!(self.errno(), Some(Errno::ERESTART | Errno::EINTR | Errno::EAGAIN))
    }
}

impl Refusal {
    /// What an operator can do about it, where that is clear.
    fn hint(&self) -> Option<String> {
        let expr = self.expr.as_deref();
        Some(match (self.errno, self.subject, expr) {
            (Errno::EPERM | Errno::EACCES, ..) => "it takes CAP_NET_ADMIN over the network namespace".into(),
            (Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT, Subject::Table, _) => {
                "the kernel needs CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET".into()
            }
            (Errno::ENOENT, Subject::Rule, Some("lookup")) => "there is no such set in the table".into(),
            (Errno::ENOENT, Subject::Rule, Some("immediate")) => "there is no such chain in the table".into(),
            (Errno::ENOENT, Subject::Rule, Some(expr)) => {
                format!("the kernel lacks nft_{}", module(expr))
            }
            (Errno::ENOENT | Errno::EOPNOTSUPP, Subject::Chain, _) => {
                "there is no such type of chain at this hook, or the kernel lacks it \
                 (nft_chain_nat for nat)"
                    .into()
            }
            (Errno::EOPNOTSUPP, Subject::Rule, _) => {
                "what it does is not possible in a chain of this type or at this hook, or not in \
                 this kernel"
                    .into()
            }
            (Errno::ENOENT, Subject::Elements, _) => {
                "there is no such set, or one of them is not in it".into()
            }
            (Errno::EEXIST, Subject::Elements, _) => {
                "one of them overlaps another element, or is there with other data".into()
            }
            (Errno::EBUSY, Subject::Elements, _) => "the set is constant and in use".into(),
            _ => return None,
        })
    }
}

/// The module of an expression, after "nft_", where that is not its own name.
fn module(expr: &str) -> &str {
    match expr {
        "fib" => "fib_inet",
        "reject" => "reject_inet",
        "notrack" => "ct",
        other => other,
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.action)?;
        if let Some(expr) = &self.expr {
            write!(f, " (expression {expr})")?;
        }
        write!(f, ": {}", self.errno)?;
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        match self.hint() {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}
