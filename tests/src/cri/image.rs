//! Container images made from a static busybox, as an archive that `ctr images import` reads.
//!
//! The archive is in the format of `docker save`: a `manifest.json` that names, per image, a
//! configuration and its layers. Both images share one layer. All times are zero, so that
//! the same busybox always gives the same bytes.

use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::config::{BUSYBOX_IMAGE, PAUSE_IMAGE};

/// What keeps a sandbox or a container alive without doing anything: a sleep of 68 years,
/// the longest that every busybox accepts.
const IDLE: [&str; 3] = ["/bin/busybox", "sleep", "2147483647"];

/// Directories that a container expects.
const DIRECTORIES: [&str; 8] = ["bin/", "dev/", "etc/", "proc/", "root/", "sys/", "tmp/", "var/"];

/// The archive with both images, from the statically linked busybox at `busybox`.
///
/// # Errors
/// When busybox cannot be read or does not list its applets.
pub fn archive(busybox: &Path) -> io::Result<Vec<u8>> {
    let applets = applets(busybox)?;
    build(&std::fs::read(busybox)?, &applets)
}

/// The names that busybox answers to.
fn applets(busybox: &Path) -> io::Result<Vec<String>> {
    let output = Command::new(busybox).arg("--list").output()?;
    if !output.status.success() {
        let problem = format!("{} --list failed: {}", busybox.display(), output.status);
        return Err(io::Error::other(problem));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names.lines().filter(|name| *name != "busybox").map(str::to_owned).collect())
}

fn build(busybox: &[u8], applets: &[String]) -> io::Result<Vec<u8>> {
    let layer = layer(busybox, applets)?;
    let config = serde_json::to_vec(&config(&layer))?;
    let manifest = json!([PAUSE_IMAGE, BUSYBOX_IMAGE].map(|reference| {
        json!({"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]})
    }));
    let mut archive = Builder::new(Vec::new());
    file(&mut archive, "layer.tar", 0o644, &layer)?;
    file(&mut archive, "config.json", 0o644, &config)?;
    file(&mut archive, "manifest.json", 0o644, &serde_json::to_vec(&manifest)?)?;
    archive.into_inner()
}

/// The root file system: busybox and a link to it for each applet.
fn layer(busybox: &[u8], applets: &[String]) -> io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for directory in DIRECTORIES {
        let mode = if directory == "tmp/" { 0o1777 } else { 0o755 };
        layer.append_data(&mut header(EntryType::Directory, mode), directory, io::empty())?;
    }
    file(&mut layer, "bin/busybox", 0o755, busybox)?;
    file(&mut layer, "etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
    for applet in applets {
        let mut link = header(EntryType::Symlink, 0o777);
        layer.append_link(&mut link, format!("bin/{applet}"), "busybox")?;
    }
    layer.into_inner()
}

/// The image's configuration (OCI image specification, `config.md`).
fn config(layer: &[u8]) -> Value {
    let digest: String = Sha256::digest(layer).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": IDLE,
            "Env": ["PATH=/bin"],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    })
}

/// This machine's architecture by its Go name, which images use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "loongarch64" => "loong64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn file(archive: &mut Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = header(EntryType::Regular, mode);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content)
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_size(0);
    header
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Read;

    use super::*;

    fn entries(archive: &[u8]) -> HashMap<String, Vec<u8>> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (entry.path().unwrap().to_string_lossy().into_owned(), content)
            })
            .collect()
    }

    #[test]
    fn the_archive_names_both_images_and_the_digest_of_the_layer() {
        let files = entries(&build(b"binary", &["sh".to_owned()]).unwrap());
        let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], PAUSE_IMAGE);
        assert_eq!(manifest[1]["RepoTags"][0], BUSYBOX_IMAGE);
        let config: Value = serde_json::from_slice(&files["config.json"]).unwrap();
        let digest = Sha256::digest(&files["layer.tar"]);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{hex}"));
    }

    #[test]
    fn the_layer_holds_busybox_and_its_applets() {
        let layer = layer(b"binary", &["sh".to_owned(), "nc".to_owned()]).unwrap();
        let files = entries(&layer);
        assert_eq!(files["bin/busybox"], b"binary");
        assert!(files.contains_key("bin/nc") && files.contains_key("bin/sh"));
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(build(b"binary", &[]).unwrap(), build(b"binary", &[]).unwrap());
    }
}
