//! The first packet of a pod.

use std::time::Duration;

use anyhow::{Context, Result};
use netns_testbed::traffic::Ping;
use netns_testbed::{Capture, Cluster, Frame, Packet, Transport};

use super::Bench;
use crate::finding::{Finding, Findings, Target};
use crate::subjects::{Reference, Subject};

/// How many pods.
const PODS: usize = 20;
/// How long an answer may take.
const PATIENT: Duration = Duration::from_secs(2);
/// ARP: RFC 826, with its EtherType.
const ARP: u16 = 0x0806;
/// Neighbour solicitation and advertisement: RFC 4861, section 4.3.
const NEIGHBOUR_DISCOVERY: [u8; 2] = [135, 136];

/// The row.
pub fn run(bench: &Bench) -> Result<Findings> {
    let config = "pod_network = [\"10.32.0.0/12\", \"fd00:32::/48\"]";
    let builder = Cluster::builder("bench").nodes(2).binaries(bench.programs.binaries()).config(config);
    let (mut lost, mut asked) = (Vec::new(), Vec::new());
    builder.run(|cluster| -> Result<()> {
        let far = cluster.node(1).add_pod("far")?;
        for number in 0..bench.rounds(PODS) {
            for target in far.addresses() {
                let name = format!("pod{number}{}", if target.is_ipv6() { "v6" } else { "" });
                let pod = cluster.node(0).add_pod(&name)?;
                // Nothing was sent yet: this is before the first packet.
                let capture = Capture::start(&pod, "eth0")?;
                let answer = Ping::to(target).send(&pod, PATIENT);
                lost.push(if answer.is_ok() { 0.0 } else { 1.0 });
                asked.push(capture.frames().iter().filter(|frame| asks(frame)).count() as f64);
                pod.delete()?;
            }
        }
        Ok(())
    })?;
    let theirs = reference(bench)?;
    let total = |samples: &[f64]| [samples.iter().sum::<f64>()];
    let pods = lost.len();
    let lost =
        Finding::value(&format!("first packets lost, of {pods}"), Target::AtMost(0.0), "", &total(&lost));
    let asked = Finding::value("ARP or ND packets of these pods", Target::AtMost(0.0), "", &total(&asked))
        .beside("per pod of bridge + host-local", "", &theirs);
    Ok(vec![lost, asked].into())
}

/// ARP, or the IPv6 messages that ask for a neighbour and answer; not the check for duplicates of a
/// link-local address, which keeps nothing waiting (RFC 4862, section 5.4.2).
fn asks(frame: &Frame) -> bool {
    let discovery = |packet: &Packet| {
        let own = packet.source.is_unspecified();
        let asks =
            matches!(packet.transport, Transport::Icmp { kind, .. } if NEIGHBOUR_DISCOVERY.contains(&kind));
        packet.source.is_ipv6() && asks && !own
    };
    frame.ethertype == ARP || frame.packet.as_ref().is_some_and(discovery)
}

/// How many such packets each pod of the reference plugin exchanges before its first answer.
fn reference(bench: &Bench) -> Result<Vec<f64>> {
    let subject = Subject::reference(Reference::Bridge)?;
    let pods = subject.pods(bench.rounds(PODS / 2))?;
    let mut asked = Vec::new();
    for pod in &pods {
        subject.add(pod, 0)?;
        let capture = Capture::start(&pod.namespace, "eth0")?;
        Ping::to([10, 88, 0, 1].into()).send(&pod.namespace, PATIENT).context("ping the bridge")?;
        asked.push(capture.frames().iter().filter(|frame| asks(frame)).count() as f64);
    }
    Ok(asked)
}
