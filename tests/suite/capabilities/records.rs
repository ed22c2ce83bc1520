//! The maps of host ports follow the records, whatever happens to the table.

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::{Cluster, Node, eventually};
use nix::sys::signal::Signal;

use super::{PATIENT, Teller, ask_tcp, nobody_answers, pod_with, ports};

pub fn trials() -> Vec<Trial> {
    trials![
        flushed_host_ports_are_restored_by_the_daemon => [Need::Program("nft")],
        host_ports_outlive_the_daemon_and_are_made_without_it => [Need::Program("nft")],
        elements_of_nobody_are_removed => [Need::Program("nft")],
    ]
}

fn flushed_host_ports_are_restored_by_the_daemon() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).config("audit_interval = \"1h\"").run(|cluster| {
        let node = cluster.node(0);
        let web = pod_with(node, "web", ports(&[(8080, 80, "tcp", ""), (53, 53, "udp", "172.20.0.1")]))?;
        let _server = Teller::start(&web, 80, "web")?;
        let before = node.exec(["nft", "list", "ruleset"])?;
        for damage in [
            "flush ruleset",
            "flush map inet minionet hostports4",
            "delete element inet minionet hostips4 { 172.20.0.1 . udp . 53 }",
            "flush set inet minionet hairpin4",
        ] {
            node.nft(damage)?;
            eventually("the host ports to be there again", PATIENT, || {
                let now = node.exec(["nft", "list", "ruleset"])?;
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
        nobody_answers(cluster.external(), (node.address(), 8080).into())
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

fn maps(node: &Node) -> Result<String> {
    Ok(node.exec(["nft", "list", "maps"])?)
}
