//! `minionetd cleanup`: removes what is minionet's from the kernel and the disk.
//!
//! What goes, and in which order, is decided in `minionet_core::cleanup`; here the host is looked
//! at, and the decisions are carried out.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ArgMatches;
use minionet_core::addr::Family;
use minionet_core::cleanup::{self as core, Inventory, Removal};
use minionet_core::constants::{
    CNI_CONF_FILE, DEVICE, NFT_TABLE, ROUTE_PROTOCOL_PEER, ROUTE_PROTOCOL_POD, RUN_DIR, STATE_DIR,
};
use minionet_core::install::MANIFEST;
use minionet_core::tuning::{self, Tuning};
use minionet_netlink::link::{Link, Which};
use minionet_netlink::nft::Nft;
use minionet_netlink::{Socket, sysctl};
use minionet_pods::collector::{Collector, Scope, is_ours};
use minionet_pods::{Store, heartbeat};

use crate::causes::chain;
use crate::output;

/// Cleans up.
///
/// # Errors
/// When the daemon or pods run, or something could not be removed; then all else is done.
pub fn run(matches: &ArgMatches) -> Result<()> {
    let conf_dir = matches.get_one::<String>("cni-conf-dir").map_or("", String::as_str);
    let mut socket = Socket::open()?;
    let found = look(&mut socket, conf_dir)?;
    let plan = core::plan(&found, matches.get_flag("pods"), !matches.get_flag("keep-sysctls"))?;
    if plan.is_empty() {
        return output::say("nothing of minionet's is here");
    }
    let dry_run = matches.get_flag("dry-run");
    let mut failed = Vec::new();
    for removal in &plan {
        output::say(&removal.to_string())?;
        if dry_run {
            continue;
        }
        // What cannot be removed must not keep the rest.
        if let Err(error) = carry_out(&mut socket, removal) {
            failed.push(chain(&error));
        }
    }
    if !failed.is_empty() {
        bail!("not everything is removed:\n{}", failed.join("\n"));
    }
    output::say(if dry_run { "to be removed; nothing was" } else { "removed" })
}

/// Everything on this host that is ours.
fn look(socket: &mut Socket, conf_dir: &str) -> Result<Inventory> {
    let run = Path::new(RUN_DIR);
    let store = Store::new(run);
    let links = socket.links()?;
    let interfaces: BTreeSet<String> =
        links.iter().filter(|link| is_ours(link)).map(|link| link.name.clone()).collect();
    let mut found = Inventory {
        daemon: heartbeat::is_alive(run),
        interfaces,
        table: Nft::open()?.rule_count(NFT_TABLE)?.is_some(),
        device: links.iter().any(is_our_device),
        objects: objects(socket)?,
        settings: settings()?,
        ..Inventory::default()
    };
    for family in [Family::V4, Family::V6] {
        found.peer_routes.extend(socket.routes(family, ROUTE_PROTOCOL_PEER)?.iter().map(|route| route.dst));
        found.pod_routes.extend(socket.routes(family, ROUTE_PROTOCOL_POD)?.iter().map(|route| route.dst));
    }
    for id in store.recorded()? {
        let record = store.find(id)?.map(|mut found| found.read()).transpose()?.and_then(Result::ok);
        let name = match &record {
            Some(record) => format!("container {} interface {}", record.key.container, record.key.ifname),
            None => format!("attachment {id}"),
        };
        found.running += usize::from(found.interfaces.contains(&id.host_ifname()));
        found.attachments.push(name);
    }
    let list = Path::new(conf_dir).join(CNI_CONF_FILE);
    if list.exists() {
        found.conflists.push(list.display().to_string());
    }
    let state = Path::new(STATE_DIR);
    let has_state = entries(state)?.iter().any(|name| name != MANIFEST) || is_empty(state)?;
    for (dir, is_there) in [(RUN_DIR, run.exists()), (STATE_DIR, has_state)] {
        if is_there {
            found.directories.push(dir.to_owned());
        }
    }
    Ok(found)
}

