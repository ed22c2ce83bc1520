//! Registrations that fail: each says why and what to do, and works once that was done.

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::{Cluster, Node};
use nix::sys::signal::Signal;

use super::server::{OTHER_SECRET, SECRET, Server, key_file, recipe};
use super::{KEY, NAME, addresses, cluster, give_key, start, wait_for_log, wait_for_records, with};

/// Executes its arguments with a clock that is an hour ahead, as faketime(1) does, but as the same
/// process: so it ends when it is told to.
const FAKE: &str = "export LD_PRELOAD=$(echo /usr/lib/*/faketime/libfaketime.so.1) FAKETIME=+3600s \
                    FAKETIME_DONT_FAKE_MONOTONIC=1; exec \"$@\"";

pub fn trials() -> Vec<Trial> {
    trials![
        a_bad_key_is_named_until_it_is_replaced => [Need::Program("named"), Need::Program("dig")],
        a_bad_key_is_named_with_knot => [Need::Program("knotd"), Need::Program("dig")],
        a_clock_that_is_wrong_is_named
            => [Need::Program("knotd"), Need::Program("dig"), Need::Program("faketime")],
        what_the_server_refuses_is_named => [Need::Program("named"), Need::Program("dig")],
        a_server_that_is_not_there_is_named => [Need::Program("named"), Need::Program("dig")],
        settings_that_make_no_sense_are_refused,
    ]
}

/// Gives a node other settings, after those of the cluster.
fn configure(node: &Node, base: &str, more: &str) -> Result<()> {
    node.write("/etc/minionet/minionet.toml", format!("{base}{more}"))?;
    Ok(node.signal_daemon(Signal::SIGHUP)?)
}

/// Puts a sequence of bad keys in place; each is named, and the right one ends it.
fn replace_keys(cluster: &Cluster, server: &Server<'_>, keys: &[(String, &str)]) -> Result<()> {
    let node = cluster.node(0);
    node.start_daemon()?;
    wait_for_log(node, &["WARN", "cannot register itself: the key file", KEY, "it is not there"])?;
    // The right one, but at no moment for root alone.
    node.write(KEY, "")?;
    node.exec(["chmod", "0644", KEY])?;
    node.write(KEY, key_file(SECRET))?;
    wait_for_log(node, &["WARN", "cannot register itself: the key file", "chmod 0600"])?;
    for keys in keys.chunks(2) {
        // Each failure doubles the time until the next attempt, but for a daemon that starts.
        node.kill_daemon(Signal::SIGKILL)?;
        give_key(node, &keys[0].0)?;
        node.start_daemon()?;
        wait_for_log(node, &["WARN", "cannot register itself", keys[0].1])?;
        for (key, words) in &keys[1..] {
            give_key(node, key)?;
            wait_for_log(node, &["WARN", "cannot register itself", words])?;
        }
    }
    ensure!(server.addresses(NAME)?.is_empty(), "it was registered");
    give_key(node, &key_file(SECRET))?;
    wait_for_log(node, &["registration works again"])?;
    wait_for_records(server, &addresses(cluster.nodes()))?;
    ensure!(!node.log()?.contains(SECRET) && !node.log()?.contains(OTHER_SECRET), "the log tells the secret");
    Ok(())
}

fn a_bad_key_is_named_until_it_is_replaced() -> Result<()> {
    with(cluster(1, ""), |cluster| {
        let server = Server::bind(cluster.external(), |config| config)?;
        let keys = [
            ("nonsense".to_owned(), "tsig-keygen"),
            (key_file("short"), "the secret is not base64"),
            (key_file(SECRET).replace("sha256", "md5"), "the algorithm hmac-md5 is not supported"),
            (key_file(OTHER_SECRET), "198.51.100.1:53 has another secret for the key minions-key. (BADSIG)"),
            (
                key_file(SECRET).replace("minions-key", "other-key"),
                "198.51.100.1:53 does not know the key other-key. (BADKEY)",
            ),
        ];
        replace_keys(cluster, &server, &keys)
    })
}

fn a_bad_key_is_named_with_knot() -> Result<()> {
    with(cluster(1, ""), |cluster| {
        let server = Server::knot(cluster.external())?;
        let keys = [
            (key_file(OTHER_SECRET), "(BADSIG)"),
            (key_file(SECRET).replace("minions-key", "other-key"), "(BADKEY)"),
        ];
        replace_keys(cluster, &server, &keys)
    })
}

