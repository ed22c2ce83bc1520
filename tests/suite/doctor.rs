//! The doctor: finds nothing on a healthy node, and names what is wrong on others.

use std::process::Stdio;

use anyhow::Result;
use libtest_mimic::Trial;
use minionet_tests::trials;
use netns_testbed::Node;

pub fn trials() -> Vec<Trial> {
    trials![]
}

/// What a command of the operator did.
#[derive(Debug)]
pub struct Spoken {
    /// Its exit status.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// Runs `minionetd` with these words, whatever it ends with.
pub fn minionetd(node: &Node, words: &[&str]) -> Result<Spoken> {
    let mut command = node.command(node.programs().join("minionetd"));
    // As in a shell that somebody has just logged in to.
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = node.spawn(command)?.wait_with_output()?;
    let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    Ok(Spoken { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) })
}
