//! The result of a trace, for people and for machines.

use std::fmt::Write;

use minionet_core::trace::{Evidence, Hop, Outcome, Seen, Trace, Way};
use serde_json::json;

use super::target::Journey;
use crate::terminal::{Colour, Paint, wrap};

/// Version of the JSON document; raised when an older reader would misunderstand it.
const SCHEMA: u32 = 1;

/// The width of a hop's description: that of the longest.
const LABEL: usize = 24;

/// The width of the place.
const PLACE: usize = 17;

/// As a table with a sentence below it.
pub fn text(journey: &Journey, evidence: &Evidence, trace: &Trace) -> String {
    let paint = Paint::stdout();
    let mut out = String::new();
    let way = match evidence.way {
        Way::Here => "an address of this node".to_owned(),
        Way::Local => "a pod on this node".to_owned(),
        Way::Tunnel => format!("{}, through the tunnel", whose(evidence)),
        Way::Direct => format!("{}, without encapsulation", whose(evidence)),
    };
    // A string takes whatever is written to it.
    let _ = writeln!(out, "{} is {way}", paint.paint(Colour::Bold, &journey.asked.to_string()));
    if evidence.way == Way::Tunnel || evidence.way == Way::Direct {
        let heard = |answered| if answered { "answers" } else { "silent" };
        let _ = writeln!(
            out,
            "its daemon on the underlay: {}, through the tunnel: {}; ping: {}",
            heard(evidence.underlay),
            heard(evidence.tunnel),
            heard(evidence.ping),
        );
    }
    out.push('\n');
    for (hop, seen) in &trace.steps {
        let (mark, colour, count) = match seen {
            Seen::Yes(n) if *n < evidence.sent => {
                ("some", Colour::Yellow, format!("{n} of {}", evidence.sent))
            }
            Seen::Yes(n) => ("yes", Colour::Green, format!("{n} of {}", evidence.sent)),
            Seen::Passed => ("yes", Colour::Green, "not seen, but later".to_owned()),
            Seen::No => ("no", Colour::Red, String::new()),
            Seen::Unknown => ("?", Colour::Dim, "nobody told".to_owned()),
        };
        let mark = paint.paint(colour, &format!("{mark:<4}"));
        let line = format!("{mark}  {:<LABEL$}  {:<PLACE$}  {count}", hop.label(), place(*hop, evidence));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out.push('\n');
    let (word, colour) = match trace.outcome {
        Outcome::Reached => ("reached", Colour::Green),
        Outcome::Lossy => ("lossy", Colour::Yellow),
        Outcome::Lost => ("lost", Colour::Red),
    };
    paragraph(&mut out, &paint.paint(colour, &format!("{word:<8}")), 8, &trace.finding);
    if let Some(remedy) = &trace.remedy {
        paragraph(&mut out, "remedy  ", 8, remedy);
    }
    out
}

/// What a target on another node is.
fn whose(evidence: &Evidence) -> String {
    if evidence.pod { format!("on {}", evidence.node) } else { format!("the node {}", evidence.node) }
}

/// A text whose lines are aligned behind a word of so many characters.
fn paragraph(out: &mut String, word: &str, width: usize, text: &str) {
    for (number, line) in wrap(text, width).iter().enumerate() {
        let start = if number == 0 { word.to_owned() } else { " ".repeat(width) };
        let _ = writeln!(out, "{start}{line}");
    }
}

/// Where a hop is.
fn place(hop: Hop, evidence: &Evidence) -> String {
    match hop {
        Hop::Sent | Hop::OwnDevice | Hop::OwnNic | Hop::OwnNicBack | Hop::OwnDeviceBack | Hop::Answered => {
            "this node".to_owned()
        }
        Hop::Pod | Hop::PodReply => evidence.target.to_string(),
        Hop::PeerNic | Hop::PeerDevice | Hop::PeerDeviceBack | Hop::PeerNicBack => evidence.node.to_string(),
    }
}

/// As a document with a stable schema.
pub fn json(journey: &Journey, evidence: &Evidence, trace: &Trace) -> String {
    let hops: Vec<_> = trace
        .steps
        .iter()
        .map(|(hop, seen)| {
            let (seen, packets) = match seen {
                Seen::Yes(n) => ("yes", Some(*n)),
                Seen::Passed => ("passed", None),
                Seen::No => ("no", Some(0)),
                Seen::Unknown => ("unknown", None),
            };
            json!({"hop": hop, "at": place(*hop, evidence), "seen": seen, "packets": packets})
        })
        .collect();
    let arrived = evidence.far.as_ref().and_then(|far| far.arrived.as_ref());
    let arrived = arrived.map(|a| json!({"interface": a.interface, "from": a.from, "vni": a.vni}));
    let document = json!({
        "schema": SCHEMA,
        "target": journey.asked,
        "destination": journey.destination,
        "node": evidence.node,
        "pod": evidence.pod,
        "way": evidence.way,
        "sent": evidence.sent,
        "outcome": trace.outcome,
        "lost_at": trace.lost_at,
        "last_seen": trace.last,
        "channels": {"underlay": evidence.underlay, "tunnel": evidence.tunnel, "ping": evidence.ping},
        "arrived": arrived,
        "hops": hops,
        "finding": trace.finding,
        "remedy": trace.remedy,
    });
    format!("{document:#}\n")
}
