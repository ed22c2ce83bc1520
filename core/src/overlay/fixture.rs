//! What tests of several modules take for granted.

use super::{Device, ObservedDevice};

/// The device as it is once everything that is wanted of it was done.
pub(crate) fn sound(index: u32, device: &Device) -> ObservedDevice {
    ObservedDevice {
        index,
        up: true,
        is_vxlan: true,
        vni: device.vni,
        port: device.port,
        local: Some(device.local),
        mac: Some(device.mac),
        mtu: device.mtu,
        foreign_features: false,
    }
}
