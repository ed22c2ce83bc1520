//! The trace: `minionetd trace` on one node, and the daemon's part in it on the other.

mod ask;
mod command;
mod far;
mod look;

pub use self::ask::{Channels, ping, readable, token};
pub use self::command::run;
pub use self::far::Service;
