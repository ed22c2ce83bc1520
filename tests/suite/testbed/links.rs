//! Loss, rate, delay, partitions and captures.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::traffic::{ContinuousPing, Ping, TcpEcho, tcp_round_trip};
use netns_testbed::{Capture, Transport, eventually};

use super::{PATIENT, SILENCE, hosts, ip};

pub fn trials() -> Vec<Trial> {
    trials![
        loss_is_a_share_of_the_frames => [Need::Program("nft")],
        rate_limits_a_transfer => [Need::Program("tc")],
        delay_adds_to_the_round_trip_and_spares_the_contents,
        a_partition_separates_groups_until_it_heals => [Need::Program("nft")],
        rules_follow_a_port_behind_its_relay => [Need::Program("nft")],
        a_capture_sees_both_directions,
        a_capture_sees_inside_a_tunnel,
    ]
}

fn loss_is_a_share_of_the_frames() -> Result<()> {
    let (_switch, hosts) = hosts(2)?;
    let link = hosts[1].link("eth0")?;
    // Resolves the neighbours first, so that only echo requests and replies can be lost.
    Ping::to(ip("192.0.2.2")).send(&hosts[0], PATIENT)?;
    link.set_loss(0.3, 0.0)?;
    let ping = ContinuousPing::start(&hosts[0], ip("192.0.2.2"), Duration::from_millis(1))?;
    eventually("300 requests", PATIENT, || if ping.report().sent >= 300 { Ok(()) } else { Err("too few") })?;
    let report = ping.stop();
    // 0.3 of 300 or more, within six standard deviations of 0.026 each.
    let share = report.lost().len() as f64 / f64::from(report.sent);
    ensure!((0.14..0.46).contains(&share), "lost {share} of {}", report.sent);

    link.set_loss(0.0, 1.0)?;
    ensure!(Ping::to(ip("192.0.2.2")).send(&hosts[0], SILENCE).is_err());
    link.set_loss(0.0, 0.0)?;
    // Again and again: while all was lost, the neighbour may have been given up.
    eventually("an answer again", PATIENT, || Ping::to(ip("192.0.2.2")).send(&hosts[0], SILENCE))?;
    Ok(())
}

