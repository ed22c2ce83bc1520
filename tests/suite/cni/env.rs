//! The environment: verbs, identifiers, names, `CNI_ARGS`.

use anyhow::{Context, Result, ensure};
use minionet_tests::{Need, Trial, trials};
use netns_testbed::Node;
use netns_testbed::cni::CniCall;
use serde_json::json;

use super::support::*;

pub fn trials() -> Vec<Trial> {
    trials![
        without_a_verb_it_introduces_itself,
        verbs_are_those_of_the_specification,
        missing_variables_are_named_all_at_once => [Need::Program("nft")],
        container_ids_are_checked => [Need::Program("nft")],
        interface_names_are_checked => [Need::Program("nft")],
        names_with_a_meaning_for_the_kernel_are_never_another_interface => [Need::Program("nft")],
        long_identifiers_work => [Need::Program("nft")],
        cni_args_are_read_strictly_by_add_alone => [Need::Program("nft")],
        unknown_variables_do_not_matter,
    ]
}

/// Case 1.
fn without_a_verb_it_introduces_itself() -> Result<()> {
    on_node(|node| {
        let about = |adjust: fn(CniCall) -> CniCall| -> Result<()> {
            let answer = call_with(node, "ADD", &attachment("c1", ""), &json!(null), adjust)?;
            let (stdout, stderr) = texts(&answer);
            ensure!(answer.success() && stdout.is_empty(), "{stdout}{stderr}");
            ensure!(stderr.contains("minionet"), "{stderr}");
            ensure!(VERSIONS.iter().all(|version| stderr.contains(version)), "{stderr}");
            Ok(())
        };
        about(|call| call.without_env("CNI_COMMAND"))?;
        about(|call| call.env("CNI_COMMAND", ""))?;
        about(|mut call| {
            call.environment.clear();
            call
        })
    })
}

/// Case 2: also in another case, and with blanks around.
fn verbs_are_those_of_the_specification() -> Result<()> {
    on_node(|node| {
        let sandbox = Sandbox::new(node, "c1")?;
        for verb in ["NOPE", "add", "ADD ", " DEL", "ADD\n", "UPDATE", "\u{fffd}"] {
            let answer = call(node, verb, &sandbox.attachment, &conf("1.1.0"))?;
            fails(&answer, 4, &["CNI_COMMAND", verb.trim()]).with_context(|| format!("{verb:?}"))?;
        }
        sandbox.has(&["lo"])?;
        Ok(())
    })
}

/// Cases 6, 7, 8 and 83: what each verb cannot do without, empty being the same as absent.
fn missing_variables_are_named_all_at_once() -> Result<()> {
    const ALL: [&str; 3] = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];
    on_node(|node| {
        let before = HostState::of(node)?;
        let sandbox = Sandbox::new(node, "c1")?;
        let needs: [(&str, &[&str]); 2] = [("ADD", &ALL), ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"])];
        for (verb, required) in needs {
            for missing in 1..8_usize {
                let missing: Vec<_> = (0..3).filter(|bit| missing >> bit & 1 == 1).map(|i| ALL[i]).collect();
                let named: Vec<_> = missing.iter().copied().filter(|name| required.contains(name)).collect();
                let with = |adjust: fn(CniCall, &str) -> CniCall| {
                    let adjust = |call| missing.iter().fold(call, |call, name| adjust(call, name));
                    call_with(node, verb, &sandbox.attachment, &conf("1.1.0"), adjust)
                };
                for answer in
                    [with(|call, name| call.without_env(name))?, with(|call, name| call.env(name, ""))?]
                {
                    let context = || format!("{verb} without {missing:?}");
                    if named.is_empty() {
                        silent(&answer).with_context(context)?;
                        continue;
                    }
                    let failure = fails(&answer, 4, &named).with_context(context)?;
                    let others = ALL.iter().filter(|name| !named.contains(name));
                    for other in others {
                        ensure!(!failure.text.contains(other), "{other} is not missing: {failure:?}");
                    }
                }
            }
        }
        before.is_that_of(node)?;

        // Optional by the specification: the path, for a plugin that executes nothing.
        let answer = call_with(node, "ADD", &sandbox.attachment, &conf("1.1.0"), |call| {
            call.without_env("CNI_PATH").without_env("CNI_ARGS")
        })?;
        succeeded(&answer)?;
        del(node, &sandbox.attachment, &conf("1.1.0"))?;
        before.returns(node)
    })
}

/// Case 9: nothing that could lead out of the state directory, or confuse anybody.
fn container_ids_are_checked() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let mut sandbox = Sandbox::new(node, "c1")?;
        let ids =
            ["a/b", "../../etc/c1", "-a", ".a", "_a", "a b", "1234%%%", "a\nb", "a\n", "é", "a:b", "a;b"];
        for id in ids {
            sandbox.attachment.container = id.to_owned();
            for verb in ["ADD", "DEL"] {
                let answer = call(node, verb, &sandbox.attachment, &conf("1.1.0"))?;
                fails(&answer, 4, &["CNI_CONTAINERID", id]).with_context(|| format!("{verb} {id:?}"))?;
            }
        }
        sandbox.has(&["lo"])?;
        before.is_that_of(node)
    })
}

