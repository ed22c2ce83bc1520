//! Whether the overlay is formed.

use super::{Journal, Readiness};

impl Readiness {
    /// Judges from whether this node's address is known, whether there are peers from an earlier
    /// run, and what was done so far.
    pub fn judge(own_known: bool, restored: bool, journal: &Journal) -> Self {
        let mut lacks = Vec::new();
        let mut lack = |lacking: bool, text: &str| {
            if lacking {
                lacks.push(text.to_owned());
            }
        };
        lack(!own_known, "this node's own address is not known");
        lack(!journal.device_works(), "the VXLAN device is not as it should be");
        lack(!journal.rules_work(), "the rules of the nft table are not as they should be");
        let heard = journal.last_complete().is_some() || restored;
        lack(!heard, "DNS has not answered completely yet, and no peers are known from before");
        Readiness { ready: lacks.is_empty(), lacks }
    }
}
