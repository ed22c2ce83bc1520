//! netlink of minionet.

pub mod nft;
