//! Notifications of the kernel, awaited.

use anyhow::{Context, Result};
use minionet_netlink::monitor::{Interest, Monitor, Noticed, Source};
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
        Ok(Notices { route: listen(Source::Route)?, nft: listen(Source::Nft)? })
    }

    /// Waits for notifications; says whether they are of interest.
    ///
    /// # Errors
    /// When a socket is of no use any more.
    pub async fn next(&mut self, interest: &Interest) -> Result<Noticed> {
        let mut ready = tokio::select! {
            ready = self.route.readable_mut() => ready?,
            ready = self.nft.readable_mut() => ready?,
        };
        let noticed = ready.get_inner_mut().drain(interest)?;
        ready.clear_ready();
        if noticed.overrun {
            debug!("notifications were lost: the tables are read again");
        }
        Ok(noticed)
    }
}

fn listen(source: Source) -> Result<AsyncFd<Monitor>> {
    let monitor = Monitor::open(source)?;
    // SAFETY: the monitor owns its descriptor, which stays open as long as the monitor lives
    // and is never replaced by another.
    #[allow(unsafe_code)]
    let registered = unsafe { AsyncFd::register_with_interest(monitor, Ready::READABLE) };
    registered.context("cannot wait for notifications")
}
