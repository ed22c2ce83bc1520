//! CHECK: whether everything that ADD made is still there.

use minionet_core::cni::args::Invocation;
use minionet_core::cni::attachment::{Key, Record};
use minionet_core::cni::check::differences;
use minionet_core::cni::conf::NetConf;
use minionet_core::cni::result::CniResult;
use minionet_core::cni::{Code, Failure, Version};
use minionet_netlink::netns::Netns;
use minionet_netlink::{Error, Socket, pod};
use minionet_pods::store::{Stage, Store};
use minionet_pods::{boot, capabilities};

use crate::facts::{self, Directories};
use crate::{netns, node};

/// Carries out CHECK.
pub fn check(invocation: &Invocation, conf: &NetConf, dirs: &Directories) -> Result<(), Failure> {
    crate::require_version(conf, Version::V0_4_0, "CHECK")?;
    conf.settings()?;
    let Some(result) = conf.prev_result() else { return Err(no_result()) };
    let result = CniResult::from_json(result)?;
    let key = Key {
        network: conf.name.clone(),
        container: invocation.container.clone(),
        ifname: invocation.ifname.clone(),
    };
    let store = Store::new(&dirs.run);
    let record = record(&store, &key)?;
    let mut host = Socket::open().map_err(kernel)?;
    let netns = netns::open(&invocation.netns, &host)?;
    let mut found = examine(&store, &record, &result, &netns)?;
    if invocation.netns != record.netns.path && !is_that_of(&netns, &record) {
        found.insert(0, format!("it was attached in {}, not in {}", record.netns.path, invocation.netns));
    }
    let facts = facts::load(dirs)?;
    found.extend(node::missing(&mut host, &facts, node::health(dirs).as_ref()).map_err(kernel)?);
    let mut found = found.into_iter();
    match found.next() {
        None => Ok(()),
        Some(first) => {
            let others: Vec<String> = found.collect();
            let details = (!others.is_empty()).then(|| others.join("; "));
            let message = format!("interface {} of the container is not as ADD made it: {first}", key.ifname);
            Err(Failure { code: Code::Difference, message, details })
        }
    }
}

fn record(store: &Store, key: &Key) -> Result<Record, Failure> {
    let difference = |message: &str| Failure {
        code: Code::Difference,
        message: format!("interface {} of this container {message}", key.ifname),
        details: None,
    };
    let Some(mut found) = store.find(key.id())? else {
        return Err(difference("is not attached: it never was, or DEL was called"));
    };
    let record = found.read()??;
    record.belongs_to(key)?;
    if found.stage == Stage::Adding {
        return Err(difference("is not attached yet: its ADD is at work, or was killed"));
    }
    if found.is_leaving()? {
        return Err(difference("is about to go: its DEL is at work, or was killed"));
    }
    let this = boot::current();
    if !record.boot.is_empty() && !this.is_empty() && record.boot != this {
        return Err(difference("was attached before the last boot, and is gone since"));
    }
    Ok(record)
}

/// Compares both sides of the attachment and its leases with the record.
fn examine(
    store: &Store,
    record: &Record,
    result: &CniResult,
    netns: &Netns,
) -> Result<Vec<String>, Failure> {
    let mut host = Socket::open().map_err(kernel)?;
    let observed = pod::observe(&mut host, netns, &record.link).map_err(kernel)?;
    let mut found = differences(record, result, &observed);
    // Without the interface there is nothing else to look at.
    if observed.host.is_some() {
        found.extend(capabilities::differences(&mut host, record)?);
    }
    for assigned in &record.link.addresses {
        if !store.has_lease(assigned.address, record.key.id())? {
            found.push(format!("the lease of {} is gone, or another attachment's", assigned.address));
        }
    }
    Ok(found)
}

fn is_that_of(netns: &Netns, record: &Record) -> bool {
    (netns.device(), netns.inode()) == (record.netns.device, record.netns.inode)
}

fn no_result() -> Failure {
    Failure {
        code: Code::InvalidConfig,
        message: "required prevResult missing: CHECK compares with what ADD answered".into(),
        details: None,
    }
}

fn kernel(error: Error) -> Failure {
    Failure { code: Code::Kernel, message: error.to_string(), details: None }
}
