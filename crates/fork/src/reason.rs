//! Why a process cannot be forked: the list that is shown before anything is touched.

use std::fmt;

/// One thing about a process that a clone could not have, or that would harm the source.
///
/// Each names what stands in the way, so that a user can do something about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There are further processes in the container.
    MoreProcesses {
        /// Their pids, as the caller sees them.
        pids: Vec<i32>,
    },
    /// The process is not the first of its pid namespace.
    NotFirst,
    /// Somebody traces it (strace, gdb); a process has one tracer.
    Traced {
        /// The tracer.
        by: i32,
    },
    /// It was stopped by a signal.
    StoppedBySignal,
    /// It is a 32-bit program.
    Compat,
    /// It lives in a user namespace of its own.
    UserNamespace,
    /// It lives in a time namespace of its own.
    TimeNamespace,
    /// A thread has other user, group or capabilities than the first one.
    MixedCredentials {
        /// The thread.
        tid: i32,
    },
    /// It is in seccomp's strict mode, in which nothing can be done.
    StrictSeccomp,
    /// A system call filter of it asks another process, which only knows the source.
    SeccompListener,
    /// A descriptor that is not handled.
    Descriptor {
        /// Its number.
        number: i32,
        /// Why.
        what: Descriptor,
    },
    /// A mapping that is not handled.
    Mapping {
        /// Where it begins.
        address: u64,
        /// Why.
        what: Mapped,
    },
    /// Memory is locked, which no fork inherits.
    LockedMemory {
        /// How much.
        kilobytes: u64,
    },
    /// The kernel's vdso leaves no room for the way back that a process needs while it is worked on.
    NoRoomForReturn,
}

/// What is the matter with a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// A connection to the outside.
    Connection {
        /// `tcp 10.0.0.2:443`, as far as it can be told.
        to: String,
    },
    /// A Unix socket that is connected to another process.
    UnixConnection,
    /// Messages, descriptors or datagrams that wait in a socket.
    QueuedMessages,
    /// Any other socket.
    Socket {
        /// Address family and type.
        kind: String,
    },
    /// The other end of the pipe is in another process.
    Pipe,
    /// A pipe in packet mode with data in it.
    PacketPipe,
    /// A terminal.
    Terminal,
    /// A device that only the source may have, or whose state is unknown.
    Device {
        /// Its path.
        path: String,
    },
    /// A file without name any more.
    Deleted {
        /// The name it had.
        path: String,
    },
    /// A file that is not below the process's root.
    Outside {
        /// What the kernel calls it.
        path: String,
    },
    /// A lock on a file, which belongs to the source.
    Locked {
        /// The file.
        path: String,
    },
    /// An anonymous kernel object: io_uring, inotify, …
    Object {
        /// The kernel's name for it.
        name: String,
    },
    /// An item of an epoll set whose descriptor was closed while the file lives on.
    StaleEpollItem,
}

/// What is the matter with a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// Memory shared with others, or without file.
    Shared {
        /// What the kernel calls it.
        name: String,
    },
    /// Huge pages from the reserved pool.
    HugePages,
    /// A device's memory, or that of a kernel object.
    Device {
        /// What the kernel calls it.
        name: String,
    },
    /// A shared mapping of a file that has no name any more.
    Deleted {
        /// The name it had.
        name: String,
    },
    /// A protection key other than the default one.
    ProtectionKey,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MoreProcesses { pids } => {
                let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
                write!(f, "further processes run in the container (pids {})", pids.join(", "))
            }
            Self::NotFirst => f.write_str("it is not the first process of its pid namespace"),
            Self::Traced { by } => write!(f, "process {by} traces it"),
            Self::StoppedBySignal => f.write_str("it was stopped by a signal"),
            Self::Compat => f.write_str("it is a 32-bit program"),
            Self::UserNamespace => f.write_str("it has a user namespace of its own"),
            Self::TimeNamespace => f.write_str("it has a time namespace of its own"),
            Self::MixedCredentials { tid } => write!(f, "thread {tid} has credentials of its own"),
            Self::StrictSeccomp => f.write_str("it is in seccomp's strict mode"),
            Self::SeccompListener => f.write_str("a system call filter of it has a listener"),
            Self::Descriptor { number, what } => write!(f, "descriptor {number}: {what}"),
            Self::Mapping { address, what } => write!(f, "memory at {address:#x}: {what}"),
            Self::LockedMemory { kilobytes } => write!(f, "{kilobytes} kB of its memory are locked"),
            Self::NoRoomForReturn => f.write_str("this kernel's vdso leaves no room for the way back"),
        }
    }
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection { to } => write!(f, "an established connection ({to})"),
            Self::UnixConnection => f.write_str("a Unix socket connected to another process"),
            Self::QueuedMessages => f.write_str("messages wait in the socket"),
            Self::Socket { kind } => write!(f, "a socket of a kind that is not handled ({kind})"),
            Self::Pipe => f.write_str("a pipe whose other end is in another process"),
            Self::PacketPipe => f.write_str("a pipe in packet mode with data in it"),
            Self::Terminal => f.write_str("a terminal"),
            Self::Device { path } => write!(f, "a device ({path})"),
            Self::Deleted { path } => write!(f, "a deleted file ({path})"),
            Self::Outside { path } => write!(f, "not a file of the container ({path})"),
            Self::Locked { path } => write!(f, "a lock is held on {path}"),
            Self::Object { name } => write!(f, "a kernel object that is not handled ({name})"),
            Self::StaleEpollItem => f.write_str("an epoll item whose descriptor was closed"),
        }
    }
}

impl fmt::Display for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared { name } => write!(f, "shared memory ({name})"),
            Self::HugePages => f.write_str("huge pages of the reserved pool"),
            Self::Device { name } => write!(f, "memory of a device or kernel object ({name})"),
            Self::Deleted { name } => write!(f, "a shared mapping of a deleted file ({name})"),
            Self::ProtectionKey => f.write_str("a protection key"),
        }
    }
}
