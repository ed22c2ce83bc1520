//! A real container runtime for tests: Debian's containerd and crun, driven over CRI v1.
//!
//! [`Runtime`] starts containerd from the network namespace of a test's node with a
//! configuration of its own, imports images made on the spot from busybox-static, and hands
//! out a [`Client`] that speaks CRI as kubelet does.
//! [`available`] says first whether this machine can do that.
//!
//! # What containerd and crun demand, and how each demand is met
//!
//! - *crun refuses a machine with both versions of cgroups*: "cgroups in hybrid mode not
//!   supported, drop all controllers from cgroupv2". The runtime gets a mount namespace whose
//!   `/sys/fs/cgroup` holds either all hierarchies of version 1 or that of version 2. Merely
//!   unmounting `/sys/fs/cgroup/unified` also works, but makes crun leave directories in the
//!   machine's tmpfs beneath that mount point.
//! - *A negative OOM score needs `CAP_SYS_RESOURCE`*, which containers and some virtual machines
//!   lack: `restrict_oom_score_adj`.
//! - *The kernel may lack overlayfs*: the `native` snapshotter, which copies the files of the
//!   image for each container (2 MB here).
//! - *`ctr images import` unpacks for overlayfs* whatever the configuration says:
//!   `--snapshotter native`.
//! - *A missing pause image would be pulled*: ours has a name that cannot be resolved and is
//!   imported before the first pod.
//! - *Two places are fixed in the code*: the shims' sockets and crun's state in
//!   `/run/containerd`, the CNI library's results in `/var/lib/cni`. Both are covered by a tmpfs
//!   of the runtime's own. Network namespaces would be bound in `/run/netns`;
//!   `netns_mounts_under_state_dir` brings them into the state directory, so `CNI_NETNS` is a
//!   path below that.
//! - *Shims outlive containerd and leave their parent*: everything runs in a pid namespace,
//!   whose first process (`cri/supervisor.sh`) kills them all at the end. It ends when its
//!   standard input does, hence also when the test is killed. Mounts vanish with the mount
//!   namespace; cgroups carry the name of the instance and are removed last.
//! - *A restarted containerd needs the mounts of its predecessor*, the bound network namespaces
//!   above all: the namespaces belong to the supervisor and not to containerd.
//! - *containerd runs the `loopback` plugin in every pod*: it must be among the plugins given.
//! - *containerd listens on 127.0.0.1* for the streams of `kubectl exec`, and ends where it cannot:
//!   the loopback interface of the node must be up. Without it the first start works all the
//!   same, for the kernel takes every address as long as a network namespace has no route
//!   at all; the next start, after the first pod, fails.
//! - *containerd looks at `/run/netns` and the like in its own mount namespace*: whatever must see
//!   the pods by path, such as a collector of dead attachments, is started by
//!   [`Runtime::command`].
//!
//! # Why the client is made by hand
//!
//! The usual way is code generated from the interface's `.proto` file and an RPC framework. It
//! needs `protoc`, or its output checked in, and 57 crates where
//! h2 and prost are 31: 35 seconds of processor time in a fresh build instead of 19.
//! The dozen calls needed here are a few messages and one function for a unary call.

mod client;
mod config;
mod grpc;
mod image;
mod needs;
mod poll;
pub mod proto;
mod runtime;
mod supervisor;

pub use client::Client;
pub use config::{BUSYBOX_IMAGE, PAUSE_IMAGE};
pub use grpc::CallError;
pub use needs::available;
pub use runtime::{Options, Runtime, RuntimeError};
pub use supervisor::SupervisorError;
