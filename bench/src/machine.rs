//! What the figures were measured on.

use std::fs;
use std::process::Command;

/// The machine in a few words, each with what it describes.
pub fn describe() -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let cpu = read("/proc/cpuinfo");
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let model = value(&cpu, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = value(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kib: f64 = memory.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
    let system = read("/etc/os-release");
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    vec![
        ("processor", format!("{model}, {cores} cores")),
        ("memory", format!("{:.0} GiB", kib / 1024.0 / 1024.0)),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("system", system.unwrap_or_default().trim_matches('"').to_owned()),
        ("rivals", rivals()),
        ("load before", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
    ]
}

/// The versions of what is compared with.
fn rivals() -> String {
    let version = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        text.lines().next().map(|line| line.trim().to_owned())
    };
    let package = |name: &str| {
        let output =
            Command::new("dpkg-query").args(["-W", "-f", "${Package} ${Version}", name]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let all = [package("containernetworking-plugins"), version("ip", "-V"), version("iperf3", "--version")];
    all.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
