//! Trials that say why they cannot run.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
pub use libtest_mimic::Trial;
use libtest_mimic::{Completion, Failed};

/// Debian's directory of the reference CNI plugins (package containernetworking-plugins).
pub const CNI_PLUGINS: &str = "/usr/lib/cni";

/// The file to which each trial appends the seconds that it took.
const TIMES: &str = "MINIONET_TEST_TIMES";

/// What a test cannot do without.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A program in one of the usual directories.
    Program(&'static str),
    /// A reference CNI plugin in Debian's directory of them.
    CniPlugin(&'static str),
    /// Everything that a container runtime needs; see [`crate::cri::available`].
    ContainerRuntime,
    /// A systemd that can be started in namespaces; see [`crate::systemd`].
    Systemd,
    /// Root of the machine: a user namespace does not do.
    Root,
    /// The programs of an earlier commit; see [`crate::previous_programs`].
    PreviousPrograms,
}

impl Need {
    /// Why the need is not met, if it is not.
    fn missing(self) -> Option<String> {
        match self {
            Self::Program(name) => {
                let directories =
                    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
                let found = directories.iter().any(|directory| Path::new(directory).join(name).is_file());
                (!found).then(|| format!("{name} is not installed"))
            }
            Self::CniPlugin(name) => {
                let missing = !Path::new(CNI_PLUGINS).join(name).is_file();
                missing
                    .then(|| format!("{CNI_PLUGINS}/{name} not found (Debian: containernetworking-plugins)"))
            }
            Self::ContainerRuntime => crate::cri::available().err(),
            Self::PreviousPrograms => crate::previous_programs().err(),
            Self::Systemd => crate::systemd::missing(),
            Self::Root => (!is_real_root()).then(|| "only root of the machine may do this".to_owned()),
        }
    }
}

/// Whether the process is root outside of every user namespace: then all ids are mapped.
pub fn is_real_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    nix::unistd::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// A test for the harness; it is reported as ignored, with the reason, where a need is not met.
pub fn trial(name: &'static str, needs: &'static [Need], test: fn() -> Result<()>) -> Trial {
    let name = name.strip_prefix("suite::").unwrap_or(name);
    Trial::ignorable_test(name, move || {
        if let Some(reason) = needs.iter().find_map(|need| need.missing()) {
            return Ok(Completion::ignored_with(reason));
        }
        let start = Instant::now();
        let result = test();
        note_time(name, start.elapsed());
        result.map(|()| Completion::Completed).map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// Appends how long a trial took to the file that [`TIMES`] names, if it does. It is for those who
/// look for what makes the suite long; nothing depends on it.
fn note_time(name: &str, time: Duration) {
    let Some(path) = std::env::var_os(TIMES) else { return };
    let line = format!("{:8.3} {name}\n", time.as_secs_f64());
    let file = OpenOptions::new().create(true).append(true).open(path);
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        eprintln!("{name}: its time cannot be noted: {error}");
    }
}

/// The tests of a module: `trials![first, second => [Need::Root]]`, each a `fn() -> anyhow::Result<()>`.
#[macro_export]
macro_rules! trials {
    ($($test:ident $(=> [$($need:expr),*])?),* $(,)?) => {
        vec![$($crate::trial(
            concat!(module_path!(), "::", stringify!($test)),
            &[$($($need),*)?],
            $test,
        )),*]
    };
}
