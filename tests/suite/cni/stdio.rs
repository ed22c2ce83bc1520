//! Standard input and output: what comes in any form, and one document out.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::Node;
use netns_testbed::cni::{Attachment, CniAnswer, CniCall};
use serde_json::{Value, json};

use super::support::*;

pub fn trials() -> Vec<Trial> {
    trials![
        version_repeats_the_callers_version,
        version_needs_no_input,
        version_does_not_wait_for_the_end_of_its_input,
        what_is_no_object_is_a_decoding_failure,
        input_that_cannot_be_read_is_an_io_failure,
        large_and_deep_input_has_a_bounded_cost,
        a_result_that_cannot_be_written_is_undone => [Need::Program("nft")],
        a_closed_output_is_noticed_before_anything_is_made => [Need::Program("nft")],
    ]
}

/// A call with files of the caller's choice; standard error is kept.
fn execute(
    node: &Node,
    verb: &str,
    attachment: &Attachment,
    connect: impl FnOnce(&mut Command),
) -> Result<CniAnswer> {
    let call = CniCall::new(verb, attachment, "/opt/cni/bin", Vec::new());
    let mut command = node.command(node.programs().join("minionet"));
    command.env_clear().envs(&call.environment);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    connect(&mut command);
    let start = Instant::now();
    let output = node.spawn(command)?.wait_with_output()?;
    Ok(CniAnswer { output, elapsed: start.elapsed() })
}

/// A call through a shell that connects the files, as in `exec "$0" <&-`.
fn through_shell(
    node: &Node,
    verb: &str,
    attachment: &Attachment,
    script: &str,
    input: &Value,
) -> Result<CniAnswer> {
    let call = CniCall::new(verb, attachment, "/opt/cni/bin", Vec::new());
    let mut command = node.command("sh");
    command.args(["-c", script]).arg(node.programs().join("minionet"));
    command.env_clear().env("PATH", "/usr/bin:/bin").envs(&call.environment);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = node.spawn(command)?;
    // A script that closes the input makes this fail, which is what it is for.
    let _ = child.stdin.take().context("a pipe")?.write_all(input.to_string().as_bytes());
    let output: Output = child.wait_with_output()?;
    Ok(CniAnswer { output, elapsed: start.elapsed() })
}

/// The answer to VERSION.
fn is_report(answer: &CniAnswer, version: &str) -> Result<()> {
    let expected = json!({"cniVersion": version, "supportedVersions": VERSIONS});
    let report = succeeded(answer)?;
    ensure!(report == expected, "{report}");
    Ok(())
}

/// Case 3, for every version and one that nobody knows.
fn version_repeats_the_callers_version() -> Result<()> {
    on_node(|node| {
        let dummy = Attachment { interface: "dummy".into(), ..attachment("dummy", "dummy") };
        for version in VERSIONS.into_iter().chain(["9.9.9"]) {
            let input = json!({"cniVersion": version});
            is_report(&call(node, "VERSION", &dummy, &input)?, version)?;
        }
        is_report(&call(node, "VERSION", &dummy, &json!({"CNIVERSION": "0.4.0"}))?, "0.4.0")?;
        is_report(&call(node, "VERSION", &dummy, &conf("1.0.0"))?, "1.0.0")
    })
}

/// Cases 4 and 5.
fn version_needs_no_input() -> Result<()> {
    on_node(|node| {
        let nobody = attachment("", "");
        for input in
            ["", "garbage", "[]", "{", "{\"cniVersion\": 1}", "{\"cniVersion\": \"\"}", "null", "\u{0}"]
        {
            let answer = node.cni_exec("VERSION", &nobody, input, |mut call| {
                call.environment.retain(|name, _| name == "CNI_COMMAND");
                call
            })?;
            is_report(&answer, "1.1.0").with_context(|| input.to_owned())?;
        }
        let closed = through_shell(node, "VERSION", &nobody, r#"exec "$0" <&-"#, &json!(null))?;
        is_report(&closed, "1.1.0")?;
        let directory = execute(node, "VERSION", &nobody, |command| {
            command.stdin(File::open("/").map_or_else(|_| Stdio::null(), Stdio::from));
        })?;
        is_report(&directory, "1.1.0")
    })
}

/// Case 4: an input that is never closed.
fn version_does_not_wait_for_the_end_of_its_input() -> Result<()> {
    on_node(|node| {
        for input in ["", "{\"cniVersion\": \"0.3.1\"}"] {
            let (reader, mut writer) = std::io::pipe()?;
            writer.write_all(input.as_bytes())?;
            let answer = execute(node, "VERSION", &attachment("", ""), |command| {
                command.stdin(reader);
            })?;
            // A wait would have had no end.
            is_report(&answer, if input.is_empty() { "1.1.0" } else { "0.3.1" })?;
            drop(writer);
        }
        Ok(())
    })
}

/// Case 12, for every verb that reads a configuration.
fn what_is_no_object_is_a_decoding_failure() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let good = conf("1.1.0").to_string();
        let bad = [
            String::new(),
            " \n".into(),
            "{\"cniVersion\":".into(),
            "[]".into(),
            "\"text\"".into(),
            "3".into(),
            "true".into(),
            format!("{good}{good}"),
            format!("{good} x"),
            format!("\u{feff}{good}"),
            format!("{good}\u{0}"),
            good.replace('"', "'"),
            format!("[{good}]"),
        ];
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            for input in &bad {
                let answer = node.cni_exec(verb, &sandbox.attachment, input.as_str(), |call| call)?;
                fails(&answer, 6, &[]).with_context(|| format!("{verb} with {input:?}"))?;
            }
            let invalid =
                node.cni_exec(verb, &sandbox.attachment, b"{\"name\": \"\xff\xfe\"}", |call| call)?;
            fails(&invalid, 6, &[]).with_context(|| format!("{verb} without UTF-8"))?;
            for input in ["null", "{}"] {
                let answer = node.cni_exec(verb, &sandbox.attachment, input, |call| call)?;
                fails(&answer, 7, &["name"]).with_context(|| format!("{verb} with {input}"))?;
            }
            let closed = through_shell(node, verb, &sandbox.attachment, r#"exec "$0" <&-"#, &json!(null))?;
            fails(&closed, 6, &[]).with_context(|| format!("{verb} with a closed input"))?;
        }
        sandbox.has(&["lo"])?;
        Ok(())
    })
}

