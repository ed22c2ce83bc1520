//! What a member says about routes through the tunnel: redirects and router advertisements. Nothing
//! of it is believed.

use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Result, ensure};
use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{Capture, Cluster, Node, eventually};
use nix::sys::signal::Signal;

use super::LONG;
use super::injection::{CONFIG, VNI, VTEPS, tunnel, vxlan};
use crate::overlay::{DEVICE, PATIENT, everybody_reaches_everybody, ip, pod_per_node};

pub fn trials() -> Vec<Trial> {
    trials![what_a_member_says_about_routes_is_not_believed]
}

/// Whom the advice comes from, and whom the redirect of IPv6 leads to.
const ROUTER: &str = "fe80::66";
const OTHER: &str = "fe80::77";
/// A network behind that router, and a host in it: redirects of IPv6 are about routers with
/// link-local addresses only, which the overlay never has.
const BEHIND: &str = "2001:db8:66::/64";
const HOST: &str = "2001:db8:66::5";
/// A pod of node 1, to which node 2 is told to send by way of node 3.
const POD: &str = "10.32.1.9";

fn v6(text: &str) -> Result<Ipv6Addr> {
    Ok(text.parse()?)
}

/// The frames of all advice, for node 2 from node 1.
fn advice() -> Result<Vec<Vec<u8>>> {
    let ethernet = || PacketBuilder::ethernet2(VTEPS[0], VTEPS[1]);
    // RFC 792: a redirect holds the packet that it is about, here an answer that the kernel sent.
    let mut about = Vec::new();
    let answer = Icmpv4Type::EchoReply(IcmpEchoHeader { id: 1, seq: 1 });
    PacketBuilder::ipv4([10, 32, 2, 1], [10, 32, 1, 9], 64).icmpv4(answer).write(&mut about, &[0; 8])?;
    let redirect = Icmpv4Type::Redirect(icmpv4::RedirectHeader {
        code: icmpv4::RedirectCode::RedirectForHost,
        gateway_internet_address: [10, 32, 3, 1],
    });
    let mut v4 = Vec::new();
    ethernet().ipv4([10, 32, 1, 1], [10, 32, 2, 1], 64).icmpv4(redirect).write(&mut v4, &about)?;

    // RFC 4861 section 4.2: hop limit, flags, lifetime, two timers, and the option of a prefix
    // (section 4.6.2) that is on link and for addresses.
    let mut advertisement = vec![64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    advertisement.extend([3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0]);
    advertisement.extend(v6("2001:db8:77::")?.octets());
    let mut frames = vec![v4];
    let gateway = v6("fd00:32:0:2::1")?;
    for to in [gateway, v6("ff02::1")?] {
        frames.push(neighbour_discovery(134, to, &advertisement)?);
    }
    // RFC 4861 section 4.5: the better hop, and whom it leads to.
    let mut redirect = vec![0; 4];
    redirect.extend(v6(OTHER)?.octets());
    redirect.extend(v6(HOST)?.octets());
    frames.push(neighbour_discovery(137, gateway, &redirect)?);
    Ok(frames)
}

/// A message as only a neighbour can send it: with the highest hop limit.
fn neighbour_discovery(kind: u8, to: Ipv6Addr, body: &[u8]) -> Result<Vec<u8>> {
    let destination = if to.is_multicast() { [0x33, 0x33, 0, 0, 0, 1] } else { VTEPS[1] };
    let (head, rest) = body.split_at(4);
    let message =
        Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [head[0], head[1], head[2], head[3]] };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(VTEPS[0], destination)
        .ipv6(v6(ROUTER)?.octets(), to.octets(), 255)
        .icmpv6(message)
        .write(&mut frame, rest)?;
    Ok(frame)
}

/// All routes and addresses, and which way the packets go that the redirects are about.
fn ways(node: &Node) -> Result<Vec<String>> {
    let commands: [&[&str]; 5] = [
        &["ip", "-4", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["ip", "-br", "addr", "show"],
        &["ip", "route", "get", POD],
        &["ip", "-6", "route", "get", HOST],
    ];
    commands.iter().map(|command| Ok(node.exec(command.iter().copied())?)).collect()
}

fn what_a_member_says_about_routes_is_not_believed() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(3).config(CONFIG).run(|cluster| {
        let pods = pod_per_node(cluster)?;
        let (member, node) = (cluster.node(0), cluster.node(1));
        everybody_reaches_everybody(&pods)?;
        node.ip(&format!("route add {BEHIND} via {ROUTER} dev {DEVICE}"))?;
        let capture = Capture::start(node, DEVICE)?;
        let send = || {
            for frame in advice()? {
                tunnel(member, node.address(), &vxlan(VNI, &frame))?;
            }
            // What was sent before it has arrived and was dealt with.
            anyhow::Ok(pods[0].ping(pods[1].address(), PATIENT)?)
        };
        let before = ways(node)?;
        send()?;
        // Another processor may still be at them.
        eventually("all of it to arrive", PATIENT, || {
            let frames = capture.frames();
            let arrived = frames.iter().filter(|frame| frame.involves(ip(ROUTER))).count();
            ensure!(arrived == 3, "{arrived} of 3 arrived");
            ensure!(frames.iter().any(|frame| frame.involves(IpAddr::from([10, 32, 1, 1]))));
            anyhow::Ok(())
        })?;
        pods[0].ping(pods[1].address(), PATIENT)?;
        let after = ways(node)?;
        ensure!(after == before, "{after:?} instead of {before:?}");

        // That the packets are proper, and would be believed, shows where nothing is set.
        node.signal_daemon(Signal::SIGSTOP)?;
        for key in ["all", DEVICE] {
            node.sysctl([(format!("net.ipv4.conf.{key}.accept_redirects").as_str(), "1")])?;
        }
        for (key, value) in [("accept_redirects", "1"), ("accept_ra", "2"), ("forwarding", "0")] {
            node.sysctl([(format!("net.ipv6.conf.{DEVICE}.{key}").as_str(), value)])?;
        }
        eventually("all of it to be believed", LONG, || {
            send()?;
            let [_, routes, addresses, v4, v6] = &ways(node)?[..] else { anyhow::bail!("five answers") };
            ensure!(
                routes.contains(&format!("default via {ROUTER} dev {DEVICE}")),
                "no default route: {routes}"
            );
            ensure!(addresses.contains("2001:db8:77:"), "no address: {addresses}");
            ensure!(v4.contains("via 10.32.3.1"), "not redirected: {v4}");
            ensure!(v6.contains(&format!("via {OTHER}")), "not redirected: {v6}");
            anyhow::Ok(())
        })?;
        Ok(node.signal_daemon(Signal::SIGCONT)?)
    })
}