fn rate_limits_a_transfer() -> Result<()> {
    let (_switch, hosts) = hosts(2)?;
    let echo = TcpEcho::start(&hosts[1], (ip("192.0.2.2"), 7).into())?;
    hosts[1].link("eth0")?.set_rate(Some(4_000_000))?;
    let start = Instant::now();
    tcp_round_trip(&hosts[0], echo.address(), 500_000, PATIENT)?;
    // 500 kB are 4 Mbit: 1 s at 4 Mbit/s, less what the bucket lets through at once.
    ensure!(start.elapsed() > Duration::from_millis(800), "it took {:?}", start.elapsed());

    hosts[1].link("eth0")?.set_rate(None)?;
    eventually("full speed again", PATIENT, || {
        match tcp_round_trip(&hosts[0], echo.address(), 500_000, PATIENT) {
            Ok(time) if time < Duration::from_millis(800) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    Ok(())
}

fn delay_adds_to_the_round_trip_and_spares_the_contents() -> Result<()> {
    let (_switch, hosts) = hosts(2)?;
    let link = hosts[1].link("eth0")?;
    for target in ["192.0.2.2", "2001:db8::2"].map(ip) {
        link.set_delay(Duration::from_millis(30))?;
        // The new port of the bridge forwards when the kernel has looked after its carrier.
        eventually("an answer through the relay", PATIENT, || Ping::to(target).send(&hosts[0], SILENCE))?;
        let delayed = Ping::to(target).send(&hosts[0], PATIENT)?;
        ensure!(delayed >= Duration::from_millis(60), "{target} answered after {delayed:?}");

        link.set_delay(Duration::from_millis(1))?;
        let echo = TcpEcho::start(&hosts[1], (target, 7).into())?;
        tcp_round_trip(&hosts[0], echo.address(), 1_000_000, PATIENT)?;
        // The other way, with the frames of the far host's stack.
        let echo = TcpEcho::start(&hosts[0], (ip("192.0.2.1"), 0).into())?;
        tcp_round_trip(&hosts[1], echo.address(), 1_000_000, PATIENT)?;
    }
    Ok(())
}

fn a_partition_separates_groups_until_it_heals() -> Result<()> {
    let (switch, hosts) = hosts(3)?;
    let links = [hosts[0].link("eth0")?, hosts[1].link("eth0")?];
    let reaches = |from: usize, to: &str, patience| Ping::to(ip(to)).send(&hosts[from], patience).is_ok();
    ensure!(reaches(0, "192.0.2.2", PATIENT));
    switch.partition(&[vec![&links[0]], vec![&links[1]]])?;
    ensure!(!reaches(0, "192.0.2.2", SILENCE) && !reaches(1, "192.0.2.1", SILENCE));
    ensure!(reaches(0, "192.0.2.3", PATIENT) && reaches(1, "192.0.2.3", PATIENT), "host3 is in no group");
    switch.heal()?;
    // Again and again: meanwhile the neighbour may have been given up.
    eventually("the other group to be heard", PATIENT, || {
        Ping::to(ip("192.0.2.2")).send(&hosts[0], SILENCE)
    })?;
    Ok(())
}

fn rules_follow_a_port_behind_its_relay() -> Result<()> {
    let (_switch, hosts) = hosts(2)?;
    let link = hosts[1].link("eth0")?;
    link.set_loss(1.0, 1.0)?;
    link.set_delay(Duration::from_millis(1))?;
    ensure!(Ping::to(ip("192.0.2.2")).send(&hosts[0], SILENCE).is_err(), "the relay goes round the rules");
    link.set_loss(0.0, 0.0)?;
    eventually("the way to be free", PATIENT, || Ping::to(ip("192.0.2.2")).send(&hosts[0], SILENCE))?;
    link.remove()?;
    ensure!(link.set_delay(Duration::ZERO).is_err(), "a removed link can be delayed");
    Ok(())
}

fn a_capture_sees_both_directions() -> Result<()> {
    let (_switch, hosts) = hosts(2)?;
    let capture = Capture::start(&hosts[1], "eth0")?;
    Ping::to(ip("192.0.2.2")).payload(100).send(&hosts[0], PATIENT)?;
    // Types 8 and 0 are echo request and reply: RFC 792.
    for (what, kind, source) in [("a request", 8, "192.0.2.1"), ("a reply", 0, "192.0.2.2")] {
        let frame = capture.wait_for(what, PATIENT, |frame| {
            frame.packet.as_ref().is_some_and(|packet| packet.transport == Transport::Icmp { kind, code: 0 })
        })?;
        ensure!(frame.packet.as_ref().is_some_and(|packet| packet.source == ip(source)), "{frame:?}");
        ensure!(frame.length == 14 + 20 + 8 + 100, "{frame:?}");
    }
    let frames = capture.frames();
    ensure!(frames.iter().any(|frame| frame.ethertype == 0x0806), "no ARP in {frames:?}");
    ensure!(capture.wait_for("a tunnel", SILENCE, |frame| frame.vxlan(4789).is_some()).is_err());
    Ok(())
}

fn a_capture_sees_inside_a_tunnel() -> Result<()> {
    let (_switch, hosts) = hosts(2)?;
    for (host, own, peer) in [(&hosts[0], 1, 2), (&hosts[1], 2, 1)] {
        host.ip(&format!(
            "link add vx type vxlan id 4097 dstport 4789 local 192.0.2.{own} remote 192.0.2.{peer}\n\
             addr add 198.18.0.{own}/24 dev vx\nlink set vx up"
        ))?;
    }
    let capture = Capture::start(&hosts[1], "eth0")?;
    let target = ip("198.18.0.2");
    eventually("the tunnel to carry", PATIENT, || Ping::to(target).send(&hosts[0], SILENCE))?;
    let echo = TcpEcho::start(&hosts[1], (target, 7).into())?;
    tcp_round_trip(&hosts[0], echo.address(), 200_000, PATIENT)?;
    let frame = capture.wait_for("the tunnelled packet", PATIENT, |frame| {
        frame.vxlan(4789).is_some_and(|vxlan| vxlan.inner.involves(target))
    })?;
    ensure!(frame.vxlan(4789).is_some_and(|vxlan| vxlan.vni == 4097), "{frame:?}");
    for frame in capture.frames() {
        ensure!(!frame.involves(target), "outside of the tunnel: {frame:?}");
        ensure!(frame.length <= 1514, "larger than the cable carries: {} bytes", frame.length);
    }
    Ok(())
}
