//! Mounts of a container.
//!
//! Two stages. The [`stage`] has what does not depend on the image: `/proc`, `/sys`, `/dev` with
//! masks, mounted on a private tmpfs, long before the container is asked for. The [`rootfs`] is
//! mounted then, the staged trees are moved into it, and user mounts follow.
//!
//! Every path inside the container is resolved below its root ([`seacow_sys::rooted`]); the
//! kernel then gets the resulting *descriptor* as the mount's target, so that an image full of
//! symlinks, or somebody who renames directories of a shared volume meanwhile, cannot move a mount
//! somewhere else (CVE-2019-16884, CVE-2021-30465).

pub(crate) mod borrow;
pub(crate) mod cgroup_view;
mod copy_up;
pub(crate) mod devices;
mod lent;
pub(crate) mod mapped;
pub(crate) mod masks;
pub(crate) mod options;
pub(crate) mod place;
pub(crate) mod rootfs;
pub(crate) mod sources;
pub(crate) mod stage;
