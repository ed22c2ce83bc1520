//! The network configuration list for the container runtime.

use minionet_core::constants::CNI_NETWORK;
use serde_json::json;

/// The text of the list.
///
/// It says version 1.0.0 and names the others: a runtime whose library knows `cniVersions`
/// (CNI 1.1.0) takes the newest that it knows, an older one takes 1.0.0.
pub fn text() -> String {
    let list = json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
        "name": CNI_NETWORK,
        "plugins": [{
            "type": "minionet",
            // What the plugin does with what a runtime offers; the rest is not even sent.
            "capabilities": {"bandwidth": true, "dns": true, "ips": true, "mac": true, "portMappings": true},
        }],
    });
    format!("{list:#}\n")
}
