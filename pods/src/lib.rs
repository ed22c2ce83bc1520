//! The pods of this node: what is known of them, and how what was made for them goes away again.
//!
//! Shared by the plugin, which attaches and detaches, and the daemon, which cleans up after
//! calls that never came or were killed. Nothing here waits for anything but a short lock, and
//! nothing needs the daemon.
//!
//! | module | what it owns |
//! |---|---|
//! | [`store`] | records and leases below `/run/minionet` |
//! | [`undo`] | taking an attachment apart |
//! | [`collector`] | finding and removing what nobody will ever remove |
//! | [`heartbeat`] | whether the daemon lives |
//! | [`boot`] | which boot this is |
//! | [`files`] | small files, read |

pub mod boot;
pub mod capabilities;
pub mod collector;
pub mod files;
pub mod heartbeat;
pub mod store;
pub mod undo;

pub use store::{Store, StoreError};
pub use undo::UndoError;
