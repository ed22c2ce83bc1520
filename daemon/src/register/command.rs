//! `minionetd deregister` and `minionetd register`: an operator takes a node out of DNS, and in
//! again.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ArgMatches;
use minionet_core::config::Config;
use minionet_core::register::{Failure, Key, Ledger, Standing, Update, lease_name};

use super::find;
use super::place::{self, Lock};
use crate::keep;

/// How long the daemon may hold the lock.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a removal is tried when its record is changed at the same moment.
const TRIES: usize = 3;

/// Takes this node, or those with the addresses given, out of DNS.
///
/// # Errors
/// When a record is another's by now, or the server does not remove it. What is marked as taken
/// out stays marked.
pub fn deregister(config: &Config, matches: &ArgMatches) -> Result<()> {
    let asked: Vec<IpAddr> = matches.get_many::<IpAddr>("address").into_iter().flatten().copied().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the event loop")?;
    let key = place::key(&config.register.key_file)?;
    let ledger = place::ledger();
    let own = |address: &IpAddr| {
        ledger.standings.iter().any(|s| s.address == *address) || keep::last_address() == Some(*address)
    };
    let name = config.registered_name();
    if !asked.is_empty() && !asked.iter().any(own) {
        for address in asked {
            let standing = Standing { name: name.clone(), address, leases: Vec::new() };
            runtime.block_on(remove(config, &key, &standing, false))?;
        }
        return Ok(());
    }
    if asked.iter().any(|address| !own(address)) {
        bail!("one of the addresses is this node's own and others are not: name them in two commands");
    }
    let _lock = runtime.block_on(lock())?;
    // First of all, so that the daemon does not register again what is being removed.
    place::set_left()?;
    let mut standings = place::ledger().standings;
    if standings.is_empty() {
        let address = config.node_ip.or_else(keep::last_address);
        let address = address.context("this node's own address is not known: name it")?;
        standings.push(Standing { name, address, leases: Vec::new() });
    }
    while let Some(standing) = standings.last() {
        runtime.block_on(remove(config, &key, standing, true))?;
        standings.pop();
        place::save(&Ledger::new(standings.clone()))?;
    }
    Ok(())
}

/// Lets the daemon register this node again.
///
/// # Errors
/// When the mark cannot be removed.
pub fn register(config: &Config) -> Result<()> {
    let had_left = place::clear_left()?;
    let text = if had_left {
        format!(
            "this node may register itself again; a running `minionetd run --register` does so within {:?}",
            config.thresholds.refresh_max
        )
    } else {
        "this node was not deregistered; nothing is changed".to_owned()
    };
    print(&text)
}

/// Removes a record, if it still is whose it was.
async fn remove(config: &Config, key: &Key, standing: &Standing, own: bool) -> Result<()> {
    let Standing { name, address, leases } = standing;
    let primary = find(config, name).await?;
    for _ in 0..TRIES {
        let lease = primary.text(key, &lease_name(name, *address)).await?;
        if own
            && let Some(lease) = lease.as_ref().filter(|lease| !leases.is_empty() && !leases.contains(lease))
        {
            bail!(
                "the record {name} {address} belongs to another node by now ({lease}): it stays; on that node: \
                 minionetd deregister"
            );
        }
        match primary.update(key, &Update::removal(name, *address, lease)).await {
            Ok(()) => return print(&format!("{address} is not in {name} any more")),
            // Renewed just now: look again.
            Err(Failure::Changed) => {}
            Err(failure) => return Err(failure).with_context(|| format!("{address} stays in {name}")),
        }
    }
    bail!("{address} stays in {name}: its record is changed all the time")
}

async fn lock() -> Result<Lock> {
    let start = Instant::now();
    loop {
        if let Some(lock) = Lock::try_take()? {
            return Ok(lock);
        }
        if start.elapsed() > PATIENCE {
            bail!("another command, or the daemon, holds /run/minionet/register.lock: try again");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn print(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}").context("cannot print the result")
}
