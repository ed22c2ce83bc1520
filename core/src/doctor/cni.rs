//! The container runtime's configurations, and the plugin.

use super::facts::{CniFile, Facts};
use super::{Findings, some};
use crate::constants::CNI_CONF_FILE;

/// The type of our plugin.
const TYPE: &str = "minionet";

/// Judges them.
pub fn examine(facts: &Facts, findings: &mut Findings) {
    configurations(facts, findings);
    plugin(facts, findings);
}

fn configurations(facts: &Facts, findings: &mut Findings) {
    let directory = &facts.cni.directory;
    let files = match &facts.cni.files {
        Ok(files) => files,
        Err(why) if facts.config.is_ok() => {
            findings.error(
                "cni-config",
                why,
                "make the directory, or set cni_conf_dir to the one that the container runtime reads",
            );
            return;
        }
        Err(_) => {
            findings.skipped("cni-config", "the settings cannot be used");
            return;
        }
    };
    let ours = |file: &CniFile| file.types.as_ref().is_ok_and(|types| types.iter().any(|kind| kind == TYPE));
    let Some(own) = files.iter().position(ours) else {
        findings.error(
            "cni-config",
            format!("no configuration in {directory} has the plugin {TYPE}: the container runtime has no network of ours"),
            format!("minionetd writes {CNI_CONF_FILE} once the overlay is ready: see the other findings, and journalctl -u minionetd"),
        );
        return;
    };
    if own > 0 {
        let before: Vec<String> = files[..own].iter().map(|file| file.name.clone()).collect();
        findings.error(
            "cni-config",
            format!(
                "the container runtime takes {}, which comes before {} in {directory}",
                before[0], files[own].name
            ),
            format!(
                "remove it, if that network is not wanted any more: rm {directory}/{}",
                before.join(&format!(" {directory}/"))
            ),
        );
    }
    let twice: Vec<String> = files.iter().skip(own + 1).filter(|f| ours(f)).map(|f| f.name.clone()).collect();
    let broken =
        files.iter().filter_map(|file| Some(format!("{}: {}", file.name, file.types.as_ref().err()?)));
    let broken: Vec<String> = broken.collect();
    if !broken.is_empty() {
        findings.warning(
            "cni-config",
            format!("a configuration in {directory} cannot be read: {}", some(&broken)),
            "remove or mend it: some runtimes report no network at all because of it",
        );
    }
    // A list of the loopback plugin alone is no network.
    let is_other = |file: &&CniFile| {
        !ours(file) && file.types.as_ref().is_ok_and(|types| types.iter().any(|kind| kind != "loopback"))
    };
    let others: Vec<String> = files.iter().skip(own).filter(is_other).map(|f| f.name.clone()).collect();
    if !others.is_empty() {
        findings.note(
            "cni-config",
            format!("other networks come after ours, and are not used: {}", some(&others)),
        );
    }
    if !twice.is_empty() {
        findings.note("cni-config", format!("{} is ours as well, and not used", some(&twice)));
    }
    findings.otherwise_ok("cni-config", format!("{} comes first in {directory}", files[own].name));
}

fn plugin(facts: &Facts, findings: &mut Findings) {
    let plugin = &facts.cni.plugin;
    let path = &plugin.path;
    let install = format!(
        "install the plugin minionet {} there; the option --cni-bin-dir names another directory",
        facts.version
    );
    if !plugin.present {
        findings.error("cni-plugin", format!("{path} is missing: no pod can be started"), install);
        return;
    }
    if !plugin.executable {
        findings.error("cni-plugin", format!("{path} may not be executed"), format!("chmod 755 {path}"));
        return;
    }
    match &plugin.interpreter {
        Err(why) => {
            findings.error("cni-plugin", format!("{path} is no program of this machine: {why}"), install);
            return;
        }
        Ok(Some(loader)) => findings.warning(
            "cni-plugin",
            format!("{path} is not static: it needs {loader} and libraries"),
            "install the static program, which runs on any image",
        ),
        Ok(None) => {}
    }
    match &plugin.version {
        Err(why) => findings.error("cni-plugin", format!("{path} does not say its version: {why}"), install),
        Ok(version) if *version != facts.version => findings.warning(
            "cni-plugin",
            format!("{path} is of version {version}, minionetd of {}", facts.version),
            "install both of the same version",
        ),
        Ok(_) => {}
    }
    findings.otherwise_ok("cni-plugin", format!("{path} {}", facts.version));
}
