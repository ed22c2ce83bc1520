//! Gathers what a report follows from: from the daemon, from what it left, from the kernel, and
//! from the records of the pods.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use minionet_core::constants::{DEVICE, NFT_TABLE, RUN_DIR, STATE_DIR};
use minionet_core::handoff::{self, NodeFacts};
use minionet_core::probe::view::{self, ProbeView};
use minionet_core::state::{FILE, SOCKET, State};
use minionet_core::status::{Evidence, KernelEvidence, PodEvidence, Report, Running, Source};
use minionet_netlink::nft::Nft;
use minionet_netlink::{Error, Socket, overlay};
use minionet_pods::store::{Stage, Store, StoreError};
use minionet_pods::{boot, heartbeat};
use tokio::runtime::Runtime;

use super::ask::{self, AskError};

/// The report of this moment.
pub fn report(runtime: &Runtime) -> Report {
    let run = Path::new(RUN_DIR);
    let mut unknown = Vec::new();
    let (running, live) = daemon(runtime, run, &mut unknown);
    let state = match live {
        Some(state) => Some((state, Source::Daemon)),
        None => left(run, FILE, State::parse, &mut unknown).map(|state| (state, Source::File)),
    };
    let live = state.as_ref().is_some_and(|(_, source)| *source == Source::Daemon);
    // What the daemon says itself is newer than its files.
    let probe = if live { None } else { left(run, view::FILE, ProbeView::parse, &mut unknown) };
    let facts = if state.is_some() { None } else { facts(run, &mut unknown) };
    let kernel = kernel(&mut unknown);
    let pods = pods(kernel.as_ref().map(|(_, links)| links), &mut unknown).map_err(|error| match running {
        // That only root can see it is the reason then.
        Running::Unknown => "the pods can only be seen by root: call this with sudo".to_owned(),
        _ => format!("the pods are not known: {error}"),
    });
    minionet_core::status::report(Evidence {
        now: unix(SystemTime::now()),
        running,
        last_sign: heartbeat::last_sign(run).map(unix),
        state,
        probe,
        facts,
        kernel: kernel.map(|(kernel, _)| kernel),
        pods,
        unknown,
    })
}

/// Whether the daemon runs, and what it says.
fn daemon(runtime: &Runtime, run: &Path, unknown: &mut Vec<String>) -> (Running, Option<State>) {
    match runtime.block_on(ask::state(&run.join(SOCKET))) {
        Ok(text) => match State::parse(&text) {
            Ok(state) => (Running::Yes, Some(state)),
            Err(error) => {
                unknown.push(error.to_string());
                (Running::Yes, None)
            }
        },
        Err(AskError::Forbidden) => (Running::Unknown, None),
        Err(_) if heartbeat::is_alive(run) => (Running::Silent, None),
        Err(AskError::Nobody) if heartbeat::last_sign(run).is_none() => (Running::Never, None),
        Err(_) => (Running::No, None),
    }
}

/// What the daemon left in a file, if it did.
fn left<T, E: std::fmt::Display>(
    dir: &Path,
    file: &str,
    parse: impl Fn(&str) -> Result<T, E>,
    unknown: &mut Vec<String>,
) -> Option<T> {
    let path = dir.join(file);
    let problem = match fs::read_to_string(&path) {
        Ok(text) => match parse(&text) {
            Ok(found) => return Some(found),
            Err(error) => format!("{}: {error}", path.display()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => format!("cannot read {}: {error}", path.display()),
    };
    unknown.push(problem);
    None
}

fn facts(run: &Path, unknown: &mut Vec<String>) -> Option<NodeFacts> {
    left(run, handoff::FILE, NodeFacts::parse, unknown)
        .or_else(|| left(Path::new(STATE_DIR), handoff::FILE, NodeFacts::parse, unknown))
}

/// What the kernel holds, and the names of all its interfaces.
fn kernel(unknown: &mut Vec<String>) -> Option<(KernelEvidence, BTreeSet<String>)> {
    let read = || -> Result<_, Error> {
        let mut socket = Socket::open()?;
        socket.enlarge_buffers();
        let links = socket.links()?.into_iter().map(|link| link.name).collect();
        Ok((overlay::read(&mut socket, DEVICE)?, links))
    };
    match read() {
        Ok((overlay, links)) => Some((KernelEvidence { overlay, table: table() }, links)),
        Err(error) => {
            unknown.push(format!("the kernel's tables cannot be read: {error}"));
            None
        }
    }
}

/// Whether the nft table has rules; nothing where only root may ask.
fn table() -> Option<bool> {
    let rules = Nft::open().and_then(|mut nft| nft.rule_count(NFT_TABLE)).ok()?;
    Some(rules.is_some_and(|rules| rules > 0))
}

/// The pods; single records that are not understood are told.
fn pods(links: Option<&BTreeSet<String>>, unknown: &mut Vec<String>) -> Result<Vec<PodEvidence>, StoreError> {
    let store = Store::new(RUN_DIR);
    let mut pods = Vec::new();
    for id in store.recorded()? {
        // One that has ended since then is no pod any more.
        let Some(mut found) = store.find(id)? else { continue };
        let ready = found.stage == Stage::Ready;
        match found.read()? {
            Ok(record) if record.boot == boot::current() => {
                let linked = links.map(|links| links.contains(&record.link.host_ifname));
                pods.push(PodEvidence { record, ready, linked });
            }
            // What was there before the host was started is not there any more.
            Ok(_) => {}
            Err(error) => unknown.push(error.to_string()),
        }
    }
    Ok(pods)
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |duration| duration.as_secs())
}