/// Case 11: 15 octets at most, and nothing that the kernel refuses.
fn interface_names_are_checked() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let mut sandbox = Sandbox::new(node, "c1")?;
        let bad = ["abcdefghijklmnop", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\n", "éééééééé", "a\u{a0}b"];
        for name in bad {
            sandbox.attachment.interface = name.to_owned();
            for verb in ["ADD", "DEL"] {
                let answer = call(node, verb, &sandbox.attachment, &conf("1.1.0"))?;
                fails(&answer, 4, &["CNI_IFNAME"]).with_context(|| format!("{verb} {name:?}"))?;
            }
        }
        sandbox.has(&["lo"])?;
        before.is_that_of(node)?;

        for good in ["abcdefghijklmno", "a", "net-1.2_3", "@", "ééééééé"] {
            sandbox.attachment.interface = good.to_owned();
            let result = add(node, &sandbox.attachment, &conf("1.1.0")).with_context(|| good.to_owned())?;
            ensure!(result["interfaces"][1]["name"] == good, "{result}");
            // iproute2 escapes nothing and has no trouble with any of these.
            sandbox.namespace.exec(["ip", "link", "show", "dev", good])?;
            del(node, &sandbox.attachment, &conf("1.1.0"))?;
        }
        before.returns(node)
    })
}

/// The kernel makes `eth0` of `eth%d`, and has settings for all interfaces under `all` and
/// `default`: either the interface has the name that was asked for, or ADD fails.
fn names_with_a_meaning_for_the_kernel_are_never_another_interface() -> Result<()> {
    on_dual_stack_node(|node| {
        let before = HostState::of(node)?;
        let mut sandbox = Sandbox::new(node, "c1")?;
        for name in ["eth%d", "%d", "100%", "%s", "all", "default", "lo"] {
            sandbox.attachment.interface = name.to_owned();
            let answer = call(node, "ADD", &sandbox.attachment, &conf("1.1.0"))?;
            let failure = failure(&answer).with_context(|| name.to_owned())?;
            ensure!(failure.text.contains(name), "{failure:?}");
            sandbox.has(&["lo"])?;
            before.returns(node).with_context(|| name.to_owned())?;
            // As after every failure, a runtime calls DEL.
            let answer = call(node, "DEL", &sandbox.attachment, &conf("1.1.0"))?;
            ensure!(answer.success() || name.contains('%'), "{:?}", texts(&answer));
        }
        Ok(())
    })
}

/// Case 10: neither specification nor libcni limit them; file names and interface names have
/// limits.
fn long_identifiers_work() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let mut sandbox = Sandbox::new(node, "c1")?;
        let long = conf_with(json!({"name": "n".repeat(300)}));
        for length in [64, 255, 256, 300, 4096, 100_000] {
            sandbox.attachment.container = "c".repeat(length);
            add(node, &sandbox.attachment, &long).with_context(|| format!("{length} characters"))?;
            // Two that differ in the last character only are two.
            let mut other = sandbox.attachment.clone();
            other.container.replace_range(length - 1.., "d");
            del(node, &other, &long)?;
            ensure!(sandbox.links()?.contains(&"eth0".to_owned()), "the attachment of another went");
            del(node, &sandbox.attachment, &long)?;
        }
        before.returns(node)
    })
}

/// Case 24; DEL does not fail because of them, for it has no use for them.
fn cni_args_are_read_strictly_by_add_alone() -> Result<()> {
    on_node(|node| {
        let before = HostState::of(node)?;
        let mut sandbox = Sandbox::new(node, "c1")?;
        let bad = [
            "FOO=BAR",
            "FOO",
            "IgnoreUnknown=1;",
            ";IgnoreUnknown=1",
            "A=B=C;IgnoreUnknown=1",
            "=",
            "IgnoreUnknown=0;FOO=BAR",
        ];
        for args in bad {
            sandbox.attachment.args = args.to_owned();
            let answer = call(node, "ADD", &sandbox.attachment, &conf("1.1.0"))?;
            fails(&answer, 4, &["CNI_ARGS"]).with_context(|| args.to_owned())?;
            del(node, &sandbox.attachment, &conf("1.1.0")).with_context(|| args.to_owned())?;
        }
        sandbox.has(&["lo"])?;
        before.is_that_of(node)?;

        let kubernetes =
            "K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=1";
        let good = [
            "",
            "IgnoreUnknown=1;FOO=BAR",
            "FOO=BAR;IgnoreUnknown=true",
            "IgnoreUnknown=True;FOO=",
            "IgnoreUnknown=TRUE;FOO=",
            "MAC=",
            kubernetes,
            &format!("{kubernetes};FOO=BAR;IgnoreUnknown=1"),
        ];
        for args in good {
            sandbox.attachment.args = args.to_owned();
            add(node, &sandbox.attachment, &conf("1.1.0")).with_context(|| args.to_owned())?;
            del(node, &sandbox.attachment, &conf("1.1.0"))?;
        }
        before.returns(node)
    })
}

/// Runtimes pass their whole environment on, and later versions of libcni more of their own.
fn unknown_variables_do_not_matter() -> Result<()> {
    on_node(|node: &Node| {
        let sandbox = Sandbox::new(node, "c1")?;
        let answer = call_with(node, "ADD", &sandbox.attachment, &conf("1.1.0"), |call| {
            call.env("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
                .env("CNI_SOMETHING_NEW", "1")
                .env("RUST_BACKTRACE", "full")
                .env("RUST_LOG", "trace")
                .env("LANG", "tr_TR.UTF-8")
                .env("CNI_PATH", "/nowhere:relative::/opt/cni/bin")
        })?;
        succeeded(&answer)?;
        Ok(())
    })
}
