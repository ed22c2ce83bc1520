//! The way out by source address, of an interface beside another that has the default route.
//!
//! Without it, what the pod answers to the address of this interface would leave through the other
//! one, where the node takes it for forged.

use minionet_core::addr::Family;
use minionet_core::cni::attachment::{PodLink, SourceRule};
use minionet_core::constants::{ROUTE_PROTOCOL_POD, SOURCE_RULE_PRIORITY};

use super::requests::way_out;
use crate::error::Error;
use crate::netns::Netns;
use crate::route::{self, Way};
use crate::rule::{self, Rule};
use crate::socket::{Request, Socket};

/// Makes the rules of an attachment and the routes that they lead to.
///
/// After an error, [`unroute`] removes what is left of the rules; routes go with the device.
///
/// # Errors
/// [`Error`] when the namespace cannot be entered, or the kernel refuses.
pub fn route_by_source(netns: &Netns, index: u32, link: &PodLink) -> Result<(), Error> {
    let requests: Vec<Request> = link
        .source_rules
        .iter()
        .flat_map(|wanted| {
            let routes = way_out(index, wanted.gateway);
            // First the way, then the rule that leads to it.
            routes
                .into_iter()
                .map(|(_, request)| route::in_table(request, wanted.table))
                .chain([rule::add(&rule_of(wanted))])
        })
        .collect();
    // One that is left of an interface with this number is the same.
    tolerating(netns, link, &requests, "route by source address", nix::libc::EEXIST)
}

/// Removes the rules of an attachment; one that is gone is no error.
///
/// # Errors
/// [`Error`] when the namespace cannot be entered, or the kernel refuses.
pub fn unroute(netns: &Netns, link: &PodLink) -> Result<(), Error> {
    let requests: Vec<Request> = link.source_rules.iter().map(|made| rule::remove(&rule_of(made))).collect();
    tolerating(netns, link, &requests, "remove the rules by source address", nix::libc::ENOENT)
}

/// The rules of an attachment that are there and whose table has a default route through the
/// interface.
pub(super) fn found(
    pod: &mut Socket,
    index: u32,
    link: &PodLink,
    family: Family,
) -> Result<Vec<SourceRule>, Error> {
    let expected = || link.source_rules.iter().filter(|made| Family::of(made.source) == family);
    // Most have none, and need no further look at the kernel.
    if expected().next().is_none() {
        return Ok(Vec::new());
    }
    let rules = pod.rules(family, ROUTE_PROTOCOL_POD)?;
    let ways = pod.ways(family, index)?;
    let works = |made: &&SourceRule| {
        let leads =
            |way: &Way| way.table == made.table && way.dst.is_none() && way.gateway == Some(made.gateway);
        rules.contains(&rule_of(made)) && ways.iter().any(leads)
    };
    Ok(expected().filter(works).cloned().collect())
}

/// Sends requests to the namespace; a refusal with this error number is none.
fn tolerating(
    netns: &Netns,
    link: &PodLink,
    requests: &[Request],
    what: &str,
    errno: i32,
) -> Result<(), Error> {
    // Most have none, and need no socket.
    if requests.is_empty() {
        return Ok(());
    }
    let results = netns.socket()?.batch(requests)?;
    let refusal = results.into_iter().filter_map(Result::err).find(|refusal| refusal.errno != errno);
    let operation = || format!("{what} (interface {} of the container)", link.ifname);
    refusal.map_or(Ok(()), |refusal| Err(Error::Refused { operation: operation(), refusal }))
}

fn rule_of(wanted: &SourceRule) -> Rule {
    Rule {
        source: wanted.source,
        table: wanted.table,
        priority: SOURCE_RULE_PRIORITY,
        protocol: ROUTE_PROTOCOL_POD,
    }
}
