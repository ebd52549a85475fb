//! The protocol between daemon and shim.
//!
//! ```text
//! daemon                                    shim
//!   │ ───── Hello{version} ────────────────▶ │  first frame on every connection
//!   │ ◀──── Hello{version, state} ────────── │
//!   │ ───── Prepare ───────────────────────▶ │  clone3: namespaces, cgroups, staged mounts
//!   │ ◀──── Prepared{pid} ────────────────── │  (daemon now gives the netns its veth)
//!   │ ───── Connect ───────────────────────▶ │  optional: raise the link, addresses
//!   │ ◀──── Done ─────────────────────────── │
//!   │ ───── Create ────────────────────────▶ │  root file system, pivot_root
//!   │ ◀──── Created{pid} ─────────────────── │
//!   │ ───── Attach + descriptor ───────────▶ │  any number, any time
//!   │ ◀──── Attached ─────────────────────── │
//!   │ ───── Start ─────────────────────────▶ │  execve
//!   │ ◀──── Started | Failed ─────────────── │
//!   │ ◀──── Event::Exited ────────────────── │  unasked, to every connection
//!   │ ───── Delete ────────────────────────▶ │  nothing is left of the container
//!   │ ◀──── Done ─────────────────────────── │  the shim exits
//! ```
//!
//! A connection is a Unix stream socket: the shim's standard input for the daemon that started it,
//! `<dir>/shim.sock` for every later one. A frame is a little-endian `u32` length and that many
//! bytes of JSON, one [`ToShim`] or [`FromShim`]; a descriptor travels by `SCM_RIGHTS` with the
//! first byte of its frame. Answers carry the request's `seq` and may come in any order.
//!
//! The exit status outlives the daemon: the shim keeps it until `Delete`, and also writes it as
//! [`Exit`] to `<dir>/exit.json`, where it is found even after the shim was killed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::ErrorReport;
use crate::id::{ContainerId, ExecId};
use crate::lifecycle::{Exit, State};
use crate::oci::runtime::{IdMapping, LinuxNamespace, LinuxResources, Mount, Process, Spec, TimeOffset};
use crate::time::Timestamp;

/// A mount option of our own runtime: what is bound lies at this path below the source, and no link on it
/// leads out (the source belongs to containers that may change it at the same moment).
pub const BENEATH: &str = "seacow.beneath=";

/// Annotation of a container whose program gets a shadow, when it is `true`: forks of it copy no memory.
pub const FORKABLE: &str = "seacow.forkable";

/// Version of this protocol. A newer daemon serves older shims; never the other way round.
pub const PROTOCOL_VERSION: u32 = 4;
/// Largest frame: an environment of `ARG_MAX` (2 MiB on Linux by default) in JSON, with room.
pub const MAX_FRAME: usize = 8 << 20;
/// Name of the shim's socket in the container's exec directory.
pub const SOCKET_NAME: &str = "shim.sock";
/// Name of the exit status in the container's exec directory.
pub const EXIT_NAME: &str = "exit.json";
/// Name of what `seacow-shim --cleanup` needs ([`CleanupRecord`]) in the container's exec directory.
pub const CLEANUP_NAME: &str = "cleanup.json";

/// What a daemon sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToShim {
    /// Chosen by the daemon, unique on the connection; comes back in the answer.
    pub seq: u64,
    /// The request.
    pub request: Request,
}

/// What a shim sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromShim {
    /// The answer to the request of that `seq`.
    Answer {
        /// The request's number.
        seq: u64,
        /// Its outcome.
        answer: Answer,
    },
    /// Something happened.
    Event(Event),
}

