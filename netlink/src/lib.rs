//! netlink of minionet.
