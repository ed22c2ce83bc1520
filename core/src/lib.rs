//! core of minionet.

pub mod nft;
