//! The archive of the image that `scripts/image` builds.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::Binaries;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{IMAGE, instructions};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/image");

pub fn trials() -> Vec<Trial> {
    trials![
        the_image_is_what_its_recipe_says_and_the_same_each_time =>
            [Need::Program("tar"), Need::Program("sha256sum")],
    ]
}

/// Builds it of the programs under test; the archive is in this directory.
pub fn build(directory: &Path) -> Result<PathBuf> {
    let archive = directory.join("minionet-image.tar");
    let programs = Binaries::locate()?.directory().to_owned();
    let output = Command::new(SCRIPT).arg(programs).arg(&archive).output().context(SCRIPT)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(archive)
}

/// The files of an archive, by path, with their permissions.
fn files(archive: impl Read) -> Result<BTreeMap<String, (u32, Vec<u8>)>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let header = entry.header();
        ensure!(header.uid()? == 0 && header.gid()? == 0 && header.mtime()? == 0, "{header:?}");
        if header.entry_type().is_file() {
            let (path, mode) = (entry.path()?.display().to_string(), header.mode()?);
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            found.insert(path, (mode, content));
        }
    }
    Ok(found)
}

fn the_image_is_what_its_recipe_says_and_the_same_each_time() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let archive = build(scratch.path())?;
    let content = fs::read(&archive)?;
    build(scratch.path())?;
    ensure!(fs::read(&archive)? == content, "the same programs gave another image");

    // The layout of the OCI image specification: every blob is named by its digest.
    let layout = files(File::open(archive)?)?;
    let blob = |descriptor: &Value| -> Result<&Vec<u8>> {
        let digest = descriptor["digest"].as_str().and_then(|d| d.strip_prefix("sha256:"));
        let digest = digest.with_context(|| format!("{descriptor}"))?;
        let (_, blob) = layout.get(&format!("blobs/sha256/{digest}")).context("no such blob")?;
        let actual: String = Sha256::digest(blob).iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(actual == digest && descriptor["size"] == blob.len(), "{descriptor}");
        Ok(blob)
    };
    let read = |name: &str| Ok::<Value, anyhow::Error>(serde_json::from_slice(&layout[name].1)?);
    ensure!(read("oci-layout")? == json!({"imageLayoutVersion": "1.0.0"}));
    let index = read("index.json")?;
    ensure!(index["manifests"][0]["annotations"]["io.containerd.image.name"] == IMAGE, "{index}");
    let manifest: Value = serde_json::from_slice(blob(&index["manifests"][0])?)?;
    let config: Value = serde_json::from_slice(blob(&manifest["config"])?)?;
    ensure!(config["rootfs"]["diff_ids"] == json!([manifest["layers"][0]["digest"]]), "{config}");
    ensure!(layout.len() == 5, "{:?}", layout.keys());

    // What the recipe says, and nothing else.
    let said = |name| instructions(name).next().with_context(|| name);
    let entry: Value = serde_json::from_str(said("ENTRYPOINT")?)?;
    let command: Value = serde_json::from_str(said("CMD")?)?;
    ensure!(config["config"] == json!({"Entrypoint": entry, "Cmd": command, "WorkingDir": "/"}), "{config}");
    let root = files(blob(&manifest["layers"][0])?.as_slice())?;
    let programs = Binaries::locate()?.directory().to_owned();
    for copy in instructions("COPY") {
        let (from, to) = copy.split_once(' ').context("two words")?;
        let (mode, content) = root.get(to.trim_start_matches('/')).with_context(|| to.to_owned())?;
        ensure!(*mode == 0o755 && *content == fs::read(programs.join(from))?, "{to} is another program");
    }
    ensure!(root.len() == instructions("COPY").count(), "{:?}", root.keys());
    Ok(())
}
