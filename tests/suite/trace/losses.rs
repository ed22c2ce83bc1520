//! Every hop that can lose a packet is made to, and is named.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Node, Pod, eventually};
use nix::sys::signal::Signal;

use super::{LOST, PATIENT, expect_reached, wait_for_answers, wait_for_trace};

pub fn trials() -> Vec<Trial> {
    trials![the_hop_that_loses_is_named => [Need::Program("nft")]]
}

/// Two nodes, and a pod on the second.
struct Bed<'a> {
    cluster: &'a Cluster,
    near: &'a Node,
    far: &'a Node,
    pod: Pod,
}

/// A loss: what is done, how it is undone, and what the trace says.
struct Loss {
    name: &'static str,
    break_it: fn(&Bed<'_>) -> Result<()>,
    mend_it: fn(&Bed<'_>) -> Result<()>,
    lost_at: Option<&'static str>,
    last_seen: &'static str,
    words: &'static str,
}

/// A chain that drops, in a table of its own.
fn drops(hook: &str, rule: &str) -> String {
    format!("table inet loss {{\nchain loss {{\ntype filter hook {hook} priority 0;\n{rule} drop\n}}\n}}\n")
}

const MEND: &str = "table inet loss\ndelete table inet loss";
const MEND_SWITCH: &str = "table bridge loss\ndelete table bridge loss";

/// The switch drops VXLAN from one node to the other, and nothing else.
fn switch_drops(bed: &Bed<'_>, from: &str, to: &str) -> Result<()> {
    let rule = format!("ip saddr {from} ip daddr {to} udp dport 4789 drop");
    let chain = format!("chain loss {{\ntype filter hook forward priority -10;\n{rule}\n}}");
    Ok(bed.cluster.switch(0).namespace().nft(&format!("table bridge loss {{\n{chain}\n}}\n"))?)
}

fn mend_near(bed: &Bed<'_>) -> Result<()> {
    Ok(bed.near.nft(MEND)?)
}

fn mend_far(bed: &Bed<'_>) -> Result<()> {
    Ok(bed.far.nft(MEND)?)
}

fn mend_switch(bed: &Bed<'_>) -> Result<()> {
    Ok(bed.cluster.switch(0).namespace().nft(MEND_SWITCH)?)
}

/// Reloads the far node's configuration.
fn configure_far(bed: &Bed<'_>, text: &str) -> Result<()> {
    bed.far.write("/etc/minionet/minionet.toml", text)?;
    bed.far.signal_daemon(Signal::SIGHUP)?;
    let wanted = if text.contains("vni") { 5 } else { 4097 };
    eventually("the other device to follow", PATIENT, || {
        let device = bed.far.json(["ip", "-j", "-d", "link", "show", "minionet"])?;
        ensure!(device[0]["linkinfo"]["info_data"]["id"] == wanted, "{device}");
        anyhow::Ok(())
    })?;
    Ok(())
}

const LOSSES: &[Loss] = &[
    Loss {
        name: "an own rule drops what goes into the tunnel",
        break_it: |bed| Ok(bed.near.nft(&drops("output", "oifname minionet icmp type echo-request"))?),
        mend_it: mend_near,
        lost_at: Some("own-device"),
        last_seen: "sent",
        words: "do not enter minionet",
    },
    Loss {
        name: "an own rule drops VXLAN",
        break_it: |bed| Ok(bed.near.nft(&drops("output", "udp dport 4789"))?),
        mend_it: mend_near,
        lost_at: Some("own-nic"),
        last_seen: "own-device",
        words: "do not leave this node",
    },
    Loss {
        name: "the forwarding entry leads elsewhere",
        break_it: |bed| {
            bed.near.signal_daemon(Signal::SIGSTOP)?;
            let entry =
                ["bridge", "fdb", "replace", "0e:6d:00:00:00:02", "dev", "minionet", "dst", "172.20.0.254"];
            Ok(bed.near.exec(entry).map(drop)?)
        },
        mend_it: |bed| Ok(bed.near.signal_daemon(Signal::SIGCONT)?),
        lost_at: Some("own-nic"),
        last_seen: "own-device",
        words: "for 172.20.0.254 instead of 172.20.0.2",
    },
    Loss {
        name: "the forwarding entry is missing",
        break_it: |bed| {
            bed.near.signal_daemon(Signal::SIGSTOP)?;
            Ok(bed.near.exec(["bridge", "fdb", "del", "0e:6d:00:00:00:02", "dev", "minionet"]).map(drop)?)
        },
        mend_it: |bed| Ok(bed.near.signal_daemon(Signal::SIGCONT)?),
        lost_at: Some("own-nic"),
        last_seen: "own-device",
        words: "set the forwarding entry",
    },
    Loss {
        name: "the way drops VXLAN alone",
        break_it: |bed| switch_drops(bed, "172.20.0.1", "172.20.0.2"),
        mend_it: mend_switch,
        lost_at: Some("peer-nic"),
        last_seen: "own-nic",
        words: "other UDP passes, so something on the way drops UDP port 4789",
    },
    Loss {
        name: "the other node drops VXLAN",
        break_it: |bed| Ok(bed.far.nft(&drops("input", "udp dport 4789"))?),
        mend_it: mend_far,
        lost_at: Some("peer-device"),
        last_seen: "peer-nic",
        words: "do not come out of its tunnel: a rule there drops",
    },
    Loss {
        name: "the other node has another network identifier",
        break_it: |bed| configure_far(bed, "vni = 5\n"),
        mend_it: |bed| configure_far(bed, ""),
        lost_at: Some("peer-device"),
        last_seen: "peer-nic",
        words: "whose overlay has VNI 5",
    },
    Loss {
        name: "the other node drops what is forwarded",
        break_it: |bed| Ok(bed.far.nft(&drops("forward", "ip protocol icmp"))?),
        mend_it: mend_far,
        lost_at: Some("pod"),
        last_seen: "peer-device",
        words: "a rule drops what is forwarded",
    },
    Loss {
        name: "the pod's interface is down",
        break_it: |bed| Ok(bed.pod.ip("link set eth0 down")?),
        mend_it: |bed| {
            Ok(bed.pod.ip(
                "link set eth0 up\nroute add 10.32.2.1 dev eth0 scope link\nroute add default via 10.32.2.1",
            )?)
        },
        lost_at: Some("pod"),
        last_seen: "peer-device",
        words: "the link of the pod",
    },
    Loss {
        name: "the pod drops ICMP",
        break_it: |bed| Ok(bed.pod.nft(&drops("input", "icmp type echo-request"))?),
        mend_it: |bed| Ok(bed.pod.nft(MEND)?),
        lost_at: Some("pod-reply"),
        last_seen: "pod",
        words: "gets the packets and does not answer",
    },
    Loss {
        name: "the other node drops what comes from pods",
        break_it: |bed| Ok(bed.far.nft(&drops("forward", "iifname \"mnet*\""))?),
        mend_it: mend_far,
        lost_at: Some("peer-device-back"),
        last_seen: "pod-reply",
        words: "do not leave 172.20.0.2",
    },
    Loss {
        name: "the other node drops its own VXLAN",
        break_it: |bed| Ok(bed.far.nft(&drops("output", "udp dport 4789"))?),
        mend_it: mend_far,
        lost_at: Some("peer-nic-back"),
        last_seen: "peer-device-back",
        words: "enter the tunnel on 172.20.0.2 and do not leave it",
    },
    Loss {
        name: "the way back drops VXLAN",
        break_it: |bed| switch_drops(bed, "172.20.0.2", "172.20.0.1"),
        mend_it: mend_switch,
        lost_at: Some("own-nic-back"),
        last_seen: "peer-nic-back",
        words: "open UDP port 4789 from 172.20.0.2",
    },
    Loss {
        name: "an own rule drops incoming VXLAN",
        break_it: |bed| Ok(bed.near.nft(&drops("input", "udp dport 4789"))?),
        mend_it: mend_near,
        lost_at: Some("own-device-back"),
        last_seen: "own-nic-back",
        words: "arrive at this node",
    },
    Loss {
        name: "an own rule drops the answers",
        break_it: |bed| Ok(bed.near.nft(&drops("input", "icmp type echo-reply"))?),
        mend_it: mend_near,
        lost_at: Some("answered"),
        last_seen: "own-device-back",
        words: "are dropped here",
    },
    // The last, as its mending takes the longest.
    Loss {
        name: "the other daemon is dead, and the way drops VXLAN",
        break_it: |bed| {
            bed.far.kill_daemon(Signal::SIGKILL)?;
            switch_drops(bed, "172.20.0.1", "172.20.0.2")
        },
        mend_it: |bed| {
            mend_switch(bed)?;
            Ok(bed.far.start_daemon()?)
        },
        lost_at: None,
        last_seen: "own-nic",
        words: "its daemon is down, does not know this node",
    },
];

fn the_hop_that_loses_is_named() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(2).run(|cluster| {
        wait_for_answers(cluster)?;
        let pod = cluster.node(1).add_pod("web")?;
        let bed = Bed { cluster, near: cluster.node(0), far: cluster.node(1), pod };
        let address = bed.pod.address().to_string();
        expect_reached(bed.near, &address, 12)?;
        for loss in LOSSES {
            (loss.break_it)(&bed).with_context(|| loss.name)?;
            wait_for_trace(bed.near, &address, |document, code| {
                let remedy = document["remedy"].as_str().unwrap_or_default();
                let text = format!("{} {remedy}", document["finding"].as_str().unwrap_or_default());
                code == Some(LOST)
                    && document["lost_at"].as_str() == loss.lost_at
                    && document["last_seen"] == loss.last_seen
                    && text.contains(loss.words)
                    && !remedy.is_empty()
            })
            .with_context(|| loss.name)?;
            (loss.mend_it)(&bed).with_context(|| loss.name)?;
            expect_reached(bed.near, &address, 12)
                .with_context(|| format!("the way to be free again: {}", loss.name))?;
        }
        Ok(())
    })
}
