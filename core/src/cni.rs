//! The Container Network Interface, version 0.1.0 to 1.1.0: what comes in, what goes out, and
//! what is decided in between. Nothing here reads, writes or waits.
//!
//! A call is read in the order that runtimes know from the reference implementation: the
//! environment ([`args`]), the configuration on standard input ([`conf`]), its version
//! ([`version`]). What an ADD makes is decided before anything is made and kept in a record
//! ([`attachment`]), from addresses that [`ipam`] picks; [`result`](mod@result) tells the runtime.

pub mod args;
pub mod attachment;
pub mod bandwidth;
pub mod check;
pub mod conf;
pub mod error;
pub mod ipam;
mod json;
pub mod portmap;
pub mod requests;
pub mod result;
pub mod valid;
pub mod version;

pub use self::error::{Code, Coded, Failure};
pub use self::version::Version;