/// Requests of a daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// First on every connection.
    Hello {
        /// The daemon's [`PROTOCOL_VERSION`].
        version: u32,
    },
    /// Makes the init process with everything that depends on the id alone.
    Prepare(Box<Prepare>),
    /// Tells the prepared init that its link is there: it raises it and takes its address. Since
    /// version 2.
    Connect(Box<NetworkConfig>),
    /// Gives the prepared init its root file system, mounts and program.
    Create(Box<Create>),
    /// Gives the created init another program than the one it was created with: the container was
    /// made before anybody knew. Since version 3.
    Program(Box<Program>),
    /// Executes the program.
    Start,
    /// Connects the descriptor that comes with this frame to the standard streams.
    Attach(Attach),
    /// Runs one more process in the container. With `attach` set, a descriptor comes along.
    Exec(Box<Exec>),
    /// Sends a signal.
    Signal {
        /// To whom.
        target: Target,
        /// Linux signal number.
        signal: i32,
        /// To every process of the container instead of the target alone.
        all: bool,
    },
    /// Sets the size of the target's terminal.
    Resize {
        /// Whose terminal.
        target: Target,
        /// Rows.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Closes the target's standard input.
    CloseStdin {
        /// Whose.
        target: Target,
    },
    /// Freezes all processes.
    Pause,
    /// Thaws them.
    Resume,
    /// Changes resource limits of the running container.
    Update {
        /// Only what is set is changed.
        resources: Box<LinuxResources>,
    },
    /// Asks for [`Answer::Status`].
    Status,
    /// Host pids of all processes in the container.
    Pids,
    /// Asks for everything that stands in the way of a fork ([`Answer::Examined`]); touches nothing. Since
    /// version 4, as are the four below.
    Examine,
    /// Forks the running program: its state and memory are taken, of which [`Request::Clone`] makes
    /// clones. A stream socket comes with this frame; on it both sides speak [`Pause`] while the
    /// program stands still.
    Fork {
        /// Milliseconds after which it goes on, whatever the daemon does.
        pause_at_most: u32,
    },
    /// The stream socket that comes with this frame is, from now on, the connection for one more
    /// container of this shim, which [`Request::Clone`] makes. It starts with [`Request::Hello`].
    Sibling {
        /// The new container's exec directory, which exists.
        dir: PathBuf,
    },
    /// First after the greeting of a [`Request::Sibling`]'s connection, and in place of `Prepare` and
    /// `Create`: makes a clone from the last fork of the container that it is a sibling of. A descriptor
    /// of its network namespace comes with this frame, unless it has the host's.
    Clone(Box<NewClone>),
    /// Lets go of what is kept of the last fork: the next one begins from nothing.
    Retire,
    /// Kills what still runs, removes cgroups and the exec directory's own files; the shim then exits.
    Delete,
}

/// Whose streams or process is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The container's main process.
    Init,
    /// A process started by [`Request::Exec`].
    Exec(ExecId),
}

/// What the init process needs before it knows its image. Everything here may be done long before
/// the container is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prepare {
    /// The container's id.
    pub id: ContainerId,
    /// Namespaces to make, or to join by path. A kind that is absent is shared with the host.
    pub namespaces: Vec<LinuxNamespace>,
    /// Cgroup below each hierarchy's root, such as `/seacow/<id>`.
    pub cgroups_path: String,
    /// Mounts that do not depend on the image: `/proc`, `/sys`, `/dev`, … in order.
    pub mounts: Vec<Mount>,
    /// Paths below those mounts that are hidden.
    pub masked_paths: Vec<String>,
    /// Paths below those mounts that are read-only.
    pub readonly_paths: Vec<String>,
    /// Device nodes and default device rules are left out and all of the host's devices appear.
    pub privileged: bool,
    /// What new user and time namespaces are filled with.
    #[serde(default)]
    pub settings: NamespaceSettings,
    /// The runtime that makes the container; `None` is ours, in the shim itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeCommand>,
}

/// What belongs to a namespace when it is made. Empty where the kind is not made anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceSettings {
    /// User ids of a new user namespace.
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of a new user namespace.
    pub gid_mappings: Vec<IdMapping>,
    /// `monotonic` and `boottime` of a new time namespace.
    pub time_offsets: std::collections::BTreeMap<String, TimeOffset>,
}

