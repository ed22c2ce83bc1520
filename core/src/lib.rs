//! core of minionet.
