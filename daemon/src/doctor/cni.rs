//! The container runtime's configurations, and the plugin.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use elf::ElfBytes;
use elf::abi::PT_INTERP;
use elf::endian::AnyEndian;
use minionet_core::config::Config;
use minionet_core::constants::CNI_CONF_DIR;
use minionet_core::doctor::facts::{CniFacts, CniFile, Gathered, PluginFacts};
use serde_json::Value;

/// Our plugin's file name.
const PLUGIN: &str = "minionet";

/// How long the plugin may take to say its version.
const PATIENCE: Duration = Duration::from_secs(3);

/// The largest file that is taken for a program, in octets.
const LARGEST: u64 = 512 << 20;

/// Gathers them.
pub fn facts(config: Option<&Config>, plugins: &Path) -> CniFacts {
    let directory = config.map_or(CNI_CONF_DIR, |config| &config.cni_conf_dir);
    CniFacts {
        directory: directory.to_owned(),
        files: files(Path::new(directory)),
        plugin: plugin(&plugins.join(PLUGIN)),
    }
}

/// The configurations in the order of runtimes: by name (libcni, `ConfFiles`).
fn files(directory: &Path) -> Gathered<Vec<CniFile>> {
    let failed = |e: std::io::Error| format!("cannot read {}: {e}", directory.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let known = path.extension().is_some_and(|e| e == "conf" || e == "conflist" || e == "json");
        if known {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push(CniFile { name, types: types(&path) });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The types of the plugins in a configuration, or in a list of them.
fn types(path: &Path) -> Result<Vec<String>, String> {
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let document: Value = serde_json::from_str(&text).map_err(|e| format!("not JSON: {e}"))?;
    let of = |plugin: &Value| plugin["type"].as_str().map(str::to_owned);
    let types: Vec<String> = match document["plugins"].as_array() {
        Some(plugins) => plugins.iter().filter_map(of).collect(),
        None => of(&document).into_iter().collect(),
    };
    if types.is_empty() { Err("it names no plugin".to_owned()) } else { Ok(types) }
}

fn plugin(path: &Path) -> PluginFacts {
    let metadata = fs::metadata(path).ok().filter(|m| m.is_file());
    let executable = metadata.as_ref().is_some_and(|m| m.permissions().mode() & 0o111 != 0);
    let readable = metadata.as_ref().is_some_and(|m| m.len() < LARGEST);
    let interpreter = match readable {
        true => interpreter(path),
        false => Err("there is no such file".to_owned()),
    };
    let version = match executable && interpreter.is_ok() {
        true => version(path),
        false => Err("it cannot be executed".to_owned()),
    };
    PluginFacts {
        path: path.display().to_string(),
        present: metadata.is_some(),
        executable,
        interpreter,
        version,
    }
}

/// The program that loads a program which is not static (elf(5), `PT_INTERP`).
fn interpreter(path: &Path) -> Result<Option<String>, String> {
    let octets = fs::read(path).map_err(|e| e.to_string())?;
    let file = ElfBytes::<AnyEndian>::minimal_parse(&octets).map_err(|e| e.to_string())?;
    let Some(segment) = file.segments().and_then(|s| s.iter().find(|s| s.p_type == PT_INTERP)) else {
        return Ok(None);
    };
    let text = file.segment_data(&segment).map_err(|e| e.to_string())?;
    Ok(Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned()))
}

/// The version that the plugin says when it is started by hand.
fn version(path: &Path) -> Gathered<String> {
    let mut command = Command::new(path);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let until = Instant::now() + PATIENCE;
    while child.try_wait().map_err(|e| e.to_string())?.is_none() {
        if Instant::now() > until {
            // It may have ended just now.
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it did not end within {PATIENCE:?}"));
        }
        pause();
    }
    // It wrote less than a pipe holds, or is still at it and was ended above.
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let version = text.lines().next().and_then(|line| line.strip_prefix("CNI minionet plugin v"));
    version.map(str::to_owned).ok_or_else(|| "it is not our plugin".to_owned())
}

/// Between two looks whether a program has ended.
#[allow(clippy::disallowed_methods)]
fn pause() {
    std::thread::sleep(Duration::from_millis(2));
}
