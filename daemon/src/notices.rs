//! Notifications of the kernel, awaited.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use minionet_netlink::monitor::{Interest, Monitor, Noticed, Source};
use minionet_netlink::sysctl::Watch;
use tokio::io::Interest as Ready;
use tokio::io::unix::AsyncFd;
use tracing::{debug, warn};

use crate::causes::chain;

/// Where the kernel tells of changes.
pub struct Notices {
    route: AsyncFd<Monitor>,
    nft: AsyncFd<Monitor>,
    /// None where the kernel has no inotify left for us (`fs.inotify.max_user_instances`): what it
    /// would tell of is found by the audit.
    settings: Option<AsyncFd<Watch>>,
    /// Whether the files of the settings may be others than those that are followed: they come and go
    /// with their devices.
    stale: bool,
    /// The settings that are followed.
    followed: Vec<String>,
}

impl Notices {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn open() -> Result<Self> {
        let monitor = |source| listen(Monitor::open(source)?);
        let (route, nft) = (monitor(Source::Route)?, monitor(Source::Nft)?);
        let settings = Watch::open().map_err(anyhow::Error::from).and_then(listen);
        let settings = settings.inspect_err(unwatched).ok();
        Ok(Notices { route, nft, settings, stale: true, followed: Vec::new() })
    }

    /// Waits for notifications; says whether they are of interest.
    ///
    /// # Errors
    /// When a socket is of no use any more.
    pub async fn next(&mut self, interest: &Interest) -> Result<Noticed> {
        if self.follow(interest) {
            return Ok(Noticed { changed: true, ..Noticed::default() });
        }
        let mut ready = tokio::select! {
            ready = self.route.readable_mut() => ready?,
            ready = self.nft.readable_mut() => ready?,
            changed = written(&mut self.settings) => {
                self.stale = true;
                return Ok(Noticed { changed: changed?, ..Noticed::default() });
            }
        };
        let noticed = ready.get_inner_mut().drain(interest)?;
        ready.clear_ready();
        self.stale |= noticed.changed;
        if noticed.overrun {
            debug!("notifications were lost: the tables are read again");
        }
        Ok(noticed)
    }
}

impl Notices {
    /// Follows the settings that matter now; says whether one of them is new. This is called with every
    /// turn of the loop, and opens their files only when they may be others.
    fn follow(&mut self, interest: &Interest) -> bool {
        let Some(watch) = &mut self.settings else { return false };
        if !self.stale && self.followed == interest.settings {
            return false;
        }
        match watch.get_mut().follow(&interest.settings) {
            Ok(new) => {
                self.stale = false;
                self.followed.clone_from(&interest.settings);
                new
            }
            Err(error) => {
                unwatched(&error.into());
                self.settings = None;
                false
            }
        }
    }
}

/// Waits until a setting is written, or for ever where none is watched.
async fn written(settings: &mut Option<AsyncFd<Watch>>) -> Result<bool> {
    let Some(watch) = settings else { return std::future::pending().await };
    let mut ready = watch.readable_mut().await?;
    let written = ready.get_inner_mut().drain()?;
    ready.clear_ready();
    Ok(written)
}

fn unwatched(error: &anyhow::Error) {
    warn!("{}; what others change there is set back with the next audit", chain(error));
}

/// Lets the loop wait until there is something to read.
///
/// # Errors
/// When the loop cannot wait for it.
pub fn listen<T: AsRawFd>(source: T) -> Result<AsyncFd<T>> {
    // SAFETY: monitors, watches and sockets own their descriptors, which stay open as long as these
    // live and are never replaced by others.
    #[allow(unsafe_code)]
    let registered = unsafe { AsyncFd::register_with_interest(source, Ready::READABLE) };
    registered.map_err(|error| error.into_parts().1).context("cannot wait for notifications")
}
