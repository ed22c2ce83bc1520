//! Health over HTTP, and what is done to those who ask badly.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use minionet_tests::{Trial, trials};
use netns_testbed::{Cluster, Fault, eventually};
use nix::sys::signal::Signal;

use super::{ADDRESS, PATIENT, cluster, get, report, request, text};

/// More than are let in at a time.
const CROWD: usize = 20;

pub fn trials() -> Vec<Trial> {
    trials![
        health_is_well_and_readiness_waits_for_dns,
        readiness_goes_with_the_device,
        bad_requests_get_clear_answers,
        who_says_nothing_keeps_nobody_out_for_long,
        an_address_that_is_taken_is_a_warning,
        metrics_move_to_a_socket_at_a_reload,
    ]
}

fn health_is_well_and_readiness_waits_for_dns() -> Result<()> {
    let cluster = cluster().nodes(1).start_without_daemons()?;
    let node = cluster.node(0);
    cluster.dns().set_fault(Fault::ServFail);
    node.start_daemon()?;
    eventually("health to be well", PATIENT, || {
        let (status, body) = get(node, "/healthz")?;
        ensure!((status, body.as_str()) == (200, "ok\n"), "{status} {body}");
        anyhow::Ok(())
    })?;
    let (status, body) = get(node, "/readyz")?;
    ensure!(status == 503 && body.contains("DNS has not answered completely"), "{status} {body}");
    let (told, status) = text(node, &["status"])?;
    ensure!(status == 4 && told.contains("FAILED   the overlay is not formed: "), "{told}");
    cluster.dns().set_fault(None);
    let ready = || {
        let (status, body) = get(node, "/readyz")?;
        ensure!((status, body.as_str()) == (200, "ok\n"), "{status} {body}");
        anyhow::Ok(())
    };
    eventually("the node to be ready", PATIENT, ready)?;
    // A failure later on takes nothing back.
    cluster.dns().set_fault(Fault::ServFail);
    crate::overlay::wait_for_queries(&cluster, 4)?;
    ready()
}

fn readiness_goes_with_the_device() -> Result<()> {
    cluster().nodes(1).run(|cluster| {
        let node = cluster.node(0);
        // A device that is not ours to delete has the name, before the daemon can make its own.
        node.signal_daemon(Signal::SIGSTOP)?;
        node.ip("link del minionet\nlink add minionet type bridge")?;
        node.signal_daemon(Signal::SIGCONT)?;
        eventually("readiness to go", PATIENT, || {
            let (status, body) = get(node, "/readyz")?;
            ensure!(status == 503 && body.contains("VXLAN device"), "{status} {body}");
            anyhow::Ok(())
        })?;
        ensure!(get(node, "/healthz")?.0 == 200);
        node.ip("link del minionet")?;
        eventually("readiness to come back", PATIENT, || {
            ensure!(get(node, "/readyz")?.0 == 200);
            anyhow::Ok(())
        })?;
        Ok(())
    })
}

fn bad_requests_get_clear_answers() -> Result<()> {
    cluster().nodes(1).run(|cluster| {
        let node = cluster.node(0);
        for (asked, status, part) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404, "/metrics, /healthz, /readyz"),
            // What root may know is not told to everybody.
            ("GET /state HTTP/1.1\r\nHost: x\r\n\r\n", 404, "/metrics"),
            ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd", 405, "use GET"),
            ("DELETE /healthz HTTP/1.0\r\n\r\n", 405, "use GET"),
            ("GET /healthz HTTP/1.0\r\n\r\n", 200, "ok"),
            ("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""),
            ("rubbish\r\n\r\n", 400, ""),
        ] {
            let (found, body) = request(node, asked)?;
            ensure!(found == status && body.contains(part), "{asked:?}: {found} {body}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
        // It hangs up while we still write, or says that this is too long.
        ensure!(request(node, &long).map_or(true, |(status, _)| status >= 400));
        let mode = node.exec(["stat", "-c", "%a", "/run/minionet/minionetd.sock"])?;
        ensure!(mode.trim() == "600", "the socket has the mode {mode}");
        ensure!(get(node, "/healthz")?.0 == 200);
        Ok(())
    })
}

fn who_says_nothing_keeps_nobody_out_for_long() -> Result<()> {
    cluster().nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            let stream = node.run(|| TcpStream::connect(ADDRESS))??;
            stream.set_read_timeout(Some(PATIENT))?;
            // Half of a request, and no more.
            (&stream).write_all(b"GET /healthz HTTP/1.1\r\nHost: ")?;
            crowd.push(stream);
        }
        // Commands are not concerned. They have patience for some seconds each.
        eventually("the daemon to answer a command", PATIENT, || {
            ensure!(report(node)?["source"] == "daemon");
            anyhow::Ok(())
        })?;
        ensure!(get(node, "/healthz")?.0 == 200);
        let mut stream = &crowd[0];
        let mut rest = String::new();
        match stream.read_to_string(&mut rest) {
            Ok(_) => ensure!(!rest.contains(" 200 "), "{rest}"),
            Err(error) => ensure!(error.kind() != ErrorKind::WouldBlock, "it is still open: {error}"),
        }
        Ok(())
    })
}

fn an_address_that_is_taken_is_a_warning() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(1).start_without_daemons()?;
    let node = cluster.node(0);
    let taken = node.run(|| TcpListener::bind(ADDRESS))??;
    node.start_daemon()?;
    eventually("the node to be ready", PATIENT, || node.ready())?;
    eventually("the warning", PATIENT, || {
        let (told, status) = text(node, &["status"])?;
        ensure!(status == 3 && told.contains("WARNING  metrics and health cannot be asked for:"), "{told}");
        ensure!(told.contains("Address already in use"), "{told}");
        anyhow::Ok(())
    })?;
    drop(taken);
    let log = node.log()?;
    ensure!(log.matches("cannot be asked for").count() == 1, "said more than once: {log}");
    Ok(())
}

fn metrics_move_to_a_socket_at_a_reload() -> Result<()> {
    cluster().nodes(1).run(|cluster| {
        let node = cluster.node(0);
        ensure!(get(node, "/readyz")?.0 == 200);
        let config = node.read("/etc/minionet/minionet.toml")?;
        node.write(
            "/etc/minionet/minionet.toml",
            format!("{config}metrics_address = \"/run/metrics.sock\"\n"),
        )?;
        node.signal_daemon(Signal::SIGHUP)?;
        let ask = || -> std::io::Result<String> {
            let mut stream = std::os::unix::net::UnixStream::connect("/run/metrics.sock")?;
            stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        // The file is there before somebody listens, and the address for a moment longer.
        eventually("the socket instead of the address", PATIENT, || {
            let answer = node.run(ask)??;
            let body = answer.split_once("\r\n\r\n").context("a body")?.1;
            ensure!(body == "ok\n", "{answer}");
            ensure!(get(node, "/healthz").is_err(), "the address is still served");
            anyhow::Ok(())
        })?;
        Ok(())
    })
}
