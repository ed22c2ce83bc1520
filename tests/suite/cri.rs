//! The plugin and the daemon under a real container runtime: containerd, driven as kubelet does.

mod bed;
mod crash;
mod many;
mod pods;

use libtest_mimic::Trial;

pub fn trials() -> Vec<Trial> {
    [pods::trials(), many::trials(), crash::trials()].into_iter().flatten().collect()
}
