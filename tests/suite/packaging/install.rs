//! `minionetd install` and `uninstall`, on hosts and on images that do not run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, copy_program, trials};
use netns_testbed::{Binaries, Cluster};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::bare;

pub fn trials() -> Vec<Trial> {
    trials![
        an_image_gets_everything_once_and_loses_everything_again,
        a_link_in_an_image_never_leads_to_the_hosts_files,
        what_an_operator_changed_is_kept,
        an_upgrade_replaces_a_plugin_that_is_being_executed,
        a_crash_at_any_step_is_made_good => [Need::Program("timeout")],
        systemd_accepts_every_unit => [Need::Program("systemd-analyze")],
        the_drop_ins_are_where_their_readers_look,
        what_cannot_work_is_refused_and_changes_nothing,
    ]
}

/// Everything below a directory: what it is, its permissions, and what is in it.
pub fn tree(root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            let content = if metadata.is_dir() {
                left.push(path.clone());
                String::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path)?.display().to_string()
            } else if !metadata.is_file() {
                // A socket or a pipe: who opens a pipe waits for its other end.
                String::new()
            } else {
                // A namespace that is bound there is no file that can be read.
                fs::read(&path).map_or_else(|e| e.to_string(), |bytes| digest(&bytes))
            };
            found.insert(path, format!("{:o} {content}", metadata.mode()));
        }
    }
    Ok(found)
}

