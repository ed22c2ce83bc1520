//! The report as text for a person, at most 80 columns wide. Pure.

use std::fmt::Write;

use minionet_core::addr::Family;

use super::report::{Join, Leave, Plan, PodReport};
use crate::terminal::{Colour, Paint};

/// A heading, with an empty line above it.
fn heading(paint: Paint, text: &str) -> String {
    format!("\n{}\n", paint.paint(Colour::Bold, text))
}

/// Rows with aligned columns, two blanks apart; a column of `right` is aligned to the right.
fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if right.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn row<const N: usize>(cells: [&dyn ToString; N]) -> Vec<String> {
    cells.iter().map(|cell| cell.to_string()).collect()
}

/// The address plan.
pub fn plan(plan: &Plan, paint: Paint) -> String {
    let list = |networks: &[minionet_core::addr::Cidr]| {
        networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    };
    let mut rows = vec![row([&"NODE", &"ADDRESS", &"INDEX", &"POD CIDR", &"GATEWAY", &"VTEP MAC"])];
    for node in &plan.nodes {
        for (number, block) in node.plan.blocks.iter().enumerate() {
            rows.push(match number {
                0 => row([
                    &node.name,
                    &node.plan.node,
                    &node.plan.index,
                    &block.cidr,
                    &block.gateway,
                    &node.plan.mac,
                ]),
                _ => row([&"", &"", &"", &block.cidr, &block.gateway]),
            });
        }
    }
    format!(
        "{}nodes in {}, pods in {};\nall else follows from a node's address\n{}",
        heading(paint, "Address plan"),
        list(&plan.node_networks),
        list(&plan.pod_networks),
        columns(&rows, &[2])
    )
}

/// The pods.
pub fn pods(pods: &[PodReport], paint: Paint) -> String {
    let mut rows = vec![row([&"POD", &"NODE", &"INTERFACE", &"ADDRESSES"])];
    for pod in pods {
        let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        rows.push(row([&pod.name, &pod.node, &pod.interface, &addresses.join("  ")]));
    }
    format!("{}{}", heading(paint, "Pods"), columns(&rows, &[]))
}

/// A number of milliseconds without digits that mean nothing.
fn ms(time: Option<f64>) -> String {
    time.map_or("never".to_owned(), |ms| format!("{ms:.0} ms"))
}

/// How a minion joined.
pub fn join(join: &Join, paint: Paint) -> String {
    let mut text = heading(paint, &format!("{} joins by DNS alone", join.node));
    let _ = writeln!(text, "its record {} was added (TTL {} s); after that change", join.address, join.ttl_s);
    let _ = writeln!(text, "{:>9}  it had found itself and was ready for pods", ms(Some(join.ready_ms)));
    let _ = writeln!(text, "{:>9}  a pod was attached to it", ms(Some(join.attached_ms)));
    let verdict = format!("{:>9}  every pod had reached that pod", ms(join.all_ms));
    let _ = writeln!(text, "{}", judged(paint, join.all_ms.is_some(), &verdict));
    let answered = join.back.iter().filter(|pair| pair.rtt_us.is_some()).count();
    let _ = writeln!(text, "and it reached {answered} of {} pods' addresses itself", join.back.len());
    let families = [Family::V4, Family::V6];
    let asked = |family| join.reached.iter().filter(move |one| Family::of(one.address) == family);
    let names: Vec<String> =
        families.iter().filter(|one| asked(**one).next().is_some()).map(ToString::to_string).collect();
    let _ = writeln!(text, "first answers over {}, in ms:", names.join(" and "));
    // By pod, in their order.
    let mut cells: Vec<(&str, String)> = Vec::new();
    for reached in &join.reached {
        let time = reached.ms.map_or("never".to_owned(), |ms| format!("{ms:.0}"));
        match cells.iter_mut().find(|(pod, _)| *pod == reached.pod) {
            Some((_, cell)) => cell.extend([" ", &time]),
            None => cells.push((&reached.pod, format!("{} {time}", reached.pod))),
        }
    }
    text + &grid(&cells.into_iter().map(|(_, cell)| cell).collect::<Vec<_>>())
}

/// How a minion left.
pub fn leave(leave: &Leave, paint: Paint) -> String {
    let mut text = heading(paint, &format!("{} leaves by DNS alone", leave.node));
    let _ = writeln!(
        text,
        "its record {} was removed; a minion is given up after {} answers in a row\nand {} s without it \
         (here; by default 3 and 30 s). In the kernels of the others:",
        leave.address, leave.missing_answers, leave.hold_down_s
    );
    let mut rows = vec![row([&"NODE", &"ROUTES", &"NEIGHBOURS", &"FDB", &"ALL GONE AFTER"])];
    for node in &leave.forgotten {
        let (before, after) = (&node.before, &node.after);
        rows.push(row([
            &node.node,
            &format!("{} -> {}", before.routes, after.routes),
            &format!("{} -> {}", before.neighbours, after.neighbours),
            &format!("{} -> {}", before.fdb, after.fdb),
            &ms(node.ms),
        ]));
    }
    text += &columns(&rows, &[4]);
    let verdict = format!("{:>9}  nothing led to it any more", ms(leave.all_ms));
    let _ = writeln!(text, "{}", judged(paint, leave.all_ms.is_some(), &verdict));
    let others =
        format!("{:>9}  of {} requests between the others were lost", leave.others_lost, leave.others_sent);
    let _ = writeln!(text, "{}", judged(paint, leave.others_lost == 0, &others));
    text
}

fn judged(paint: Paint, good: bool, text: &str) -> String {
    paint.paint(if good { Colour::Green } else { Colour::Red }, text)
}

/// Short texts beside each other, as many as fit.
fn grid(cells: &[String]) -> String {
    let width = cells.iter().map(String::len).max().unwrap_or(0) + 3;
    let per_line = (78 / width).max(1);
    let mut text = String::new();
    for line in cells.chunks(per_line) {
        let line: String = line.iter().map(|cell| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "  {}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests;
