//! Answers that have to be signed, by a server that is in use everywhere: BIND.

use std::net::IpAddr;
use std::process::Child;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, DOMAIN, Host, catches, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{LONG, Traffic, all, print, wait_for_exactly, wait_for_log};
use crate::overlay::{everybody_reaches_everybody, ip, pod_per_node};

/// Where the zones, keys and the configuration are, on the host with the server.
const DIRECTORY: &str = "/run/named";
/// Where the nodes expect the key that signs.
const ANCHOR: &str = "/etc/minionet/anchor";
/// Answers count soon, and a removal takes several of them.
const CONFIG: &str = "refresh_min = \"100ms\"\nrefresh_max = \"500ms\"\nmissing_answers = 3\nhold_down = \"300ms\"\n\
                      resolvers = [\"198.51.100.1\"]\ntrust_anchor = \"/etc/minionet/anchor\"\n";

pub fn trials() -> Vec<Trial> {
    trials![
        signed_answers_are_taken_and_no_others
            => [Need::Program("named"), Need::Program("dnssec-signzone"), Need::Program("dnssec-keygen")],
    ]
}

/// A running BIND; it ends when this is dropped.
struct Bind<'a> {
    host: &'a Host,
    child: Child,
    /// The name under which the nodes find each other.
    name: String,
}

impl Drop for Bind<'_> {
    fn drop(&mut self) {
        // It may have ended by itself; then there is only the status to collect.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<'a> Bind<'a> {
    /// Makes keys and starts the server; returns it with the key of the zone.
    fn start(host: &'a Host, name: String) -> Result<(Self, String)> {
        host.exec(["mkdir", "-p", DIRECTORY])?;
        let keygen = |flags: &[&str]| {
            let words = ["dnssec-keygen", "-K", DIRECTORY, "-a", "ECDSAP256SHA256"].iter().chain(flags);
            Ok::<_, anyhow::Error>(host.exec(words.chain(&[DOMAIN]))?.trim().to_owned())
        };
        // All keys of the zone: a key that only another one vouches for is looked for in the
        // zone's parent, which does not exist.
        let mut anchor = String::new();
        for flags in [&["-f", "KSK"][..], &[]] {
            let key = host.read(format!("{DIRECTORY}/{}.key", keygen(flags)?))?;
            anchor.extend(key.lines().filter(|line| !line.starts_with(';')).map(|line| {
                format!(
                    "{line}
"
                )
            }));
        }
        host.write(
            format!("{DIRECTORY}/named.conf"),
            format!(
                "options {{ directory \"{DIRECTORY}\"; pid-file none; session-keyfile none; recursion no;\n\
                 listen-on {{ any; }}; dnssec-validation no; }};\ncontrols {{ }};\n\
                 zone \"{DOMAIN}\" {{ type primary; file \"served\"; }};\n"
            ),
        )?;
        host.write(format!("{DIRECTORY}/served"), zone(&name, &[]))?;
        let mut command = host.command("named");
        command.args(["-g", "-n", "1", "-c", &format!("{DIRECTORY}/named.conf")]);
        let log = host.run(|| std::fs::File::create("/var/log/named.log"))?.context("make a log")?;
        command.stderr(log.try_clone()?).stdout(log);
        let bind = Self { host, child: host.spawn(command)?, name };
        // Until then it would end by the signal that makes it read its zone again.
        eventually("BIND to run", LONG, || {
            let log = host.read("/var/log/named.log")?;
            ensure!(log.lines().any(|line| line.trim_end().ends_with(" running")), "{log}");
            ensure!(catches(bind.child.id(), Signal::SIGHUP), "it does not listen for signals");
            anyhow::Ok(())
        })?;
        Ok((bind, anchor))
    }

    /// Serves these addresses, signed for so long, as dnssec-signzone(1) writes it.
    fn sign(&self, addresses: &[IpAddr], end: &str) -> Result<()> {
        self.host.write(format!("{DIRECTORY}/plain"), zone(&self.name, addresses))?;
        let mut words =
            vec!["dnssec-signzone", "-q", "-P", "-S", "-K", DIRECTORY, "-d", DIRECTORY, "-o", DOMAIN];
        let (output, input) = (format!("{DIRECTORY}/signed"), format!("{DIRECTORY}/plain"));
        words.extend(["-s", "now-2d", "-e", end, "-f", &output, &input]);
        self.host.exec(words)?;
        self.serve(self.host.read(&output)?)
    }

    /// Serves a zone as it is.
    fn serve(&self, zone: String) -> Result<()> {
        self.host.write(format!("{DIRECTORY}/served"), zone)?;
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGHUP).context("make the server read its zone")
    }
}

