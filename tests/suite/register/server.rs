//! DNS servers, configured as docs/dns.md says.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Child;

use anyhow::{Context, Result, ensure};
use netns_testbed::{Host, catches, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{LONG, ZONE};

/// A secret of 32 octets, in base64.
pub const SECRET: &str = "bWluaW9uZXQgbWluaW9uZXQgbWluaW9uZXQgMTIzNDU=";
/// Another one.
pub const OTHER_SECRET: &str = "YW5vdGhlciBzZWNyZXQgYW5vdGhlciBzZWNyZXQgMTIzNDU=";

/// What the recipes take for the address of the server, and for the secret.
const SERVER: &str = "172.20.0.253";
const PLACEHOLDER: &str = "\"SECRET\"";

/// A key file as tsig-keygen(8) writes it.
pub fn key_file(secret: &str) -> String {
    format!("key \"minions-key\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{secret}\";\n}};\n")
}

/// A block of docs/dns.md: the one whose fence has this word.
pub fn recipe(word: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/dns.md");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut lines = text.lines();
    let fence = |line: &str| line.starts_with("```") && line.split_whitespace().nth(1) == Some(word);
    lines.by_ref().find(|line| fence(line)).with_context(|| format!("docs/dns.md has no block {word}"))?;
    Ok(lines.take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect())
}

/// A running server; it ends when this is dropped.
pub struct Server<'a> {
    host: &'a Host,
    child: Child,
    address: IpAddr,
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        // It may have ended by itself; then there is only the status to collect.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<'a> Server<'a> {
    /// BIND with the dynamic zone, whose configuration `adjust` may change.
    pub fn bind(host: &'a Host, adjust: impl FnOnce(String) -> String) -> Result<Self> {
        host.write("/etc/bind/minions.key", key_file(SECRET))?;
        let zone = recipe("dynamic.zone")?;
        Self::named(host, &adjust(recipe("bind-dynamic.conf")?), "cncfdemo.k8s.zone", &zone)
    }

    /// BIND with one zone.
    pub fn named(host: &'a Host, config: &str, file: &str, zone: &str) -> Result<Self> {
        let address = address(host)?;
        host.write(format!("/var/lib/bind/{file}"), zone.replace(SERVER, &address.to_string()))?;
        host.write(
            "/etc/bind/named.conf",
            format!(
                "options {{ directory \"/var/lib/bind\"; pid-file none; session-keyfile none; recursion no;\n\
                 listen-on {{ any; }}; listen-on-v6 {{ any; }}; dnssec-validation no; }};\ncontrols {{ }};\n{config}"
            ),
        )?;
        Self::spawn(host, address, &["named", "-g", "-n", "1", "-c", "/etc/bind/named.conf"])
    }

    /// Knot with the dynamic zone.
    pub fn knot(host: &'a Host) -> Result<Self> {
        Self::knot_after(host, &[])
    }

    /// Knot with the dynamic zone; `before` are words that the command begins with.
    pub fn knot_after(host: &'a Host, before: &[&str]) -> Result<Self> {
        let address = address(host)?;
        host.write("/etc/knot/knot.conf", recipe("knot.conf")?.replace(PLACEHOLDER, SECRET))?;
        host.write(
            "/var/lib/knot/cncfdemo.k8s.zone",
            recipe("dynamic.zone")?.replace(SERVER, &address.to_string()),
        )?;
        host.exec(["mkdir", "-p", "/run/knot"])?;
        Self::spawn(host, address, &[before, &["knotd", "-c", "/etc/knot/knot.conf"]].concat())
    }

    /// dnsmasq with the recipe.
    pub fn dnsmasq(host: &'a Host, hosts: &str) -> Result<Self> {
        host.write("/etc/dnsmasq.conf", recipe("dnsmasq.conf")?)?;
        host.write("/etc/minions.hosts", hosts)?;
        let words =
            ["dnsmasq", "--keep-in-foreground", "--conf-file=/etc/dnsmasq.conf", "--user=root", "--pid-file"];
        Self::spawn(host, address(host)?, &words)
    }

    fn spawn(host: &'a Host, address: IpAddr, words: &[&str]) -> Result<Self> {
        let mut command = host.command(words[0]);
        command.args(&words[1..]);
        let log = host.run(|| fs::File::create("/var/log/server.log"))?.context("make a log")?;
        command.stderr(log.try_clone()?).stdout(log);
        let server = Self { host, child: host.spawn(command)?, address };
        eventually("the server to answer", LONG, || {
            // Whatever it says: dig fails only where there is no answer.
            server.dig(&[ZONE, "SOA"]).with_context(|| server.log().unwrap_or_default())
        })?;
        Ok(server)
    }

    /// What the server wrote.
    pub fn log(&self) -> Result<String> {
        Ok(self.host.read("/var/log/server.log")?)
    }

    /// The addresses of a name.
    pub fn addresses(&self, name: &str) -> Result<BTreeSet<IpAddr>> {
        let answer = self.dig(&["+short", name, "A", name, "AAAA"])?;
        answer.lines().map(|line| line.parse().with_context(|| format!("dig said {line}"))).collect()
    }

    /// The lease of an IPv4 node.
    pub fn lease(&self, address: IpAddr) -> Result<String> {
        let owner = format!("{}._lease.{}", address.to_string().replace('.', "-"), super::NAME);
        Ok(self.dig(&["+short", &owner, "TXT"])?.trim().to_owned())
    }

    /// Asks the server: dig(1).
    pub fn dig(&self, words: &[&str]) -> Result<String> {
        let at = format!("@{}", self.address);
        // Where nobody listens, that is told at once.
        Ok(self.host.exec(["dig", "+tcp", "+time=10", "+tries=2", &at].iter().chain(words))?)
    }

    /// Changes the zone by hand: nsupdate(1).
    pub fn update(&self, lines: &str) -> Result<()> {
        self.host.write("/run/key", key_file(SECRET))?;
        let script = format!("server {}\nzone {ZONE}\n{lines}\nsend\n", self.address);
        self.host.exec_with_input(["nsupdate", "-k", "/run/key"], script.as_bytes())?;
        Ok(())
    }

    /// Makes the server read its files again.
    pub fn reload(&self) -> Result<()> {
        // Until it listens for the signal it would end by it.
        eventually("the server to listen for signals", LONG, || {
            if catches(self.child.id(), Signal::SIGHUP) { Ok(()) } else { Err("not yet") }
        })?;
        self.signal(Signal::SIGHUP)
    }

    /// Stops the server without ending it, or lets it go on.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), signal).context("signal the server")
    }
}

fn address(host: &Host) -> Result<IpAddr> {
    let first = host.addresses().first().copied();
    ensure!(first.is_some_and(|a| a.is_ipv4()), "the host has no IPv4 address: {first:?}");
    first.context("the host has no address")
}
