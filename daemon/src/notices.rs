//! Notifications of the kernel, awaited.

use anyhow::{Context, Result};
use minionet_netlink::monitor::{Interest, Monitor, Source};
use tokio::io::Interest as Ready;
use tokio::io::unix::AsyncFd;
use tracing::debug;

/// The sockets on which the kernel tells of changes.
pub struct Notices {
    route: AsyncFd<Monitor>,
    nft: AsyncFd<Monitor>,
}

impl Notices {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn open() -> Result<Self> {
        let open = |source| -> Result<AsyncFd<Monitor>> {
            let monitor = Monitor::open(source)?;
            AsyncFd::with_interest(monitor, Ready::READABLE).context("cannot wait for notifications")
        };
        Ok(Notices { route: open(Source::Route)?, nft: open(Source::Nft)? })
    }

    /// Waits for notifications; says whether something of interest was changed.
    ///
    /// # Errors
    /// When a socket is of no use any more.
    pub async fn next(&mut self, interest: &Interest) -> Result<bool> {
        let mut ready = tokio::select! {
            ready = self.route.readable_mut() => ready?,
            ready = self.nft.readable_mut() => ready?,
        };
        let noticed = ready.get_inner_mut().drain(interest)?;
        ready.clear_ready();
        if noticed.overrun {
            debug!("notifications were lost: the tables are read again");
        }
        Ok(noticed.changed)
    }
}