/// Case 15.
fn input_that_cannot_be_read_is_an_io_failure() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let directory = File::open("/")?;
            let answer = execute(node, verb, &sandbox.attachment, |command| {
                command.stdin(directory);
            })?;
            fails(&answer, 5, &["stdin"]).context(verb)?;
        }
        Ok(())
    })
}

/// Case 14: 16 MiB are read and no more; deep nesting is no overflow of the stack.
fn large_and_deep_input_has_a_bounded_cost() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let large = conf_with(json!({"filler": "x".repeat(64 << 20)}));
        // The memory of the process is limited to far less than a careless reader would need.
        let script = r#"ulimit -v 200000; exec "$0""#;
        let answer = through_shell(node, "ADD", &sandbox.attachment, script, &large)?;
        fails(&answer, 6, &["larger"])?;
        let fits = conf_with(json!({"filler": "x".repeat(1 << 20)}));
        add(node, &sandbox.attachment, &fits)?;
        del(node, &sandbox.attachment, &fits)?;
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = format!("{}1{}", open.repeat(20_000), close.repeat(20_000));
            for input in [nested.clone(), format!("{{\"name\": \"n\", \"x\": {nested}}}")] {
                let answer = node.cni_exec("ADD", &sandbox.attachment, input, |call| call)?;
                fails(&answer, 6, &[])?;
            }
        }
        sandbox.has(&["lo"])?;
        Ok(())
    })
}

/// Case 49, its last step: a full device, and a reader that is gone.
fn a_result_that_cannot_be_written_is_undone() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let before = HostState::of(node)?;
        let script = r#"exec "$0" >/dev/full"#;
        let full = through_shell(node, "ADD", &sandbox.attachment, script, &conf("1.1.0"))?;
        ensure!(full.output.status.code().is_some_and(|code| code != 0), "{}", full.output.status);
        sandbox.has(&["lo"])?;
        before.returns(node)?;

        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let (input, mut config) = std::io::pipe()?;
        config.write_all(conf("1.1.0").to_string().as_bytes())?;
        drop(config);
        let gone = execute(node, "ADD", &sandbox.attachment, |command| {
            command.stdin(input).stdout(writer);
        })?;
        ensure!(gone.output.status.code().is_some_and(|code| code != 0), "{}", gone.output.status);
        sandbox.has(&["lo"])?;
        before.returns(node)?;
        // And the container can be attached after all.
        add(node, &sandbox.attachment, &conf("1.1.0"))?;
        Ok(())
    })
}

/// A result that nobody can read would be an attachment that nobody knows of; DEL has nothing
/// to say and does not care.
fn a_closed_output_is_noticed_before_anything_is_made() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let before = HostState::of(node)?;
        let closed = r#"exec "$0" >&-"#;
        let answer = through_shell(node, "ADD", &sandbox.attachment, closed, &conf("1.1.0"))?;
        ensure!(!answer.success(), "a result was lost in silence");
        sandbox.has(&["lo"])?;
        before.is_that_of(node)?;

        add(node, &sandbox.attachment, &conf("1.1.0"))?;
        let all_closed = r#"exec "$0" >&- 2>&-"#;
        let answer = through_shell(node, "DEL", &sandbox.attachment, all_closed, &conf("1.1.0"))?;
        ensure!(answer.success(), "{}", answer.output.status);
        before.returns(node)?;
        // Thrown away on purpose, by opening it for writing: that is the caller's business.
        let unwanted = r#"exec "$0" >/dev/null"#;
        let answer = through_shell(node, "ADD", &sandbox.attachment, unwanted, &conf("1.1.0"))?;
        ensure!(answer.success(), "{:?}", texts(&answer));
        Ok(())
    })
}
