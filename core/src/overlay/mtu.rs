//! How large packets may be.

use super::Encapsulation;
use crate::addr::Family;
use crate::constants::{OVERHEAD_V4, OVERHEAD_V6};
use crate::plan::Block;

/// The MTU of pods in octets: that of the overlay, or of the underlay where nothing of theirs is
/// ever encapsulated.
pub fn pod_mtu(mode: Encapsulation, blocks: &[Block], underlay: Family, underlay_mtu: u32) -> u32 {
    let all_direct = mode == Encapsulation::Never && blocks.iter().all(|b| b.cidr.family() == underlay);
    if all_direct { underlay_mtu } else { overlay_mtu(underlay, underlay_mtu) }
}

/// The MTU of the overlay over an underlay of this MTU, in octets.
pub fn overlay_mtu(underlay: Family, underlay_mtu: u32) -> u32 {
    underlay_mtu.saturating_sub(match underlay {
        Family::V4 => OVERHEAD_V4,
        Family::V6 => OVERHEAD_V6,
    })
}
