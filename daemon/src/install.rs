//! `minionetd install` and `minionetd uninstall`.
//!
//! What to do is decided in `minionet_core::install`; here the disk is looked at, the operator is
//! told, and the steps are taken.

mod disk;
mod payload;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use clap::ArgMatches;
use minionet_core::constants::{RUN_DIR, STATE_DIR};
use minionet_core::install::{self as core, Item, MANIFEST, Manifest, Step};
use minionet_pods::heartbeat;

use self::disk::Root;
use self::payload::{Layout, Payload, REGISTRATION, SERVICE, payloads};
use crate::output;

/// What makes a node a minion, and what makes it none: conditions of the unit.
const MINION: &str = "/etc/sysconfig/kubernetes-minions";
const MASTER: &str = "/etc/sysconfig/kubernetes-masters";

/// There where systemd is the init system (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// Installs.
///
/// # Errors
/// When something is in the way, or the system refuses.
pub fn install(matches: &ArgMatches) -> Result<()> {
    let root = root(matches)?;
    let package = matches.get_flag("package");
    let layout = if package { Layout::package() } else { layout(matches) };
    let daemon = std::env::current_exe().context("cannot find this program's own file")?;
    let plugin = plugin(matches, &root, &layout, &daemon)?;
    let daemon = fs::read(&daemon).with_context(|| format!("cannot read {}", daemon.display()))?;
    let mut payloads = payloads(&layout, daemon, plugin);
    // What somebody else starts, somebody else remembers.
    let only_plugin = matches.get_flag("only-plugin");
    if only_plugin {
        payloads.truncate(1);
    }
    let remember = !package && !only_plugin;
    let items: Vec<Item> = payloads.iter().map(|payload| payload.item.clone()).collect();

    let last = if remember { manifest(&root)? } else { None };
    let disk = observe(&root, &items, last.as_ref())?;
    let plan = core::plan(&items, &disk, last.as_ref(), env!("CARGO_PKG_VERSION"), matches.get_flag("force"))
        .map_err(|conflicts| {
            let lines: Vec<String> = conflicts.iter().map(core::Conflict::to_string).collect();
            anyhow!("nothing is changed:\n{}", lines.join("\n"))
        })?;
    let dry_run = matches.get_flag("dry-run");
    if !dry_run && remember {
        root.write(&manifest_path(), &plan.manifest.to_text())?;
    }
    take(&root, &plan.steps, &payloads, dry_run)?;
    output::say(&summary(&plan.steps, plan.unchanged, dry_run))?;
    if dry_run || !remember { Ok(()) } else { start(&root, matches.get_flag("now"), &layout) }
}

/// Uninstalls.
///
/// # Errors
/// When the daemon runs and cannot be stopped, or the system refuses.
pub fn uninstall(matches: &ArgMatches) -> Result<()> {
    let root = root(matches)?;
    let dry_run = matches.get_flag("dry-run");
    // Before the disk is looked at: the link of a unit that is disabled would keep its directory.
    if !dry_run && root.is_host() {
        stop()?;
    }
    let mut manifest = match manifest(&root)? {
        Some(manifest) => manifest,
        None => assumed()?,
    };
    // Whoever made it, it is empty once the manifest and the daemon's state are gone.
    manifest.directories.insert(STATE_DIR.to_owned());
    let path = manifest_path();
    let mut paths: Vec<&str> = manifest.files.keys().map(String::as_str).collect();
    paths.extend(manifest.directories.iter().map(String::as_str));
    paths.push(&path);
    let disk = root.observe(paths)?;
    let removal = core::remove(&manifest, &disk, &[&path], matches.get_flag("force"));
    take(&root, &removal.steps, &[], dry_run)?;
    output::say(&summary(&removal.steps, 0, dry_run))?;
    if !dry_run && root.is_host() && Path::new(SYSTEMD).exists() {
        systemctl(&["daemon-reload"])?;
    }
    Ok(())
}

fn root(matches: &ArgMatches) -> Result<Root> {
    let named = matches.get_one::<PathBuf>("root").map_or(Path::new("/"), PathBuf::as_path);
    Root::open(named)
}

fn layout(matches: &ArgMatches) -> Layout {
    let dir = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    Layout {
        bin_dir: dir("bin-dir"),
        cni_bin_dir: dir("cni-bin-dir"),
        cni_conf_dir: dir("cni-conf-dir"),
        enable: !matches.get_flag("no-enable"),
        package: false,
    }
}

