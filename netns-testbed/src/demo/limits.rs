//! How many minions one kernel can be.
//!
//! Each minion resolves the hardware addresses of all others, and the kernel counts these entries
//! over all network namespaces together (`neigh_alloc` in net/core/neighbour.c). Beyond the limit
//! packets are dropped, which would look like a fault of the overlay. The overlay's own neighbours
//! are permanent and do not count.

use anyhow::{Result, bail};

/// What the kernel starts with (`arp_tbl` in net/ipv4/arp.c, `nd_tbl` in net/ipv6/ndisc.c).
const DEFAULT_LIMIT: usize = 1024;

/// Refuses a number of minions for which the kernel's limit is too low.
///
/// # Errors
/// Names the limit and the ways out.
pub fn check(nodes: usize, ipv4: bool) -> Result<()> {
    let family = if ipv4 { "ipv4" } else { "ipv6" };
    let parameter = format!("net.{family}.neigh.default.gc_thresh3");
    // Only the machine's own network namespace shows it.
    let shown = std::fs::read_to_string(format!("/proc/sys/{}", parameter.replace('.', "/")));
    let limit = shown.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT_LIMIT);
    if entries(nodes) <= limit {
        return Ok(());
    }
    let most = (1..nodes).rev().find(|count| entries(*count) <= limit).unwrap_or(1);
    bail!(
        "{nodes} minions need {} neighbour entries, but the kernel holds {limit} over all namespaces: use \
         --nodes {most}, or as root of the machine: sysctl -w {parameter}={}",
        entries(nodes),
        entries(nodes).next_power_of_two()
    )
}

/// The neighbour entries of so many minions and the one that joins: each has all the others, the
/// router and the DNS server, and these two have each minion.
fn entries(nodes: usize) -> usize {
    let all = nodes + 1;
    all * (all - 1 + 2) + all * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entries_grow_with_the_square() {
        // One and a newcomer know each other; both and the two servers know one another.
        assert_eq!(entries(1), 2 + 2 * 4);
        assert!(entries(29) <= DEFAULT_LIMIT && entries(30) > DEFAULT_LIMIT);
    }

    #[test]
    fn a_small_cluster_is_never_refused_and_the_limit_is_named() {
        assert!(check(10, true).is_ok() && check(10, false).is_ok());
        let error = check(100_000, true).unwrap_err().to_string();
        assert!(
            error.contains("net.ipv4.neigh.default.gc_thresh3=") && error.contains("--nodes "),
            "{error}"
        );
    }
}
