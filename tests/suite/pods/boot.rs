//! State that outlived the boot: everything in it is free.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use minionet_tests::{Need, trials};

use super::bed::on_orphaned_node;
use crate::cni::support::{Sandbox, add, addresses, conf, del};

pub fn trials() -> Vec<Trial> {
    trials![a_reboot_frees_every_address => [Need::Program("nft")]]
}

/// Case 90.
fn a_reboot_frees_every_address() -> Result<()> {
    on_orphaned_node("node_prefix = 29", |node| {
        // Five addresses, all taken.
        let sandboxes: Vec<Sandbox> =
            (0..5).map(|number| Sandbox::new(node, &format!("c{number}"))).collect::<Result<_>>()?;
        for sandbox in &sandboxes {
            add(node, &sandbox.attachment, &conf("1.1.0"))?;
            // Namespaces and interfaces do not survive a boot; files may.
            sandbox.namespace.ip("link del eth0")?;
        }
        let late = Sandbox::new(node, "late")?;
        ensure!(add(node, &late.attachment, &conf("1.1.0")).is_err(), "there is no sixth address");
        let another = "s/\"boot\":\"[^\"]*\"/\"boot\":\"11111111-2222-3333-4444-555555555555\"/";
        node.exec(["sh", "-c", &format!("sed -i '{another}' /run/minionet/attachments/*.json")])?;
        node.write("/run/minionet/boot", "11111111-2222-3333-4444-555555555555")?;
        let result = add(node, &late.attachment, &conf("1.1.0"))?;
        ensure!(addresses(&result)?.len() == 2, "{result}");
        for sandbox in &sandboxes {
            del(node, &sandbox.attachment, &conf("1.1.0"))?;
        }
        ensure!(!sandboxes.iter().all(|s| add(node, &s.attachment, &conf("1.1.0")).is_ok()), "one is late's");
        Ok(())
    })
}
