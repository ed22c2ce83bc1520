//! What `minionetd status` and metrics tell of registration.

use anyhow::{Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::{Node, eventually};
use nix::sys::signal::Signal;

use super::server::{SECRET, Server, key_file};
use super::{LONG, cluster, give_key, with};
use crate::doctor::expect_finding;
use crate::status::metrics::{metrics, value};
use crate::status::{report, text};

pub fn trials() -> Vec<Trial> {
    trials![
        a_failure_and_its_end_are_told => [Need::Program("named"), Need::Program("dig")],
    ]
}

/// The lines about registration, as one.
fn section(node: &Node) -> Result<String> {
    let (text, _) = text(node, &["status"])?;
    let lines = text.lines().skip_while(|line| !line.starts_with("register  "));
    let mut own = lines.enumerate().take_while(|(number, line)| *number == 0 || line.starts_with(' '));
    let words = own.by_ref().flat_map(|(_, line)| line.split_whitespace());
    Ok(words.collect::<Vec<_>>().join(" "))
}

fn a_failure_and_its_end_are_told() -> Result<()> {
    with(cluster(1, ""), |cluster| {
        let server = Server::bind(cluster.external(), |config| config)?;
        let node = cluster.node(0);
        node.start_daemon()?;
        eventually("two failures to be told", LONG, || {
            let report = report(node)?;
            let registration = &report["registration"];
            ensure!(registration["failures"].as_u64() >= Some(2), "{registration:#}");
            ensure!(
                registration["address"].is_null() && registration["renewed"].is_null(),
                "{registration:#}"
            );
            let warning = "this node cannot register itself: the key file";
            ensure!(report["warnings"].to_string().contains(warning), "{:#}", report["warnings"]);
            let section = section(node)?;
            let told = "register not in minions.cncfdemo.k8s. yet; the last ";
            ensure!(section.starts_with(told) && section.ends_with(" attempts failed"), "{section}");
            let text = metrics(node)?;
            ensure!(value(&text, "minionet_registered") == Some(0.0), "{text}");
            ensure!(value(&text, "minionet_registration_failures") >= Some(2.0), "{text}");
            ensure!(value(&text, "minionet_troubles") >= Some(1.0), "{text}");
            ensure!(!text.contains("minionet_registration_last_success"), "{text}");
            anyhow::Ok(())
        })?;
        eventually("the doctor to tell", LONG, || {
            expect_finding(node, "registration", "warning", &["the key file", "tsig-keygen"])
        })?;
        give_key(node, &key_file(SECRET))?;
        eventually("the success to be told", LONG, || {
            let report = report(node)?;
            ensure!(report["registration"]["address"] == "172.20.0.1", "{report:#}");
            ensure!(report["registration"]["trouble"].is_null(), "{report:#}");
            let section = section(node)?;
            ensure!(
                section.starts_with("register 172.20.0.1 in minions.cncfdemo.k8s., acknowledged "),
                "{section}"
            );
            ensure!(section.ends_with(" s ago by 198.51.100.1:53"), "{section}");
            let text = metrics(node)?;
            for (series, least) in [
                ("minionet_registered", 1.0),
                ("minionet_registration_attempts_total{result=\"ok\"}", 1.0),
                ("minionet_registration_attempts_total{result=\"failed\"}", 2.0),
                ("minionet_registration_last_success_timestamp_seconds", 1.7e9),
            ] {
                ensure!(value(&text, series) >= Some(least), "{series}: {text}");
            }
            ensure!(value(&text, "minionet_registration_failures") == Some(0.0), "{text}");
            anyhow::Ok(())
        })?;
        // From what the daemon left.
        node.kill_daemon(Signal::SIGTERM)?;
        let left = section(node)?;
        ensure!(left.starts_with("register 172.20.0.1 in minions.cncfdemo.k8s., acknowledged "), "{left}");
        // Where it does not register itself any more, nothing says that it did.
        node.write("/etc/minionet/minionet.toml", "resolvers = [\"198.51.100.1\"]\n")?;
        node.start_daemon()?;
        eventually("nothing to be told", LONG, || {
            ensure!(report(node)?["source"] == "daemon" && section(node)?.is_empty(), "{}", section(node)?);
            ensure!(!node.exists("/run/minionet/register.json")?, "the file stays");
            ensure!(!metrics(node)?.contains("minionet_regist"), "series stay");
            anyhow::Ok(())
        })?;
        drop(server);
        Ok(())
    })
}