/// Another OCI runtime than ours: a command with runc's command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeCommand {
    /// The program, an absolute path.
    pub path: PathBuf,
    /// What it is told before its verb, such as `--systemd-cgroup`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// What the container is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    /// Process, remaining mounts (in order, after the prepared ones), hostname, resources, seccomp,
    /// rlimits. Namespaces, masked and read-only paths repeat what `Prepare` had. `spec.root` says
    /// whether the root is read-only; its path is ignored in favour of `rootfs`.
    pub spec: Spec,
    /// `user[:group]` by name or number, looked up in the container's own `/etc/passwd` and
    /// `/etc/group` after the root was entered; empty is root. `HOME` is set from the password file
    /// when the environment has none. Takes the place of `spec.process.user`.
    pub user: String,
    /// Names or numbers of further groups, looked up in the same way.
    pub extra_groups: Vec<String>,
    /// How the root file system is put together.
    pub rootfs: Rootfs,
    /// Its files have the container's own ids, and a container with a user namespace is shown them
    /// through id-mapped mounts. Otherwise they have the host's.
    #[serde(default)]
    pub maps_root: bool,
    /// Standard streams.
    pub stdio: Stdio,
    /// Where output is logged.
    pub log: LogConfig,
    /// System call filter.
    pub seccomp: SeccompChoice,
    /// What the hooks of `spec` read: id, bundle, annotations. Status and pid are the runtime's to
    /// fill in. Without it hooks are told an empty id.
    #[serde(default)]
    pub state: crate::oci::state::State,
}

/// What a clone is: an ordinary container in all but its program, which goes on from the source's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewClone {
    /// As for a container of its own. All namespaces are new but the network's, which is given.
    pub prepare: Prepare,
    /// As for a container of its own; the process in it only describes further ones.
    pub create: Create,
    /// Addresses of the source's, and what they are for the clone: sockets that listen on one listen on
    /// the other.
    pub addresses: Vec<(std::net::IpAddr, std::net::IpAddr)>,
}

impl NewClone {
    /// Whether a network namespace comes with it.
    pub fn has_network(&self) -> bool {
        let network = |ns: &LinuxNamespace| ns.kind == crate::oci::runtime::NamespaceKind::Network;
        self.prepare.namespaces.iter().any(network)
    }
}

/// What is said while a program stands still to be forked, in frames, on a socket of its own: neither
/// waits for anything else that is under way between the two.
///
/// ```text
/// daemon                              shim
///   │ ───── Request::Fork + socket ────▶ │  stop, look
///   │ ◀──── Forking ──────────────────── │
///   │       (files are snapshotted)      │  state and memory; waits no longer than the deadline
///   │ ───── Frozen | Failed ───────────▶ │  the program goes on
///   │ ◀──── Answer::Forked ───────────── │
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// The shim: it stands still and can be forked; now its files.
    Forking,
    /// The daemon: they are.
    Frozen,
    /// The daemon: they could not be; there is no fork.
    Failed(ErrorReport),
}

/// What a fork took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forked {
    /// How long the program stood still, in microseconds.
    pub pause: u64,
    /// Of these, what was waited for the daemon's part.
    pub files: u64,
    /// From the request until clones can be made, in microseconds.
    pub ready: u64,
    /// Bytes of memory that were copied.
    pub copied: u64,
    /// How.
    #[serde(default)]
    pub path: ForkPath,
}

/// How the memory of a fork was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForkPath {
    /// From a snapshot of the program.
    #[default]
    Snapshot,
    /// What has changed since an earlier one.
    Kept,
    /// By one fork of its shadow: not at all.
    Shadow,
}

/// What a container executes, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// `spec.process.args`.
    pub args: Vec<String>,
    /// `spec.process.env`.
    pub env: Vec<String>,
    /// [`Create::user`].
    pub user: String,
    /// [`Create::extra_groups`].
    pub extra_groups: Vec<String>,
}

impl Create {
    /// Takes the program out, which leaves what a container is without it.
    pub fn take_program(&mut self) -> Program {
        let (args, env) = match &mut self.spec.process {
            Some(process) => (std::mem::take(&mut process.args), std::mem::take(&mut process.env)),
            None => Default::default(),
        };
        Program {
            args,
            env,
            user: std::mem::take(&mut self.user),
            extra_groups: std::mem::take(&mut self.extra_groups),
        }
    }
}

/// Which system call filter a process gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompChoice {
    /// Docker's default profile, adapted to the process's capabilities. The runtime has it ready
    /// compiled, which is why it is not sent.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// This one.
    Profile(Box<crate::oci::runtime::Seccomp>),
}

/// How a root file system is put together. Described by the store, mounted by the runtime in the
/// container's own mount namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// Read-only layers below one writable directory.
    Overlay {
        /// Topmost layer first; never empty.
        lowers: Vec<Lower>,
        /// The writable layer; `None` for a read-only view.
        upper: Option<OverlayUpper>,
    },
    /// A directory as it is.
    Directory(PathBuf),
}