/// The numbers of the next hop objects that are ours; none where the kernel has none at all.
fn objects(socket: &mut Socket) -> Result<BTreeSet<u32>> {
    let all = socket.next_hop_objects()?.unwrap_or_default();
    let ours = all.iter().filter(|object| object.protocol == ROUTE_PROTOCOL_PEER);
    Ok(ours.map(|object| object.number).collect())
}

/// The device with our name, if it is of the kind that we make.
fn is_our_device(link: &Link) -> bool {
    link.name == DEVICE && link.vxlan.is_some() && link.mac.is_some_and(|mac| mac.is_vtep())
}

fn settings() -> Result<Vec<(String, String)>> {
    let path = Path::new(RUN_DIR).join(tuning::FILE);
    let tuning = Tuning::parse(&fs::read_to_string(path).unwrap_or_default());
    // One that cannot be read is gone with its interface.
    Ok(tuning.give_back(|key| sysctl::read(key).ok().flatten()))
}

fn carry_out(socket: &mut Socket, removal: &Removal) -> Result<()> {
    match removal {
        Removal::File(path) => fs::remove_file(path).with_context(|| format!("cannot remove {path}"))?,
        Removal::Pods { .. } => pods(socket)?,
        Removal::PeerRoutes(_) => {
            for family in [Family::V4, Family::V6] {
                for route in socket.routes(family, ROUTE_PROTOCOL_PEER)? {
                    socket.remove_route(&route)?;
                }
            }
        }
        Removal::Objects(numbers) => {
            for number in numbers {
                socket.remove_next_hop_object(*number)?;
            }
        }
        Removal::Device => {
            if let Some(link) = socket.link(Which::Name(DEVICE))?.filter(is_our_device) {
                socket.delete_link(link.index, &link.name)?;
            }
        }
        Removal::Table => drop(Nft::open()?.delete_table(NFT_TABLE)?),
        // It may have gone with an interface meanwhile.
        Removal::Setting(key, value) if sysctl::read(key)?.is_some() => drop(sysctl::set(key, value)?),
        Removal::Setting(..) => {}
        Removal::Directory(path) => directory(Path::new(path))?,
    }
    Ok(())
}

/// Removes all attachments, and then what has no record.
fn pods(socket: &mut Socket) -> Result<()> {
    let mut collector = Collector::new(Store::new(RUN_DIR), Duration::ZERO);
    let nobody = Scope { wanted: Some(BTreeSet::new()), ..Scope::default() };
    let outcome = collector.pass(socket, &nobody, Instant::now());
    if let Some(first) = outcome.failed.first() {
        bail!("{first} ({} in all)", outcome.failed.len());
    }
    for family in [Family::V4, Family::V6] {
        for route in socket.routes(family, ROUTE_PROTOCOL_POD)? {
            socket.remove_route(&route)?;
        }
    }
    Ok(())
}

/// Removes a directory of state; what says what is installed stays for `uninstall`.
fn directory(path: &Path) -> Result<()> {
    let keep = |name: &str| path == Path::new(STATE_DIR) && name == MANIFEST;
    for name in entries(path)?.iter().filter(|name| !keep(name)) {
        let entry = path.join(name);
        let is_dir = fs::symlink_metadata(&entry).is_ok_and(|m| m.is_dir());
        let removed = if is_dir { fs::remove_dir_all(&entry) } else { fs::remove_file(&entry) };
        removed.with_context(|| format!("cannot remove {}", entry.display()))?;
    }
    if is_empty(path)? {
        fs::remove_dir(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// The names in a directory; none where there is no such directory.
fn entries(path: &Path) -> Result<Vec<String>> {
    let read = || match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

fn is_empty(path: &Path) -> Result<bool> {
    Ok(path.exists() && entries(path)?.is_empty())
}
