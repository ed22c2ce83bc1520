//! nftables over netlink, against the kernel, each test in network namespaces of its own.
//!
//! The real `nft` is the judge: it reads the text of our rulesets, and lists what we wrote. It
//! comes from the Debian package nftables, and the links from iproute2.

#![allow(clippy::unwrap_used)]

mod apply;
mod drift;
mod elements;
mod errors;
mod guard;
mod maps;
mod support;
mod text;
mod traffic;
mod underlay;
