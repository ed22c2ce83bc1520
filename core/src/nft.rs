//! nftables as data: what minionet wants in its one table, and what the kernel holds.
//!
//! Nothing here touches a socket. A [`Ruleset`] is written with constructors that read like
//! `nft` text and prints as text that `nft -f` accepts. [`Rule::exprs`] lowers a rule to the
//! kernel's own expressions ([`Expr`]), which are what the netlink crate encodes and what a dump
//! decodes to, so desired and observed state are compared in one form ([`drift`]).
//!
//! Invariant: every object is in the table `inet minionet`; nothing outside it is ever named.

mod drift;
mod error;
mod expr;
mod field;
mod guard;
mod hostports;
mod lower;
mod masquerade;
mod moved;
mod observed;
mod rule;
mod ruleset;
mod set;
mod tally;
mod text;
mod value;

pub use drift::{Drift, drift};
pub use error::ModelError;
pub use expr::{BitOps, CmpOp, Expr, NatFlags, PayloadBase, PayloadCsum, Reg};
pub use field::{CtKey, FibAddr, FibResult, Field, Header, MetaKey};
pub use guard::{FROM_PODS, Guard, MEMBERS4, MEMBERS6, SOURCES, UNDERLAY, guard, member_sets};
pub use hostports::{
    HOSTPORTS, HostPortMaps, MapContents, host_port_elements, host_port_maps, host_ports, map_changes,
};
pub use masquerade::{EXEMPT4, EXEMPT6, KUBE_PROXY_MARK, Masquerade, PODS4, PODS6, POSTROUTING, masquerade};
pub use moved::{MOVED, Moved, moved};
pub use observed::{Observed, ObservedChain, ObservedRule, ObservedSet};
pub use rule::{DnatTo, Match, Operand, Relation, Rule, Source, Statement, Target, Verdict};
pub use ruleset::{BaseChain, Chain, ChainType, Hook, Policy, Ruleset};
pub use set::{Contents, Datum, Element, Set, SetData, SetSpec, Span};
pub use tally::{DROPS, Tally, tally};
pub use value::{DataType, Value};

pub use crate::constants::NFT_TABLE as TABLE;
