//! Doing many things at the same time.

use std::thread;

use anyhow::{Result, bail};

/// Does the same with all items at the same time, each in a thread of its own.
///
/// # Errors
/// The first in the order of the items; all have ended by then.
pub fn at_once<I: Sync, T: Send>(items: &[I], action: impl Fn(&I) -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let action = &action;
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(move || action(item))).collect();
        let ended: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        ended
            .into_iter()
            .map(|result| result.unwrap_or_else(|_| bail!("a thread of the test panicked")))
            .collect()
    })
}
