//! Requests and answers over TCP: one connection, 64 octets each way, and how long each takes.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netns_testbed::Namespace;

use crate::stats::quantile;

/// Octets of a request, and of its answer.
const OCTETS: usize = 64;
/// How long to wait for a connection, or for an answer, before that is an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client and a server in two namespaces, with a connection between them.
pub struct Echo {
    client: TcpStream,
    server: Option<JoinHandle<std::io::Result<()>>>,
}

impl Echo {
    /// Connects an address of the second end from the first.
    ///
    /// Sockets stay where they were made, so the threads that use them need not be there.
    pub fn between(ends: &[Namespace; 2], target: IpAddr) -> Result<Self> {
        let listener = ends[1].run(|| TcpListener::bind((target, 0)))?.context("listen for requests")?;
        let to = listener.local_addr()?;
        let client = ends[0]
            .run(|| TcpStream::connect_timeout(&to, PATIENCE))?
            .with_context(|| format!("connect {to}"))?;
        let (server, _) = listener.accept()?;
        for end in [&client, &server] {
            end.set_nodelay(true)?;
        }
        client.set_read_timeout(Some(PATIENCE))?;
        Ok(Echo { client, server: Some(thread::spawn(move || answer(server))) })
    }

    /// Asks for so long, the next as soon as the last was answered. Microseconds of a round trip, at
    /// the median and at the 99th percentile.
    pub fn ask(&mut self, how_long: Duration) -> Result<[f64; 2]> {
        let mut message = [0; OCTETS];
        let mut trips = Vec::new();
        let start = Instant::now();
        let mut asked = start;
        while asked - start < how_long {
            self.client.write_all(&message)?;
            self.client.read_exact(&mut message).context("no answer")?;
            let answered = Instant::now();
            trips.push((answered - asked).as_secs_f64() * 1e6);
            asked = answered;
        }
        Ok([quantile(&trips, 0.5), quantile(&trips, 0.99)])
    }
}

/// Sends back what comes, until the connection ends.
fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    let mut message = [0; OCTETS];
    loop {
        match connection.read_exact(&mut message) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        connection.write_all(&message)?;
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // The server's thread ends with the connection; that may be gone already.
        let _ended = self.client.shutdown(std::net::Shutdown::Both);
        if let Some(server) = self.server.take() {
            let _outcome = server.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_answered_until_the_connection_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let mut echo = Echo { client, server: Some(thread::spawn(move || answer(server))) };
        let [median, tail] = echo.ask(Duration::from_millis(5)).unwrap();
        assert!(0.0 < median && median <= tail, "{median} {tail}");
        echo.client.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(echo.server.take().unwrap().join().unwrap().is_ok());
    }
}
