//! The maps of host ports follow the records, whatever happens to the table.

use std::fs::File;
use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Node, eventually};
use nix::sys::signal::Signal;
use serde_json::json;

use super::{PATIENT, Teller, ask_tcp, nobody_answers, pod_with, ports};

pub fn trials() -> Vec<Trial> {
    trials![
        flushed_host_ports_are_restored_by_the_daemon => [Need::Program("nft")],
        host_ports_outlive_the_daemon_and_are_made_without_it => [Need::Program("nft")],
        elements_of_nobody_are_removed => [Need::Program("nft")],
        a_del_at_work_gets_no_ports_back => [Need::Program("nft")],
    ]
}

fn flushed_host_ports_are_restored_by_the_daemon() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).config("audit_interval = \"1h\"").run(|cluster| {
        let node = cluster.node(0);
        let web = pod_with(node, "web", ports(&[(8080, 80, "tcp", ""), (53, 53, "udp", "172.20.0.1")]))?;
        let _server = Teller::start(&web, 80, "web")?;
        let before = node.exec(["nft", "--stateless", "list", "ruleset"])?;
        for damage in [
            "flush ruleset",
            "flush map inet minionet hostports4",
            "delete element inet minionet hostips4 { 172.20.0.1 . udp . 53 }",
            "flush set inet minionet hairpin4",
        ] {
            node.nft(damage)?;
            eventually("the host ports to be there again", PATIENT, || {
                let now = node.exec(["nft", "--stateless", "list", "ruleset"])?;
                ensure!(now == before, "{now} instead of {before}");
                anyhow::Ok(())
            })
            .context(damage)?;
            web.check().context(damage)?;
            ask_tcp(cluster.external(), (node.address(), 8080).into(), PATIENT).context(damage)?;
        }
        Ok(())
    })
}

fn host_ports_outlive_the_daemon_and_are_made_without_it() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let one = pod_with(node, "one", ports(&[(8080, 80, "tcp", "")]))?;
        node.kill_daemon(Signal::SIGKILL)?;
        let two = pod_with(node, "two", ports(&[(8081, 80, "tcp", "")]))?;
        let (_one, _two) = (Teller::start(&one, 80, "one")?, Teller::start(&two, 80, "two")?);
        let both_answer = || -> Result<()> {
            for (port, name) in [(8080, "one "), (8081, "two ")] {
                let answer = ask_tcp(cluster.external(), (node.address(), port).into(), PATIENT)?;
                ensure!(answer.starts_with(name), "{answer} instead of {name}");
            }
            Ok(())
        };
        both_answer()?;
        node.nft("flush ruleset")?;
        for pod in [&one, &two] {
            let error = format!("{:#}", pod.check().err().context("CHECK sees nothing")?);
            ensure!(error.contains("minionetd"), "{error}");
        }
        let error = pod_with(node, "three", ports(&[(8082, 80, "tcp", "")])).err();
        let error = format!("{:#}", error.context("ADD made a port that leads nowhere")?);
        ensure!(error.contains("\"code\": 11") && error.contains("minionetd"), "{error}");
        // DEL needs neither table nor daemon.
        let gone = pod_with(node, "four", serde_json::json!({}))?;
        gone.delete()?;

        node.start_daemon()?;
        eventually("the host ports to be back", PATIENT, || both_answer().and_then(|()| Ok(two.check()?)))?;
        one.delete()?;
        // A daemon that looks while DEL is at work puts the port back for a moment.
        let closed = || nobody_answers(cluster.external(), (node.address(), 8080).into());
        Ok(eventually("the port to be closed", PATIENT, closed)?)
    })
}

fn elements_of_nobody_are_removed() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let _web = pod_with(node, "web", ports(&[(8080, 80, "tcp", "")]))?;
        let before = maps(node)?;
        node.nft("add element inet minionet hostports4 { tcp . 9090 : 10.32.1.99 . 80 }")?;
        eventually("the element to be gone", PATIENT, || {
            ensure!(maps(node)? == before, "{} instead of {before}", maps(node)?);
            anyhow::Ok(())
        })?;
        Ok(())
    })
}

/// A DEL that waits for its last step, while the daemon mends the maps; then it is killed.
fn a_del_at_work_gets_no_ports_back() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).config("collect_interval = \"100ms\"").run(|cluster| {
        let node = cluster.node(0);
        let before = maps(node)?;
        let web = pod_with(node, "web", ports(&[(8080, 80, "tcp", ""), (53, 53, "udp", "")]))?;
        let with = maps(node)?;
        ensure!(with != before, "no port was made");
        let lock = node.run(|| File::options().write(true).open("/run/minionet/lock"))??;
        lock.lock()?;
        let mut call = node.command(node.programs().join("minionet"));
        let attachment = web.attachment();
        call.env("CNI_COMMAND", "DEL").env("CNI_CONTAINERID", &attachment.container);
        call.env("CNI_IFNAME", &attachment.interface).env("CNI_NETNS", &attachment.netns);
        let mut call = call.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let mut stdin = call.stdin.take().context("a pipe")?;
        stdin.write_all(json!({"cniVersion": "1.1.0", "name": "minionet"}).to_string().as_bytes())?;
        drop(stdin);
        let done = (|| {
            let gone = || -> Result<()> {
                ensure!(maps(node)? == before, "{} instead of {before}", maps(node)?);
                Ok(())
            };
            eventually("DEL to close the ports", PATIENT, gone)?;
            // The daemon looks after each change, and takes out what nobody has.
            for port in 9090..9095 {
                node.nft(&format!(
                    "add element inet minionet hostports4 {{ tcp . {port} : 10.32.1.99 . 80 }}"
                ))?;
                eventually("the daemon to look", PATIENT, gone)?;
            }
            ensure!(call.try_wait()?.is_none(), "DEL does not wait");
            anyhow::Ok(())
        })();
        call.kill()?;
        call.wait()?;
        done?;
        drop(lock);
        // The pod's namespace is there, and nobody calls again.
        eventually("the daemon to finish", PATIENT, || {
            let left =
                node.exec(["find", "/run/minionet/attachments", "/run/minionet/leases", "-mindepth", "1"])?;
            ensure!(left.is_empty(), "{left}");
            ensure!(web.exec(["ip", "-o", "link"])?.lines().count() == 1, "the interface is there");
            anyhow::Ok(())
        })?;
        Ok(())
    })
}

fn maps(node: &Node) -> Result<String> {
    Ok(node.exec(["nft", "list", "maps"])?)
}