/// What a file holds, as it is to be shown: a program by what tells it from every other.
fn digest(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=65536 => String::from_utf8_lossy(bytes).into_owned(),
        _ => Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Runs `minionetd` of the programs under test.
fn minionetd(words: &[&str]) -> Result<Output> {
    Ok(Command::new(Binaries::locate()?.daemon()).args(words).stdin(Stdio::null()).output()?)
}

/// Runs it and expects success; what it printed comes back.
fn done(words: &[&str]) -> Result<String> {
    let output = minionetd(words)?;
    ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// An image with what every image has.
fn image() -> Result<(TempDir, String)> {
    let image = tempfile::tempdir()?;
    fs::create_dir_all(image.path().join("etc/systemd/system"))?;
    fs::create_dir_all(image.path().join("usr/bin"))?;
    fs::create_dir_all(image.path().join("var/lib"))?;
    fs::write(image.path().join("etc/hostname"), "image\n")?;
    let root = image.path().display().to_string();
    Ok((image, root))
}

fn an_image_gets_everything_once_and_loses_everything_again() -> Result<()> {
    let (image, root) = image()?;
    let before = tree(image.path())?;
    let announced = done(&["install", "--root", &root, "--dry-run"])?;
    ensure!(tree(image.path())? == before, "a dry run changed something");
    let did = done(&["install", "--root", &root])?;
    let steps =
        |text: &str| text.lines().filter(|line| line.contains('/')).map(str::to_owned).collect::<Vec<_>>();
    ensure!(steps(&announced) == steps(&did), "{announced}\n{did}");
    let installed = tree(image.path())?;
    for program in ["opt/cni/bin/minionet", "usr/local/bin/minionetd"] {
        let mode = installed.get(&image.path().join(program)).context(program)?;
        ensure!(mode.starts_with("100755 "), "{program}: {}", &mode[..12]);
    }
    let wants = image.path().join("etc/systemd/system/multi-user.target.wants/minionetd.service");
    ensure!(installed[&wants].ends_with(" /etc/systemd/system/minionetd.service"), "{}", installed[&wants]);
    let unit = &installed[&image.path().join("etc/systemd/system/minionetd.service")];
    ensure!(unit.contains("\nExecStart=/usr/local/bin/minionetd run\n"), "{unit}");
    // Once is enough; also by the program that was installed, which has no plugin beside it.
    ensure!(done(&["install", "--root", &root])?.starts_with("0 steps"));
    let itself = image.path().join("usr/local/bin/minionetd");
    let output = Command::new(itself).args(["install", "--root", &root]).output()?;
    ensure!(output.stdout.starts_with(b"0 steps"), "{output:?}");
    ensure!(tree(image.path())? == installed);
    done(&["uninstall", "--root", &root, "--dry-run"])?;
    ensure!(tree(image.path())? == installed, "a dry run changed something");
    done(&["uninstall", "--root", &root])?;
    ensure!(tree(image.path())? == before, "something is left, or missing");
    ensure!(done(&["uninstall", "--root", &root])?.contains("0 steps"));
    ensure!(tree(image.path())? == before);
    Ok(())
}

fn a_link_in_an_image_never_leads_to_the_hosts_files() -> Result<()> {
    let (image, root) = image()?;
    let outside = tempfile::tempdir()?;
    // As on images whose /opt is kept elsewhere: absolute, as seen from inside.
    symlink(outside.path(), image.path().join("opt"))?;
    let inside = image.path().join(outside.path().strip_prefix("/")?);
    fs::create_dir_all(&inside)?;
    done(&["install", "--root", &root])?;
    ensure!(tree(outside.path())?.is_empty(), "the host was written to");
    ensure!(inside.join("cni/bin/minionet").is_file());
    done(&["uninstall", "--root", &root])?;
    ensure!(tree(&inside)?.is_empty());
    Ok(())
}

fn what_an_operator_changed_is_kept() -> Result<()> {
    let (image, root) = image()?;
    let before = tree(image.path())?;
    done(&["install", "--root", &root])?;
    let config = image.path().join("etc/minionet/minionet.toml");
    fs::write(&config, "vni = 7\n")?;
    let again = done(&["install", "--root", &root])?;
    ensure!(again.contains("keep     /etc/minionet/minionet.toml"), "{again}");
    ensure!(fs::read_to_string(&config)? == "vni = 7\n");
    let removed = done(&["uninstall", "--root", &root])?;
    ensure!(removed.contains("keep     /etc/minionet/minionet.toml"), "{removed}");
    ensure!(config.is_file() && !image.path().join("opt").exists());
    done(&["uninstall", "--root", &root, "--force"])?;
    ensure!(tree(image.path())? == before);
    Ok(())
}

fn an_upgrade_replaces_a_plugin_that_is_being_executed() -> Result<()> {
    let (image, root) = image()?;
    // The one that is installed is a program that goes on running, as a plugin in a slow call.
    let plugin = image.path().join("opt/cni/bin/minionet");
    fs::create_dir_all(plugin.parent().context("a directory")?)?;
    copy_program("/bin/sleep".as_ref(), &plugin)?;
    let mut running = Command::new(&plugin).arg("3600").spawn()?;
    let written = fs::write(&plugin, "in place");
    let upgrade = done(&["install", "--root", &root]);
    let goes_on = running.try_wait()?.is_none();
    running.kill()?;
    running.wait()?;
    ensure!(written.is_err_and(|e| e.kind() == std::io::ErrorKind::ExecutableFileBusy), "the test is void");
    ensure!(upgrade?.contains("replace  /opt/cni/bin/minionet") && goes_on);
    ensure!(fs::read(&plugin)? == fs::read(Binaries::locate()?.plugin())?);
    Ok(())
}

/// Kills the installation at many moments; the next one finishes it, and nothing is left over.
fn a_crash_at_any_step_is_made_good() -> Result<()> {
    let (complete, root) = image()?;
    let before_names: Vec<PathBuf> = names(complete.path())?;
    done(&["install", "--root", &root])?;
    let expected = names(complete.path())?;
    let program = Binaries::locate()?.daemon().display().to_string();
    for milliseconds in [2, 10, 30, 60, 120, 250] {
        let (image, root) = image()?;
        let seconds = format!("0.{milliseconds:03}");
        let killed = ["--signal=KILL", &seconds, &program, "install", "--root", &root];
        Command::new("timeout").args(killed).output()?;
        done(&["install", "--root", &root])?;
        ensure!(names(image.path())? == expected, "killed after {milliseconds} ms");
        Command::new("timeout")
            .args(["--signal=KILL", &seconds, &program, "uninstall", "--root", &root])
            .output()?;
        done(&["uninstall", "--root", &root])?;
        ensure!(names(image.path())? == before_names, "killed after {milliseconds} ms");
    }
    Ok(())
}

/// The paths below a directory.
fn names(root: &Path) -> Result<Vec<PathBuf>> {
    tree(root)?.into_keys().map(|path| Ok(path.strip_prefix(root)?.to_owned())).collect()
}

fn systemd_accepts_every_unit() -> Result<()> {
    let (image, root) = image()?;
    // What the units start and refer to has to be there.
    fs::write(image.path().join("usr/bin/kill"), "")?;
    done(&["install", "--root", &root, "--cni-conf-dir", "/var/lib/rancher/k3s/agent/etc/cni/net.d"])?;
    let units = image.path().join("etc/systemd/system");
    let drop_in = units.join("minionetd.service.d/10-cni-conf-dir.conf");
    let text = fs::read_to_string(&drop_in)?;
    ensure!(text.contains("\nReadWritePaths=/var/lib/rancher/k3s/agent/etc/cni/net.d\n"), "{text}");
    // A kubelet that does nothing, for the drop-in to belong to; and programs where this host has them.
    for (unit, add) in [("minionetd.service", ""), ("kubelet.service", "[Service]\nExecStart=/bin/true\n")] {
        let path = units.join(unit);
        let text = fs::read_to_string(&path).unwrap_or_default() + add;
        let itself = image.path().join("usr/local/bin/minionetd").display().to_string();
        fs::write(&path, text.replace("/usr/local/bin/minionetd", &itself))?;
        let own = units.join("kubelet.service.d/10-minionet.conf");
        let text = fs::read_to_string(&own)?.replace("=-/usr/local/bin/minionetd", &format!("=-{itself}"));
        fs::write(own, text)?;
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=one"])
            .arg(&path)
            .env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()))
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && said.is_empty(), "{unit}: {} {said}", output.status);
    }
    // It is a test only if something wrong is noticed.
    let bad = units.join("bad.service");
    fs::write(&bad, "[Service]\nExecStart=/bin/true\nProtectSytem=strict\n")?;
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(bad).output()?;
    ensure!(String::from_utf8_lossy(&output.stderr).contains("ProtectSytem"), "{output:?}");
    Ok(())
}