fn a_clock_that_is_wrong_is_named() -> Result<()> {
    with(cluster(1, ""), |cluster| {
        let (host, node) = (cluster.external(), cluster.node(0));
        // Not BIND: its allocator and the library that fakes the time do not get on.
        let server = Server::knot_after(host, &["sh", "-c", FAKE, "sh"])?;
        start(node)?;
        let line = wait_for_log(node, &["the clocks differ (BADTIME)", "s ahead of this node's"])?;
        // Some seconds may pass between both.
        let seconds = line.split(" s ahead").next().and_then(|before| before.rsplit(' ').next());
        let seconds: i64 = seconds.context("a number")?.parse().with_context(|| line.clone())?;
        ensure!((3540..=3660).contains(&seconds), "{line}");
        drop(server);
        let server = Server::knot(host)?;
        wait_for_log(node, &["registration works again"])?;
        wait_for_records(&server, &addresses(cluster.nodes()))
    })
}

fn what_the_server_refuses_is_named() -> Result<()> {
    with(cluster(1, ""), |cluster| {
        let (host, node) = (cluster.external(), cluster.node(0));
        let base = node.read("/etc/minionet/minionet.toml")?;
        // A policy that does not permit the lease.
        let policy = "grant minions-key subdomain _lease.minions.cncfdemo.k8s. TXT;";
        let server = Server::bind(host, |config| config.replace(policy, ""))?;
        start(node)?;
        wait_for_log(node, &["does not let the key minions-key. change cncfdemo.k8s. (REFUSED)"])?;
        ensure!(server.addresses(NAME)?.is_empty(), "half of an update was done");
        drop(server);

        let server = Server::bind(host, |config| config)?;
        wait_for_records(&server, &addresses(cluster.nodes()))?;
        // Zones that it does not have.
        for (zone, words) in [("k8s", "is not the primary server of k8s."), ("example", "(NOTAUTH)")] {
            let more = format!("register_server = \"198.51.100.1\"\nregister_zone = \"{zone}\"\n");
            configure(node, &base, &more)?;
            wait_for_log(node, &["cannot register itself", words])?;
        }
        // A zone that it has, and the name is not in it.
        drop(server);
        let other = "zone \"other.k8s\" { type primary; file \"other.k8s.zone\"; allow-update { key minions-key; }; };";
        let other = format!("include \"/etc/bind/minions.key\";\n{other}\n");
        let server = Server::named(host, &other, "other.k8s.zone", &recipe("dynamic.zone")?)?;
        configure(node, &base, "register_server = \"198.51.100.1:53\"\nregister_zone = \"other.k8s\"\n")?;
        wait_for_log(node, &["a name of the update is not in the zone other.k8s."])?;
        drop(server);
        Ok(())
    })
}

fn a_server_that_is_not_there_is_named() -> Result<()> {
    with(cluster(1, "dns_timeout = \"1s\"\n"), |cluster| {
        let node = cluster.node(0);
        let base = node.read("/etc/minionet/minionet.toml")?;
        start(node)?;
        wait_for_log(node, &["the zone of minions.cncfdemo.k8s. cannot be found", "set register_zone"])?;
        let server = Server::bind(cluster.external(), |config| config)?;
        wait_for_records(&server, &addresses(cluster.nodes()))?;
        configure(node, &base, "register_server = \"198.51.100.1:5353\"\n")?;
        wait_for_log(node, &["the server 198.51.100.1:5353 cannot be reached", "over TCP"])?;
        configure(node, &base, "register_server = \"nowhere.cncfdemo.k8s\"\n")?;
        wait_for_log(node, &["the server nowhere.cncfdemo.k8s. has no address", "set register_server"])?;
        // The name of the zone file, with a port.
        configure(node, &base, "register_server = \"ns.cncfdemo.k8s:53\"\n")?;
        wait_for_log(node, &["updates go to the primary server", "198.51.100.1:53"])?;
        // The command says it as well.
        let more = ["deregister", "--cluster-name", "cncfdemo", "--register-server", "198.51.100.1:5353"];
        let error = node.minionetd(more).unwrap_err().to_string();
        ensure!(error.contains("the server 198.51.100.1:5353 cannot be reached"), "{error}");
        Ok(())
    })
}

fn settings_that_make_no_sense_are_refused() -> Result<()> {
    with(cluster(1, ""), |cluster| {
        for (more, words) in [
            (["--register-server", "a b"], "is not a server: write 10.0.0.2"),
            (["--register-ttl", "500ms"], "is not between 1s and 1d"),
            (["--register-lease", "never"], "and not off"),
            (["--register-lease", "10s"], "register_lease is shorter than 10.6s"),
            (["--register-role", "masters"], "is not one of the roles (minions)"),
            (["--register-key", "key"], "is not an absolute path"),
        ] {
            let words_given = ["register", "--cluster-name", "cncfdemo"].into_iter().chain(more);
            let error = cluster.node(0).minionetd(words_given).unwrap_err().to_string();
            ensure!(error.contains(words), "{error}");
        }
        Ok(())
    })
}