/// A zone without signatures. The serial number may stay: there is no secondary.
fn zone(name: &str, addresses: &[IpAddr]) -> String {
    let records: String = addresses.iter().map(|address| format!("{name}. 1 IN A {address}\n")).collect();
    format!(
        "$TTL 1\n{DOMAIN}. IN SOA ns.{DOMAIN}. ns.{DOMAIN}. 1 3600 600 86400 1\n{DOMAIN}. IN NS ns.{DOMAIN}.\n\
             ns.{DOMAIN}. IN A 198.51.100.1\n{records}"
    )
}

fn signed_answers_are_taken_and_no_others() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(3).config(CONFIG).start_without_daemons()?;
    let outcome = play(&cluster);
    if outcome.is_err() {
        print(&cluster.dump());
    }
    outcome
}

fn play(cluster: &Cluster) -> Result<()> {
    let (bind, anchor) = Bind::start(cluster.external(), cluster.dns_name())?;
    let addresses: Vec<IpAddr> = cluster.nodes().iter().map(|node| node.address()).collect();
    bind.sign(&addresses, "now+1d")?;
    cluster.nodes().iter().try_for_each(|node| node.write(ANCHOR, &anchor))?;
    cluster.nodes().iter().try_for_each(|node| node.start_daemon())?;
    cluster.wait_ready()?;
    wait_for_exactly(&all(cluster), &[1, 2, 3])?;
    let pods = pod_per_node(cluster)?;
    everybody_reaches_everybody(&pods)?;

    let signed = bind.host.read(format!("{DIRECTORY}/signed"))?;
    // Each of them says that node 3 is gone and another one came, or that nobody is there.
    let others = [addresses[0], addresses[1], ip("172.20.0.66")];
    let bad: [(&str, String); 3] = [
        ("not signed", zone(&bind.name, &others)),
        ("not signed, and empty", zone(&bind.name, &[])),
        ("tampered with", signed.replace("172.20.0.3", "172.20.0.66")),
    ];
    for (what, zone) in bad {
        ensure!(zone != signed, "{what}: nothing was changed");
        refused(cluster, &bind, &pods, |bind| bind.serve(zone)).context(what)?;
        // What is proper again is taken again.
        bind.serve(signed.clone())?;
        answered_again(cluster).context(what)?;
    }
    refused(cluster, &bind, &pods, |bind| bind.sign(&others, "now-1d"))
        .context("signatures that have expired")?;
    bind.sign(&addresses[..2], "now+1d")?;
    // A removal that is signed is believed.
    wait_for_exactly(&all(cluster)[..2], &[1, 2])?;

    // With another key, a node that starts believes nothing, and keeps whom it knew.
    drop(bind);
    let (bind, _) = Bind::start(cluster.external(), cluster.dns_name())?;
    bind.sign(&others, "now+1d")?;
    let node = cluster.node(0);
    node.kill_daemon(Signal::SIGKILL)?;
    node.write("/var/log/minionetd.log", "")?;
    node.start_daemon()?;
    wait_for_log(node, &["WARN", "the peers stay as they are"])?;
    wait_for_exactly(&[node], &[1, 2])?;
    pods[0].ping(pods[1].address(), LONG)?;
    Ok(())
}

/// How often a node said something.
fn said(cluster: &Cluster, words: &str) -> Result<Vec<usize>> {
    cluster.nodes().iter().map(|node| Ok(node.log()?.matches(words).count())).collect()
}

/// Waits until every node said something once more often than before.
fn wait_until_said(cluster: &Cluster, words: &str, before: &[usize]) -> Result<()> {
    eventually(&format!("every node to say \"{words}\""), LONG, || {
        let now = said(cluster, words)?;
        ensure!(now.iter().zip(before).all(|(now, before)| now > before), "{now:?} after {before:?}");
        anyhow::Ok(())
    })?;
    Ok(())
}

const FAILED: &str = "the peers stay as they are";
const ANSWERED: &str = "answered again";

/// Serves something that no node may believe: all say so, and nothing changes.
fn refused(
    cluster: &Cluster,
    bind: &Bind<'_>,
    pods: &[netns_testbed::Pod],
    serve: impl FnOnce(&Bind<'_>) -> Result<()>,
) -> Result<()> {
    let before = said(cluster, FAILED)?;
    let traffic = Traffic::circle(pods, 200)?;
    serve(bind)?;
    wait_until_said(cluster, FAILED, &before)?;
    // Longer than the hold-down, with several answers.
    traffic.go_on(200)?;
    wait_for_exactly(&all(cluster), &[1, 2, 3])?;
    traffic.end_without_loss()?;
    Ok(())
}

/// Waits until every node was answered as often as it was not.
fn answered_again(cluster: &Cluster) -> Result<()> {
    let failed = said(cluster, FAILED)?;
    let before: Vec<usize> = failed.iter().map(|count| count - 1).collect();
    wait_until_said(cluster, ANSWERED, &before)
}
