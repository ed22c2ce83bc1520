//! netns-testbed of minionet.
