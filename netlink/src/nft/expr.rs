//! Expressions of rules: model to attributes, and back.

mod decode;
mod encode;

use minionet_core::nft::{CmpOp, CtKey, MetaKey, PayloadBase};

pub use decode::{decode, decode_counter, decode_verdict};
pub use encode::{encode, encode_verdict, value};

/// Kernel numbers of `enum nft_meta_keys`.
const META_KEYS: &[(u32, MetaKey)] = &[
    (3, MetaKey::Mark),
    (4, MetaKey::Iif),
    (5, MetaKey::Oif),
    (6, MetaKey::IifName),
    (7, MetaKey::OifName),
    (15, MetaKey::NfProto),
    (16, MetaKey::L4Proto),
    (26, MetaKey::IifKind),
    (27, MetaKey::OifKind),
];
/// Kernel numbers of `enum nft_ct_keys`.
const CT_KEYS: &[(u32, CtKey)] =
    &[(0, CtKey::State), (1, CtKey::Direction), (2, CtKey::Status), (3, CtKey::Mark)];
/// Kernel numbers of `enum nft_payload_bases`.
const BASES: &[(u32, PayloadBase)] = &[
    (0, PayloadBase::Link),
    (1, PayloadBase::Network),
    (2, PayloadBase::Transport),
    (3, PayloadBase::Inner),
];
/// Kernel numbers of `enum nft_cmp_ops`.
const CMP_OPS: &[(u32, CmpOp)] =
    &[(0, CmpOp::Eq), (1, CmpOp::Neq), (2, CmpOp::Lt), (3, CmpOp::Lte), (4, CmpOp::Gt), (5, CmpOp::Gte)];

/// The number of an item that is in the table; every one is.
fn number<T: Copy + PartialEq>(table: &[(u32, T)], item: T) -> u32 {
    table.iter().find(|entry| entry.1 == item).map_or(u32::MAX, |entry| entry.0)
}

fn named<T: Copy>(table: &[(u32, T)], number: u32) -> Option<T> {
    table.iter().find(|entry| entry.0 == number).map(|entry| entry.1)
}
