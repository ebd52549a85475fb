//! What a clone gets from the caller.

use std::ffi::CString;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use crate::shadow::Charge;

/// One clone's surroundings. Everything is borrowed for the making and belongs to the caller still.
#[derive(Debug, Default)]
pub struct Spec<'a> {
    /// Its root file system and what is mounted below it, in order.
    pub mounts: Vec<Mount<'a>>,
    /// Its network namespace. Without one it stays in the one that the caller is in.
    pub network: Option<BorrowedFd<'a>>,
    /// The cgroup v2 directory that it is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// `tasks` files of version 1 cgroups, open for writing: it joins them itself, by writing `0`. (Whoever
    /// writes another's pid waits for the kernel, 5 to 10 ms.)
    pub join: Vec<BorrowedFd<'a>>,
    /// It gets a shadow of its own, charged so.
    pub shadow: Option<Charge<'a>>,
    /// Its streams, in the order of the objects that were given for the source.
    pub streams: Vec<BorrowedFd<'a>>,
    /// Its host name.
    pub host_name: String,
    /// Its domain name, unless it is empty.
    pub domain_name: String,
    /// Files of `/proc/sys` that it writes to as soon as its `/proc` is mounted, and what: settings of its
    /// namespaces. (The host's own `/proc` remembers the network settings of every namespace that was ever
    /// looked at there, and compares with all of them.)
    pub settings: Vec<(CString, String)>,
    /// Files of `/proc` that it writes to when all is mounted, and what: labels of security modules, which
    /// nobody else can set.
    pub labels: Vec<(CString, String)>,
    /// Own addresses of the source, and what they are for the clone: a listening socket that is bound to
    /// one is bound to the other.
    pub addresses: Vec<(IpAddr, IpAddr)>,
}

/// One mount. Targets are paths of the new root, below which they are resolved: the root is mounted and
/// entered first, so that no link leads out of it.
#[derive(Debug)]
pub enum Mount<'a> {
    /// A detached tree becomes the root.
    Root(BorrowedFd<'a>),
    /// A detached tree is put at this place.
    Attach {
        /// The tree, as open_tree or fsmount gives it.
        tree: BorrowedFd<'a>,
        /// The place.
        target: CString,
    },
    /// A file system that belongs to the clone's namespaces (proc, sysfs, mqueue, devpts) or to nobody
    /// else (tmpfs) is made and put at this place, which must not be a symbolic link. The first of them is
    /// `/proc`, by which the others' places are reached.
    New {
        /// Its kind.
        kind: CString,
        /// The place.
        target: CString,
        /// MS_* bits.
        flags: u64,
        /// Options.
        options: CString,
    },
    /// A file or directory is put at another place, too.
    Bind {
        /// What.
        source: CString,
        /// The place.
        target: CString,
        /// MS_* bits that it gets there; MS_REC binds what is mounted below, too.
        flags: u64,
        /// It is left out when there is no such place or thing (masked paths).
        optional: bool,
    },
}
