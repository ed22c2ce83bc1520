//! `minionetd trace`: the near end.

mod print;
mod target;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ArgMatches;
use minionet_core::trace::{Evidence, Hop, Kind, Message, Outcome, echo, filter, sight, verdict};
use minionet_netlink::Socket;
use minionet_netlink::packet::Watch;
use nix::errno::Errno;

use self::target::{Journey, Target};
use super::ask::{Answers, Channels, icmp, ping, readable, received, token};
use super::look::sightings;
use crate::{settings, terminal};

/// The exit status of a trace that lost all of its packets, or some. Other failures have 1.
const LOST: u8 = 4;

/// How many packets are sent.
const PACKETS: u8 = 3;

/// Between two packets.
const GAP: Duration = Duration::from_millis(50);

/// How long the last answer may take; what takes longer counts as lost.
const WAIT: Duration = Duration::from_millis(1500);

/// How often, and with what patience, the other node is asked.
const WAITS: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];

/// Traces the way to an address, and prints what came of it.
///
/// # Errors
/// When the trace cannot be made: the address is in no node's share, this node's own address is not
/// known, or rights are missing.
pub fn run(matches: &ArgMatches) -> Result<ExitCode> {
    let config = settings::gather_as_daemon(matches)?;
    // The command line demands it.
    let asked = *matches.get_one::<IpAddr>("address").context("no address")?;
    let mut socket = Socket::open()?;
    let journey = Journey::plan(&config, &mut socket, asked)?;
    let evidence = travel(&journey, &mut socket)?;
    let trace = verdict::conclude(&evidence);
    let text = match matches.get_flag("json") {
        true => print::json(&journey, &evidence, &trace),
        false => print::text(&journey, &evidence, &trace),
    };
    terminal::print(&text)?;
    Ok(match trace.outcome {
        Outcome::Reached => ExitCode::SUCCESS,
        Outcome::Lossy | Outcome::Lost => ExitCode::from(LOST),
    })
}

/// Sends the packets, and gathers what was seen of them.
fn travel(journey: &Journey, socket: &mut Socket) -> Result<Evidence> {
    let token = token();
    let watch = Watch::open(&filter::program(token))
        .with_context(|| format!("a trace needs root: sudo minionetd trace {}", journey.asked))?;
    let remote = journey.remote();
    let channels = remote
        .and_then(|remote| Some((remote, Channels::open(journey.node, journey.vtep, journey.trace_port?))));
    let ask = |kind| match &channels {
        Some((remote, channels)) => {
            let request = Message::request(kind, token, journey.destination);
            channels.ask(remote.node, remote.vtep, &request, &WAITS)
        }
        None => Answers::default(),
    };
    let watching = ask(Kind::Watch);
    let ping = remote.is_some_and(|remote| ping(journey.node, remote.node, &WAITS));

    let mut evidence = journey.evidence();
    let mut answered = 0;
    match icmp(journey.source(), journey.destination) {
        Err(error) => evidence.refused = Some(refusal(&error)),
        Ok(icmp) => {
            for sequence in 0..PACKETS {
                match icmp.send(&echo::request(journey.destination, token, sequence.into())) {
                    Ok(_) => evidence.sent += 1,
                    // A rule at the output drops what the kernel has taken (`NF_DROP`, `EPERM`).
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => evidence.sent += 1,
                    Err(error) => evidence.refused = Some(refusal(&error)),
                }
                answered += collect(&icmp, journey, token, GAP, u8::MAX);
            }
            answered += collect(&icmp, journey, token, WAIT, evidence.sent.saturating_sub(answered));
        }
    }
    let told = ask(Kind::Report);
    evidence.near = near(&watch, socket, journey, token, &mut evidence.astray);
    evidence.near.insert(Hop::Answered, answered);
    evidence.underlay = watching.underlay.is_some() || told.underlay.is_some();
    evidence.tunnel = watching.tunnel.is_some() || told.tunnel.is_some();
    evidence.far = told.any().or(watching.any()).cloned();
    evidence.ping = ping;
    Ok(evidence)
}

/// Why the kernel does not send, in the words of somebody who looks at routes: the number of an error
/// says nothing, and its own text that there is no route where there is one that refuses.
fn refusal(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH) => {
            "no route leads there but those that refuse what no node has".to_owned()
        }
        Some(Errno::EACCES) => "a route or a rule prohibits it".to_owned(),
        Some(errno) => errno.desc().to_owned(),
        None => error.to_string(),
    }
}

/// Waits for answers, at most so many.
fn collect(icmp: &socket2::Socket, journey: &Journey, token: u64, wait: Duration, most: u8) -> u8 {
    let until = Instant::now() + wait;
    let mut answered = 0;
    while answered < most && readable(std::iter::once(icmp), until) {
        answered += received(icmp, journey.destination.is_ipv4(), token);
    }
    answered
}

/// What this node itself saw.
fn near(
    watch: &Watch,
    socket: &mut Socket,
    journey: &Journey,
    token: u64,
    astray: &mut Option<IpAddr>,
) -> BTreeMap<Hop, u8> {
    let mut near = BTreeMap::new();
    for sighting in sightings(watch, socket, journey.port, token) {
        let marked = sighting.marked;
        let Some(hop) = sight::near(sighting.place, sighting.outgoing, marked.reply) else { continue };
        match marked.tunnel {
            Some(tunnel) if hop == Hop::OwnNic && Some(tunnel.to) != journey.remote().map(|r| r.node) => {
                *astray = Some(tunnel.to);
            }
            _ => {
                let count: &mut u8 = near.entry(hop).or_default();
                *count = count.saturating_add(1);
            }
        }
    }
    near
}

/// Whether a target has an end on another node.
impl Journey {
    fn remote(&self) -> Option<&target::Remote> {
        match &self.target {
            Target::Remote(remote) => Some(remote),
            Target::Here | Target::Local => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_it_means() {
        let told = |errno: Errno| refusal(&io::Error::from(errno));
        assert_eq!(told(Errno::EHOSTUNREACH), "no route leads there but those that refuse what no node has");
        assert_eq!(told(Errno::ENETUNREACH), told(Errno::EHOSTUNREACH));
        assert_eq!(told(Errno::EACCES), "a route or a rule prohibits it");
        for errno in [Errno::EHOSTUNREACH, Errno::ENOBUFS, Errno::EINVAL] {
            assert!(!told(errno).contains("os error"), "{}", told(errno));
        }
        assert_eq!(refusal(&io::Error::other("something else")), "something else");
    }
}
