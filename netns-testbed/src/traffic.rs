//! Probes: real packets sent from inside a namespace.

mod continuous;
mod echo;
mod ping;
mod stream;

pub use continuous::{ContinuousPing, PingReport};
pub use echo::{TcpEcho, UdpEcho, tcp_round_trip, udp_round_trip};
pub use ping::Ping;
pub use stream::{StreamReport, UdpStream};
