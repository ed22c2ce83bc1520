//! `CNI_NETNS`: everything that a path can lead to.

use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::Node;

use super::support::*;

/// What "at once" may mean on a machine that stands still for seconds, where a hang would be without
/// end.
const SOON: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    trials![
        a_container_that_is_gone_needs_no_cleaning => [Need::Program("nft")],
        what_is_no_network_namespace_is_refused => [Need::Program("nft")],
        the_plugins_own_namespace_is_refused => [Need::Program("nft")],
        every_path_to_a_namespace_works => [Need::Program("nft")],
    ]
}

/// Case 42.
fn a_container_that_is_gone_needs_no_cleaning() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        for netns in ["/run/netns/gone", "/nowhere/at/all", "/proc/4194304/ns/net", "relative"] {
            let gone = attachment("c1", netns);
            let answer = call(node, "ADD", &gone, &conf("1.1.0"))?;
            fails(&answer, 3, &[netns]).with_context(|| netns.to_owned())?;
            del(node, &gone, &conf("1.1.0"))?;
        }
        before.is_that_of(node)
    })
}

/// Case 43; for DEL (case 59) they are all as good as gone.
fn what_is_no_network_namespace_is_refused() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let files = "mkdir /run/odd && cd /run/odd && touch file && mkdir directory && mkfifo fifo \
            && ln -s nowhere dangling && ln -s loop loop && mknod null c 1 3";
        node.exec(["sh", "-c", files])?;
        let _socket = node.run(|| UnixListener::bind("/run/odd/socket"))??;
        let long = format!("/run/{}", "x".repeat(5000));
        let paths = [
            "/run/odd/file",
            "/run/odd/directory",
            "/run/odd/fifo",
            "/run/odd/socket",
            "/run/odd/dangling",
            "/run/odd/loop",
            "/run/odd/null",
            "/run/odd/file/below",
            "/proc/self/ns/mnt",
            "/proc/self/ns/user",
            "/proc/self/stat",
            "/",
            &long,
            "/run/netns\u{1}",
        ];
        for netns in paths {
            let odd = attachment("c1", netns);
            let answer = call(node, "ADD", &odd, &conf("1.1.0"))?;
            ensure!(answer.elapsed < SOON, "{netns}: it took {:?}", answer.elapsed);
            // A path below a file, or one that cannot exist, is gone or wrong.
            fails_any(&answer, &[3, 4], &["CNI_NETNS"]).with_context(|| netns.to_owned())?;
            let named = ["file", "directory", "fifo", "socket", "dangling", "null", "mnt"];
            if named.iter().any(|kind| netns.ends_with(&format!("/{kind}"))) {
                fails(&answer, 4, &[netns]).with_context(|| netns.to_owned())?;
            }
            let answer = call(node, "DEL", &odd, &conf("1.1.0"))?;
            ensure!(answer.elapsed < SOON, "{netns}: it took {:?}", answer.elapsed);
            silent(&answer).with_context(|| format!("DEL with {netns}"))?;
        }
        before.is_that_of(node)
    })
}

/// The reference plugins print two documents and leave things behind.
fn the_plugins_own_namespace_is_refused() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        // The host's own, by two ways.
        node.exec(["sh", "-c", "touch /run/netns/own && mount --bind /proc/self/ns/net /run/netns/own"])?;
        for netns in ["/proc/self/ns/net", "/run/netns/own"] {
            let own = attachment("c1", netns);
            fails(&call(node, "ADD", &own, &conf("1.1.0"))?, 8, &[netns])?;
            del(node, &own, &conf("1.1.0"))?;
        }
        before.is_that_of(node)
    })
}

/// By process, through links, relative, with a slash at the end of a directory before it.
fn every_path_to_a_namespace_works() -> Result<()> {
    on_node(|node: &Node| {
        let before = HostState::of(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        node.exec(["ln", "-s", "/run/netns/c1", "/run/link"])?;
        node.exec(["ln", "-s", "link", "/run/linked"])?;
        let mut sleeper = sandbox.namespace.command("sleep");
        sleeper.arg("1000").stdin(Stdio::null()).stdout(Stdio::null());
        let mut sleeper = node.spawn(sleeper)?;
        let by_process = format!("/proc/{}/ns/net", sleeper.id());
        let by_task = format!("/proc/{0}/task/{0}/ns/net", sleeper.id());
        let attached = || -> Result<()> {
            let moved = sandbox.namespace.exec(["readlink", "/proc/self/ns/net"])?;
            ensure!(node.exec(["readlink", &by_process])? == moved, "the process is not there yet");
            Ok(())
        };
        netns_testbed::eventually("the process to enter its namespace", PATIENT, attached)?;
        for netns in [
            &by_process,
            &by_task,
            "/run/link",
            "/run/linked",
            "/run//netns/./c1",
            "/var/run/../../run/netns/c1",
        ] {
            let mut attachment = sandbox.attachment.clone();
            attachment.netns = netns.to_owned();
            let result = add(node, &attachment, &conf("1.1.0")).with_context(|| netns.to_owned())?;
            ensure!(result["interfaces"][1]["sandbox"] == netns, "{result}");
            sandbox.has(&["lo", "eth0"])?;
            del(node, &attachment, &conf("1.1.0"))?;
            sandbox.has(&["lo"])?;
        }
        sleeper.kill()?;
        sleeper.wait()?;
        before.returns(node)
    })
}
