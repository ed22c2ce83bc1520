//! What the documentation says, done and compared.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};
use netns_testbed::Cluster;

/// The directory of the documentation.
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

pub fn trials() -> Vec<Trial> {
    trials![
        the_reference_of_the_settings_is_what_the_program_prints,
        links_between_documents_lead_somewhere,
        completions_and_manual_pages_are_understood_by_their_readers => [Need::Program("bash")],
    ]
}

fn document(name: &str) -> Result<String> {
    fs::read_to_string(format!("{DOCS}/{name}")).with_context(|| format!("docs/{name}"))
}

fn the_reference_of_the_settings_is_what_the_program_prints() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(1).start_without_daemons()?;
    let printed = cluster.node(0).minionetd(["settings", "--markdown"])?;
    ensure!(printed == document("configuration.md")?, "renew it with scripts/document");
    Ok(())
}

/// The heading's anchor, as it is made for readers.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

fn links_between_documents_lead_somewhere() -> Result<()> {
    let mut seen = 0;
    for entry in fs::read_dir(DOCS)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let text = if name.ends_with(".md") { document(&name)? } else { continue };
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, part) = target.split_once('#').unwrap_or((target, ""));
            // Files of the repository and other places are not looked at.
            if !file.ends_with(".md") || file.contains("://") || file.starts_with("..") {
                continue;
            }
            seen += 1;
            let there = document(file).with_context(|| format!("{name} leads to {target}"))?;
            let anchors: BTreeSet<String> = there
                .lines()
                .filter_map(|l| Some(anchor(l.trim_start_matches('#').strip_prefix(' ')?)))
                .collect();
            ensure!(part.is_empty() || anchors.contains(part), "{name} leads to {target}: {anchors:?}");
        }
    }
    ensure!(seen > 0);
    Ok(())
}

fn completions_and_manual_pages_are_understood_by_their_readers() -> Result<()> {
    let cluster = Cluster::builder("cncfdemo").nodes(1).start_without_daemons()?;
    let node = cluster.node(0);
    let completions = node.minionetd(["completions", "bash"])?;
    let script = format!(
        "{completions}\nCOMP_WORDS=(minionetd cl); COMP_CWORD=1\n_minionetd minionetd cl minionetd\necho \"${{COMPREPLY[@]}}\"\n"
    );
    let completed = node.exec_with_input(["bash", "--norc", "-s"], script.as_bytes())?;
    ensure!(completed.trim() == "cleanup", "{completed}");
    node.minionetd(["man", "/run/man"])?;
    let page = node.read("/run/man/minionetd-cleanup.8")?;
    ensure!(page.contains(".TH minionetd-cleanup 8") && page.contains("keep\\-sysctls"), "{page}");
    Ok(())
}
