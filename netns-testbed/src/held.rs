//! A demo that is held, and the way into it from another terminal.
//!
//! The holder lives in namespaces of its own, for an ordinary user in a user namespace too, where
//! a name in the file system or a process id says little. So it listens on a socket in the user's
//! runtime directory and hands out its namespaces as file descriptors. Nobody answering there is
//! how a socket is recognised as left over.

mod client;
mod holder;
mod place;
mod protocol;

pub use self::client::{Exec, Status, exec, status};
pub use self::holder::{Reservation, Rooms};
