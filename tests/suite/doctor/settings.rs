//! Where the doctor has its settings from, and what the plugin is.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::{Cluster, ENVIRONMENT_FILE, eventually};
use nix::sys::signal::Signal;

use super::{PATIENT, bad, examine, examine_with, expect_in, minionetd, wait_for_answers};

pub fn trials() -> Vec<Trial> {
    trials![
        the_daemons_own_settings_are_examined,
        a_plugin_that_is_missing_foreign_or_not_executable_is_named,
    ]
}

fn the_daemons_own_settings_are_examined() -> Result<()> {
    // By a flag, a variable, and a file: a shell that examines has none of the first two.
    let builder = Cluster::builder("cncfdemo").nodes(2).daemon_args(&["--vni", "77"]);
    builder.env("MINIONET_PORT", "8472").config("pod_network = \"10.64.0.0/12\"").run(|cluster| {
        wait_for_answers(cluster)?;
        let node = cluster.node(0);
        eventually("the daemon to be asked", PATIENT, || {
            let text = minionetd(node, &["doctor", "--all"])?.out;
            ensure!(text.contains("UDP port 8472 with VNI 77 is ours"), "{text}");
            anyhow::Ok(())
        })?;
        // Without the daemon, the service's file is what there is; the flag of its unit is not known.
        node.kill_daemon(Signal::SIGKILL)?;
        ensure!(node.read(ENVIRONMENT_FILE)?.contains("MINIONET_PORT=8472"));
        let (document, code) = examine(node)?;
        expect_in(&document, code, "device", "error", &["VNI is 77 instead of 4097"])?;
        let (document, code) = examine_with(node, &["--vni", "77"])?;
        ensure!(!bad(&document).iter().any(|f| f["check"] == "device"), "{code:?} {document:#}");
        Ok(())
    })
}

fn a_plugin_that_is_missing_foreign_or_not_executable_is_named() -> Result<()> {
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        let plugin = node.programs().join("minionet").display().to_string();
        let directory = "/run/plugins";
        let path = format!("{directory}/minionet");
        let expect = |verdict: &str, words: &[&str]| -> Result<()> {
            let (document, code) = examine_with(node, &["--cni-bin-dir", directory])?;
            expect_in(&document, code, "cni-plugin", verdict, words)
        };
        node.exec(["mkdir", directory])?;
        expect("error", &["/run/plugins/minionet is missing"])?;
        node.exec(["cp", &plugin, &path])?;
        node.exec(["chmod", "644", &path])?;
        expect("error", &["may not be executed", "chmod 755"])?;
        node.write(&path, "#!/bin/sh\necho CNI minionet plugin v0.0.1\n")?;
        node.exec(["chmod", "755", &path])?;
        expect("error", &["no program of this machine"])?;
        // A program that needs the libraries of its system, and says something else.
        node.exec(["cp", "/bin/true", &path])?;
        expect("warning", &["not static"])?;
        expect("error", &["does not say its version"])?;
        Ok(())
    })
}