/// The plugin's content: the one that is named, the one beside this program, or the one that is
/// installed already.
fn plugin(matches: &ArgMatches, root: &Root, layout: &Layout, daemon: &Path) -> Result<Vec<u8>> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read the plugin {}", path.display()));
    if let Some(named) = matches.get_one::<PathBuf>("plugin") {
        return read(named);
    }
    let beside = daemon.with_file_name("minionet");
    if beside.is_file() {
        return read(&beside);
    }
    let installed = format!("{}/minionet", layout.cni_bin_dir);
    root.read(&installed)?.with_context(|| {
        format!(
            "the plugin is neither {} nor {installed}: unpack both programs into one directory, or name it with \
             --plugin",
            beside.display()
        )
    })
}

fn manifest_path() -> String {
    format!("{STATE_DIR}/{MANIFEST}")
}

fn manifest(root: &Root) -> Result<Option<Manifest>> {
    let path = manifest_path();
    let Some(text) = root.read(&path)? else { return Ok(None) };
    let manifest = Manifest::parse(&String::from_utf8_lossy(&text))
        .with_context(|| format!("{path}, which says what was installed"))?;
    Ok(Some(manifest))
}

/// What this program would have installed, where it is not remembered what was.
fn assumed() -> Result<Manifest> {
    output::say(&format!(
        "{} is missing: what this version installs by default is looked for",
        manifest_path()
    ))?;
    let items: Vec<Item> =
        payloads(&Layout::local(), Vec::new(), Vec::new()).into_iter().map(|payload| payload.item).collect();
    Ok(Manifest::assumed(env!("CARGO_PKG_VERSION"), &items))
}

fn observe(root: &Root, items: &[Item], last: Option<&Manifest>) -> Result<core::Disk> {
    let earlier = last.into_iter().flat_map(|manifest| manifest.files.keys());
    root.observe(items.iter().map(|item| &item.path).chain(earlier).map(String::as_str))
}

fn take(root: &Root, steps: &[Step], payloads: &[Payload], dry_run: bool) -> Result<()> {
    for step in steps {
        if !dry_run {
            root.take(step, payloads)?;
        }
        output::say(&step.to_string())?;
    }
    Ok(())
}

fn summary(steps: &[Step], unchanged: usize, dry_run: bool) -> String {
    let changes = steps.iter().filter(|step| step.changes()).count();
    let kept = steps.len() - changes;
    let done = if dry_run { "to be done; nothing was" } else { "done" };
    let kept = if kept > 0 { format!(", {kept} kept") } else { String::new() };
    format!("{changes} steps {done}{kept}, {unchanged} as they should be")
}

/// Tells systemd, and the operator what is left to do.
fn start(root: &Root, now: bool, layout: &Layout) -> Result<()> {
    let next = format!("systemctl restart {SERVICE}");
    if !root.is_host() {
        return Ok(());
    }
    if !Path::new(SYSTEMD).exists() {
        return output::say(&format!("systemd does not run here: start {}/minionetd run", layout.bin_dir));
    }
    systemctl(&["daemon-reload"])?;
    if !now {
        return output::say(&format!("next: {next}"));
    }
    systemctl(&["restart", SERVICE])?;
    // A condition that does not hold is no failure to systemd.
    if systemctl(&["show", "--value", "--property=ConditionResult", SERVICE])? == "no" {
        bail!(
            "everything is installed, and the service was not started: a node is a minion where {MINION} is, as with \
             the line CLUSTER_NAME=<cluster>, and {MASTER} is not; then: systemctl start {SERVICE}"
        );
    }
    output::say(&format!("done: {next}"))
}

/// Stops the service; a daemon that somebody else started has to be stopped by them.
fn stop() -> Result<()> {
    if Path::new(SYSTEMD).exists() {
        // Where a unit was never loaded, there is nothing to stop. The first goes while there still
        // is a daemon, and with the link that enabled it, which is not installed.
        let _not_loaded = systemctl(&["disable", "--now", REGISTRATION]);
        let _not_loaded = systemctl(&["stop", SERVICE]);
    }
    if heartbeat::is_alive(Path::new(RUN_DIR)) {
        bail!("minionetd runs: stop it first");
    }
    Ok(())
}

/// Runs `systemctl`; what it prints comes back.
fn systemctl(words: &[&str]) -> Result<String> {
    let line = format!("systemctl {}", words.join(" "));
    let output = Command::new("systemctl").args(words).output();
    let output = output.with_context(|| format!("cannot execute {line}"))?;
    if !output.status.success() {
        bail!("{line} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