/// One read-only layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lower {
    /// A directory.
    Dir(PathBuf),
    /// The live root file system of the host below a mask that hides parts of it: a read-only
    /// overlay of its own, mounted first. Overlayfs refuses a layer that lies below another layer
    /// of the same file system, and every directory lies below `/`; as a file system of its own
    /// the view has no such relation.
    HostView {
        /// Whiteouts and opaque directories, on a file system other than the root's.
        mask: PathBuf,
        /// The host's root directory.
        root: PathBuf,
    },
}

/// The writable part of an overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayUpper {
    /// Directory that receives changes.
    pub upper: PathBuf,
    /// Overlayfs's work directory, on the same file system.
    pub work: PathBuf,
    /// Skip all syncs: for containers whose files are thrown away.
    pub volatile: bool,
    /// A change of owner or mode copies no data, and directories of layers can be renamed.
    #[serde(default)]
    pub metacopy: bool,
}

/// How the container's only interface is configured, from inside its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Interface name, `eth0`.
    pub ifname: String,
    /// Address and prefix length.
    pub address: std::net::Ipv4Addr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// Default route, unless the network is internal.
    pub gateway: Option<std::net::Ipv4Addr>,
}

/// Standard streams of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stdio {
    /// One terminal instead of three pipes.
    pub terminal: bool,
    /// Terminal size at the start, rows and columns; 0 when unknown.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
    /// Keep standard input open although nobody is attached; otherwise it is `/dev/null`.
    pub open_stdin: bool,
    /// Close standard input when the first client that was attached to it goes.
    pub stdin_once: bool,
}

/// Where output is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogConfig {
    /// Nowhere.
    None,
    /// Docker's json-file format.
    JsonFile {
        /// The newest file; older ones are `<path>.1`, `<path>.2`, …
        path: PathBuf,
        /// A file is rotated before it grows over this many bytes.
        max_size: u64,
        /// How many files are kept, at least 1.
        max_files: u32,
    },
}

/// Connects a client to the standard streams of a process.
///
/// The descriptor is a stream socket. Without a terminal the shim writes Docker's multiplexed
/// frames (stream byte, three zeros, big-endian `u32` length, payload); with one, raw bytes. What
/// it reads is standard input; the end of the client's half is the end of input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Whose streams.
    pub target: Target,
    /// Forward what the client sends.
    pub stdin: bool,
    /// Send standard output.
    pub stdout: bool,
    /// Send standard error.
    pub stderr: bool,
    /// Bytes that, typed in a row on a terminal, detach the client. Empty: none.
    pub detach_keys: Vec<u8>,
    /// What the daemon had already read from the client.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initial_stdin: Vec<u8>,
}

/// One more process in a running container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// Its id.
    pub exec_id: ExecId,
    /// What is run. Capabilities, rlimits and `no_new_privileges` are taken from here.
    pub process: Process,
    /// As in [`Create::user`].
    pub user: String,
    /// As in [`Create::extra_groups`].
    pub extra_groups: Vec<String>,
    /// System call filter.
    pub seccomp: SeccompChoice,
    /// Standard streams.
    pub stdio: Stdio,
    /// Streams the accompanying descriptor is connected to before the process runs; `None` for a
    /// detached process, whose output is discarded.
    pub attach: Option<Attach>,
}

/// Outcomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Hello`].
    Hello {
        /// The shim's [`PROTOCOL_VERSION`].
        version: u32,
        /// The shim's own pid.
        shim_pid: i32,
        /// What it holds.
        status: Box<Status>,
    },
    /// Done, nothing to add.
    Done,
    /// To [`Request::Prepare`]: the namespaces exist.
    Prepared {
        /// Init as the host sees it.
        pid: i32,
    },
    /// To [`Request::Create`].
    Created {
        /// Init as the host sees it.
        pid: i32,
    },
    /// To [`Request::Start`] and [`Request::Exec`]: the program was executed.
    Started {
        /// The process as the host sees it.
        pid: i32,
        /// When.
        at: Timestamp,
    },
    /// To [`Request::Attach`].
    Attached {
        /// Size of the newest log file at that moment: what is logged before this offset was not
        /// sent to the client, what comes after it is.
        log_offset: u64,
    },
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Pids`].
    Pids(Vec<i32>),
    /// To [`Request::Examine`].
    Examined {
        /// One sentence each; empty when nothing stands in the way.
        reasons: Vec<String>,
    },
    /// To [`Request::Fork`].
    Forked(Forked),
    /// To [`Request::Clone`]: it is complete, and stands still until [`Request::Start`].
    Held {
        /// The clone as the host sees it.
        pid: i32,
    },
    /// It could not be done.
    Failed(ErrorReport),
}

/// What a shim holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The container, once there is one.
    pub id: Option<ContainerId>,
    /// Where it is in its life; `None` before `Create` succeeded.
    pub state: Option<State>,
    /// Processes of [`Request::Exec`] that were not forgotten yet.
    pub execs: Vec<ExecStatus>,
}

/// One process of [`Request::Exec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStatus {
    /// Its id.
    pub exec_id: ExecId,
    /// As the host sees it.
    pub pid: i32,
    /// How it ended, when it has.
    pub exit: Option<Exit>,
}

/// What a shim reports unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The main process ended; all output was read and logged before.
    Exited(Exit),
    /// A process of [`Request::Exec`] ended.
    ExecExited {
        /// Which.
        exec_id: ExecId,
        /// How.
        exit: Exit,
    },
    /// The kernel's OOM killer struck in the container.
    OutOfMemory,
    /// The main process has executed a program, and goes on as another one on the host. Only of a container
    /// with [`FORKABLE`]; since version 4.
    Moved {
        /// As the host sees it.
        pid: i32,
    },
}

/// What `seacow-shim --cleanup <dir>` needs after the shim itself was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanupRecord {
    /// The container.
    pub id: ContainerId,
    /// Its cgroup below each hierarchy's root.
    pub cgroups_path: String,
    /// The init process and its start time in clock ticks (`/proc/<pid>/stat` field 22), so that
    /// a recycled pid is never killed.
    pub init: Option<(i32, u64)>,
    /// Whose container it is, if not our own runtime's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeCommand>,
}

/// A frame that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The transport failed or ended inside a frame.
    #[error("shim connection: {0}")]
    Io(#[from] std::io::Error),
    /// The length exceeds [`MAX_FRAME`].
    #[error("shim frame of {0} bytes exceeds the limit of {MAX_FRAME}")]
    TooLarge(usize),
    /// The bytes are not a message of this protocol.
    #[error("shim frame: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// One message as a frame.
///
/// # Errors
/// The message is larger than [`MAX_FRAME`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let len = frame.len() - 4;
    let header = u32::try_from(len).ok().filter(|_| len <= MAX_FRAME).ok_or(FrameError::TooLarge(len))?;
    frame[..4].copy_from_slice(&header.to_le_bytes());
    Ok(frame)
}

/// Takes whole frames out of what a connection delivered so far.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Appends what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether every byte was taken as part of a whole message.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole message, if one has arrived.
    ///
    /// # Errors
    /// The frame is too large or malformed; the connection is of no further use.
    pub fn next_message<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*header) as usize;
        if len > MAX_FRAME {
            return Err(FrameError::TooLarge(len));
        }
        let Some(body) = self.buffer.get(4..4 + len) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.buffer.drain(..4 + len);
        if self.buffer.is_empty() && self.buffer.capacity() > 1 << 10 {
            // An idle shim keeps no large buffer: it has 64 kB for everything.
            self.buffer = Vec::new();
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_split() {
        let messages: Vec<ToShim> = (0..3)
            .map(|seq| ToShim {
                seq,
                request: Request::Signal { target: Target::Init, signal: 15, all: false },
            })
            .collect();
        let bytes: Vec<u8> = messages.iter().flat_map(|m| encode(m).unwrap()).collect();
        for chunk in 1..bytes.len() {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for part in bytes.chunks(chunk) {
                decoder.push(part);
                while let Some(message) = decoder.next_message::<ToShim>().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, messages);
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_before_it_is_read() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert!(matches!(decoder.next_message::<ToShim>(), Err(FrameError::TooLarge(_))));
    }
}
