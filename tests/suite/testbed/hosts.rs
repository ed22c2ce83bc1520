//! Hosts, their files and pods, and the probes between them.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::traffic::{ContinuousPing, Ping, TcpEcho, UdpEcho, tcp_round_trip, udp_round_trip};
use netns_testbed::{Host, Namespace, eventually};

use super::{PATIENT, SILENCE, hosts, ip};

pub fn trials() -> Vec<Trial> {
    trials![
        both_families_and_all_protocols_get_through,
        files_belong_to_one_host,
        a_pod_has_a_path_inside_its_host_only,
        a_nic_can_be_removed_and_comes_back_the_same,
        programs_outlive_the_thread_that_started_them,
        too_large_packets_get_no_reply,
        a_continuous_ping_names_the_requests_that_were_lost,
    ]
}

fn both_families_and_all_protocols_get_through() -> Result<()> {
    let (_switch, hosts) = hosts(2)?;
    for target in ["192.0.2.2", "2001:db8::2"].map(ip) {
        Ping::to(target).send(&hosts[0], PATIENT)?;
        let udp = UdpEcho::start(&hosts[1], (target, 7).into())?;
        let tcp = TcpEcho::start(&hosts[1], (target, 7).into())?;
        for length in [1, 1400, 1473, 9000, 65_000] {
            udp_round_trip(&hosts[0], udp.address(), length, PATIENT)?;
        }
        for length in [1, 3_000_000] {
            tcp_round_trip(&hosts[0], tcp.address(), length, PATIENT)?;
        }
    }
    Ok(())
}

fn files_belong_to_one_host() -> Result<()> {
    let (one, two) = (Host::new("one")?, Host::new("two")?);
    for path in ["/etc/minionet/x", "/run/x", "/var/lib/minionet/x", "/var/log/x"] {
        one.write(path, "one")?;
        ensure!(one.read(path)? == "one");
        ensure!(one.exec(["cat", path])? == "one", "programs see {path}");
        ensure!(!two.exists(path)?, "{path} is visible on another host");
        ensure!(!std::path::Path::new(path).exists(), "{path} is visible outside");
    }
    Ok(())
}

fn a_pod_has_a_path_inside_its_host_only() -> Result<()> {
    let host = Host::new("host")?;
    let pod = host.pod("web")?;
    let path = Namespace::netns_path("web");
    ensure!(host.exists(&path)? && !std::path::Path::new(&path).exists());
    pod.ip("link add inside type veth peer name other")?;
    let through_path = host.exec(["nsenter", &format!("--net={path}"), "ip", "-o", "link"])?;
    ensure!(through_path.contains("inside"), "the path leads elsewhere: {through_path}");
    ensure!(!host.exec(["ip", "-o", "link"])?.contains("inside"), "the pod is its host");

    host.unbind_pod("web")?;
    ensure!(!host.exists(&path)?);
    host.unbind_pod("web")?;
    host.pod("web")?;
    Ok(())
}

fn a_nic_can_be_removed_and_comes_back_the_same() -> Result<()> {
    let (_switch, hosts) = hosts(2)?;
    let show =
        |host: &Host| host.exec(["sh", "-c", "cat /sys/class/net/eth0/address; ip -br addr show eth0"]);
    let target = ip("192.0.2.2");
    Ping::to(target).send(&hosts[0], PATIENT)?;
    let before = hosts[1].exec(["ip", "-br", "link", "show", "eth0"])?;

    hosts[1].remove_nic("eth0")?;
    ensure!(show(&hosts[1]).is_err(), "the interface is still there");
    ensure!(Ping::to(target).send(&hosts[0], SILENCE).is_err());

    hosts[1].restore_nic("eth0")?;
    let mac = |text: &str| text.split_whitespace().nth(2).map(str::to_owned);
    ensure!(mac(&before) == mac(&hosts[1].exec(["ip", "-br", "link", "show", "eth0"])?));
    eventually("the host to be back", PATIENT, || Ping::to(target).send(&hosts[0], SILENCE))?;
    Ok(())
}

fn programs_outlive_the_thread_that_started_them() -> Result<()> {
    let host = Host::new("host")?;
    let mut child = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let mut command = host.command("sleep");
                command.arg("1000");
                host.spawn(command)
            })
            .join()
    })
    .unwrap()?;
    // The death signal of a thread that is gone would have come before another process is run.
    host.exec(["true"])?;
    ensure!(child.try_wait()?.is_none(), "it died with the thread");
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn too_large_packets_get_no_reply() -> Result<()> {
    let (_switch, hosts) = hosts(2)?;
    // 1500 bytes less 20 (40) of IP and 8 of ICMP fit.
    for (target, largest) in [("192.0.2.2", 1472), ("2001:db8::2", 1452)] {
        let ping = Ping::to(ip(target)).dont_fragment();
        ping.clone().payload(largest).send(&hosts[0], PATIENT)?;
        ensure!(ping.payload(largest + 1).send(&hosts[0], SILENCE).is_err(), "{target}");
    }
    Ok(())
}

fn a_continuous_ping_names_the_requests_that_were_lost() -> Result<()> {
    let (_switch, hosts) = hosts(2)?;
    let interval = std::time::Duration::from_millis(2);
    // While a neighbour is asked for, only so many packets wait.
    for target in ["192.0.2.2", "2001:db8::2"].map(ip) {
        eventually("an answer", PATIENT, || Ping::to(target).send(&hosts[0], SILENCE))?;
    }
    let ping = ContinuousPing::start(&hosts[0], ip("192.0.2.2"), interval)?;
    ping.wait_for_replies(5, PATIENT)?;
    let link = hosts[1].link("eth0")?;
    link.set_carrier(false)?;
    let gone = ping.report().sent;
    eventually("requests to be lost", PATIENT, || {
        if ping.report().sent > gone + 10 { Ok(()) } else { Err("too few were sent") }
    })?;
    link.set_carrier(true)?;
    ping.wait_for_replies(5, PATIENT)?;
    let report = ping.stop();
    let lost = report.lost();
    ensure!(lost.contains(&(gone + 5)) && !lost.contains(&0), "lost {lost:?} although {gone} was the first");
    ensure!(report.received() + lost.len() == usize::from(report.sent));
    ensure!(report.duplicates == 0);

    let quiet = ContinuousPing::start(&hosts[0], ip("2001:db8::2"), interval)?;
    quiet.wait_for_replies(5, PATIENT)?;
    quiet.stop_without_loss()?;
    Ok(())
}
