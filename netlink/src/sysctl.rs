//! Kernel settings below `/proc/sys/net`, of the calling thread's network namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::Error;

/// Where the settings are.
const ROOT: &str = "/proc/sys/net";

/// Where they are in a container whose own `/proc/sys` the runtime makes read-only: the host's is
/// mounted there, and shows the settings of whoever looks at it.
const HOST_ROOT: &str = "/host/proc/sys/net";

fn path(key: &str) -> PathBuf {
    static FOUND: OnceLock<&'static str> = OnceLock::new();
    let root = FOUND.get_or_init(|| if Path::new(HOST_ROOT).is_dir() { HOST_ROOT } else { ROOT });
    Path::new(root).join(key)
}

/// Reads a setting; `key` is its path below `/proc/sys/net`, such as `ipv4/ip_forward`.
/// Nothing comes back when the kernel has no such setting.
///
/// # Errors
/// [`Error::Io`] when the file is there and cannot be read.
pub fn read(key: &str) -> Result<Option<String>, Error> {
    match fs::read_to_string(path(key)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { operation: format!("read the kernel setting net/{key}"), source }),
    }
}

/// Sets a setting if it has another value; says whether it had.
///
/// # Errors
/// [`Error::Io`] when the kernel has no such setting or refuses the value.
pub fn set(key: &str, value: &str) -> Result<bool, Error> {
    if read(key)?.as_deref() == Some(value) {
        return Ok(false);
    }
    let operation = || format!("set the kernel setting net/{key} to {value}");
    fs::write(path(key), value).map_err(|source| Error::Io { operation: operation(), source })?;
    Ok(true)
}

/// The interfaces that have settings of a kind, such as `ipv6/conf`; not `all` and `default`.
///
/// # Errors
/// [`Error::Io`] when the directory cannot be read.
pub fn interfaces(kind: &str) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Io { operation: format!("list the kernel settings net/{kind}"), source };
    let entries = fs::read_dir(path(kind)).map_err(failed)?;
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    Ok(names.filter(|n| n != "all" && n != "default").collect())
}