fn the_drop_ins_are_where_their_readers_look() -> Result<()> {
    let (image, root) = image()?;
    done(&["install", "--root", &root])?;
    // networkd.conf(5), systemd.network(5), systemd.link(5), sysctl.d(5), NetworkManager.conf(5).
    for (path, line) in [
        ("etc/systemd/networkd.conf.d/90-minionet.conf", "ManageForeignRoutes=no"),
        ("etc/systemd/network/10-minionet.network", "Unmanaged=yes"),
        ("etc/systemd/network/10-minionet.link", "MACAddressPolicy=none"),
        (
            "etc/NetworkManager/conf.d/90-minionet.conf",
            "unmanaged-devices=interface-name:minionet;interface-name:mnet*",
        ),
        ("etc/sysctl.d/90-minionet.conf", "net.ipv4.ip_forward = 1"),
        ("etc/systemd/system/kubelet.service.d/10-minionet.conf", "After=minionetd.service"),
    ] {
        let text = fs::read_to_string(image.path().join(path))?;
        ensure!(
            text.starts_with(&format!("# /{path}\n")) && text.lines().any(|l| l == line),
            "{path}: {text}"
        );
    }
    Ok(())
}

fn what_cannot_work_is_refused_and_changes_nothing() -> Result<()> {
    let (image, root) = image()?;
    fs::create_dir_all(image.path().join("opt/cni/bin/minionet"))?;
    let before = tree(image.path())?;
    for (words, reason) in [
        (vec!["install", "--root", &root], "/opt/cni/bin/minionet is a directory where a file has to be"),
        (vec!["install", "--root", &root, "--bin-dir", "bin"], "write an absolute path"),
        (vec!["install", "--root", "/nowhere"], "cannot open the root /nowhere"),
        (vec!["install", "--root", &root, "--plugin", "/nowhere"], "cannot read the plugin /nowhere"),
        (vec!["install", "--package"], "--root"),
    ] {
        let output = minionetd(&words)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains(reason), "{words:?}: {said}");
        ensure!(tree(image.path())? == before, "{words:?}");
    }
    // On a host, what others started is not pulled away from under them.
    Cluster::builder("cncfdemo").nodes(1).run(|cluster| {
        let node = cluster.node(0);
        bare(node)?;
        node.minionetd(["install"])?;
        let error = node.minionetd(["uninstall"]).unwrap_err().to_string();
        ensure!(error.contains("minionetd runs: stop it first"), "{error}");
        ensure!(node.exists("/opt/cni/bin/minionet")?);
        Ok(())
    })
}
