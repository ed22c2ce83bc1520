//! Tests of the testbed itself: what the other tests stand on.

mod cluster;
mod dns;
mod hosts;
mod lifetime;
mod links;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use libtest_mimic::Trial;
use netns_testbed::{Host, Nic, Switch};

pub use lifetime::{HOLD, hold};

/// Long enough for anything on an idle or busy machine; what comes, comes in a millisecond.
const PATIENT: Duration = Duration::from_secs(20);
/// How long silence must last to count as such.
const SILENCE: Duration = Duration::from_millis(200);

pub fn trials() -> Vec<Trial> {
    [cluster::trials(), dns::trials(), hosts::trials(), lifetime::trials(), links::trials()]
        .into_iter()
        .flatten()
        .collect()
}

/// Hosts `host1`, `host2`, … with 192.0.2.N and 2001:db8::N on one switch.
fn hosts(count: u8) -> Result<(Switch, Vec<Host>)> {
    let switch = Switch::new("switch")?;
    let make = |number: u8| {
        let host = Host::new(&format!("host{number}"))?;
        let addresses =
            vec![format!("192.0.2.{number}/24").parse()?, format!("2001:db8::{number}/64").parse()?];
        host.attach(&switch, Nic { name: "eth0".into(), addresses, mtu: 1500, gateways: vec![] })?;
        Ok(host)
    };
    let hosts = (1..=count).map(make).collect::<Result<_>>()?;
    Ok((switch, hosts))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
