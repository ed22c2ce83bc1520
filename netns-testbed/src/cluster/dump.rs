//! What a person needs to see after a test has failed.

use std::fmt::Write as _;
use std::io::Write as _;

use super::Cluster;
use crate::node::{DAEMON_LOG, Node};

/// What is asked of every node, by shell, as the files differ.
const QUESTIONS: [&str; 10] = [
    "ip -d address",
    "ip route show table all",
    "ip -6 route show table all",
    "ip neigh",
    "ip -6 neigh",
    "bridge fdb",
    "nft list ruleset",
    "head -v -n 200 /etc/resolv.conf /etc/minionet/* /etc/cni/net.d/* /etc/sysconfig/*",
    "find /run/minionet /var/lib/minionet -type f -exec head -v -c 4000 {} +",
    "ls -l /run/netns",
];

/// The state of every node.
pub(super) fn dump(cluster: &Cluster) -> String {
    let mut text = format!("cluster {}\n", cluster.dns_name());
    for server in cluster.dns_servers() {
        let addresses = server.addresses(&cluster.dns_name());
        let _ = writeln!(text, "DNS says {addresses:?} after {:?}", server.queries());
    }
    for node in cluster.nodes() {
        describe(&mut text, node);
    }
    text
}

/// Prints the state to standard error, for a test that fails.
pub(super) fn print(cluster: &Cluster) {
    // Where standard error is closed, nobody reads.
    let _ = std::io::stderr().lock().write_all(cluster.dump().as_bytes());
}

fn describe(text: &mut String, node: &Node) {
    let _ = writeln!(text, "\n================ {} {:?}", node.name(), node.addresses());
    for question in QUESTIONS {
        // The answer to a failing question is why it fails.
        let answer = node.exec(["sh", "-c", &format!("{question} 2>&1 || :")]);
        let _ = writeln!(text, "---- {question}");
        match answer {
            Ok(answer) => text.push_str(&answer),
            Err(error) => drop(writeln!(text, "{error}")),
        }
    }
    let _ = writeln!(text, "---- {DAEMON_LOG}");
    match node.log() {
        Ok(log) => text.push_str(&log),
        Err(error) => drop(writeln!(text, "{error}")),
    }
    if let Some(exit) = node.daemon_exit() {
        let _ = writeln!(text, "---- the daemon {exit}");
    }
}
