//! What the builder asks of the engine.
//!
//! The builder is synchronous and knows neither containers nor storage drivers: it decides what to
//! do, and an [`Executor`] does it. The engine makes one executor per build (holding the client's
//! registry credentials), and calls [`crate::build`] on a thread that may block.
//!
//! Vocabulary:
//! - a *base image* is an image's id together with its parsed config;
//! - a *step container* is the container of one `RUN`: created, run once, committed, removed;
//! - a *workspace* is a fresh writable layer over an image, seen as one merged tree through a
//!   directory descriptor; `COPY`, `ADD` and `WORKDIR` write into it;
//! - a *view* is the same without the right to write, for `COPY --from`;
//! - a *mount* is there for one `RUN` and leaves nothing behind;
//! - a *change* is what a container or workspace left behind: nothing, or a layer.
//!
//! Lifecycle of a step that is not in the cache:
//! ```text
//! RUN      container() → run() → commit() → create_image() → remove()
//! COPY     workspace() → (files written below root()) → commit() → create_image()
//! others   create_image()
//! ```
//! A workspace or view that is dropped is unmounted and discarded. A container that is dropped
//! without `remove` stays, as Docker leaves the container of a failed step for inspection.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::docker::host_config::HostConfig;
use seacow_spec::oci::image::ImageConfig;
use seacow_spec::{Digest, ErrorReport, Reference, Timestamp};

use crate::cancel::Cancel;
use crate::dockerfile::mount::Sharing;
use crate::output::{Disconnected, Sink};

/// An image: its id and its config.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Digest of the config blob.
    pub id: Digest,
    /// The config blob, parsed.
    pub config: Arc<ImageConfig>,
}

/// When to ask the registry for an image that a Dockerfile names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// Only when it is not here.
    Missing,
    /// Always (`--pull`).
    Always,
}

/// What a step left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Empty,
    /// A layer, stored; its diff id.
    Layer(Digest),
}

/// Which of a command's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A `RUN` to be carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStep {
    /// Image to start from; `None` is an empty root.
    pub image: Option<Digest>,
    /// Command, environment (build arguments included), user, working directory. The entrypoint is
    /// `[""]`, which is Docker's way to say "none, whatever the image has"; health checks are off.
    pub config: ContainerConfig,
    /// Limits and network of the build's options.
    pub host_config: HostConfig,
    /// What is there for this command only.
    pub mounts: Vec<RunMount>,
    /// Variables that nobody may see afterwards (`NAME=value`).
    pub secret_env: Vec<String>,
}

/// A mount of a `RUN`, at an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMount {
    /// Where.
    pub target: String,
    /// What.
    pub kind: RunMountKind,
}

/// What is mounted for a `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunMountKind {
    /// Files that are there already.
    Files {
        /// Whose.
        from: FilesFrom,
        /// Below its root; empty or relative.
        path: PathBuf,
        /// Writes are allowed, and thrown away.
        writable: bool,
    },
    /// A directory that is kept from build to build.
    Cache {
        /// Its name.
        id: String,
        /// Who else may use it meanwhile.
        sharing: Sharing,
        /// Nothing may be written.
        read_only: bool,
        /// Permissions, user and group of a new one.
        owner: (u32, u32, u32),
        /// What a new one is filled with.
        seed: Option<(FilesFrom, PathBuf)>,
    },
    /// Memory, of this many bytes (0: as the kernel likes).
    Tmpfs(i64),
    /// One file with these bytes, which are kept in memory only.
    File {
        /// Its bytes.
        data: Secret,
        /// Permissions, user and group.
        owner: (u32, u32, u32),
    },
    /// A socket that leads to the client's ssh agent.
    Agent {
        /// Which of its agents.
        id: String,
        /// Permissions, user and group.
        owner: (u32, u32, u32),
    },
}

/// Whose files are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilesFrom {
    /// An image's; `None` has no files.
    Image(Option<Digest>),
    /// A directory of the host, which is a context.
    Directory(PathBuf),
}

/// Bytes that are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

/// A directory with what was fetched, removed when dropped.
pub trait Fetched {
    /// The directory.
    fn root(&self) -> BorrowedFd<'_>;

    /// The commit that was taken from a repository.
    fn commit(&self) -> Option<&str>;
}

/// Something to be fetched for `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// One file over HTTP. It is put into the directory under the given name.
    Url {
        /// Where it is.
        url: String,
        /// The name that it gets.
        name: String,
    },
    /// A repository. Its files are put into the directory.
    Git {
        /// Where it is, without what follows a `#`.
        repository: String,
        /// Branch, tag or commit; empty for the default branch.
        reference: String,
        /// Directory in it; empty for all.
        subdirectory: String,
        /// Keep `.git`.
        keep_git_dir: bool,
    },
}

/// Where a running step's output goes.
pub trait StepOutput {
    /// Takes bytes as they came; they may end in the middle of a character.
    ///
    /// # Errors
    /// Nobody listens any more: stop the step.
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Disconnected>;
}

/// What the builder asks of the engine.
pub trait Executor: Sync {
    /// The image of a `FROM` or `COPY --from`: a name as it stands in the Dockerfile, an id, or
    /// the reserved name `host`. Pull progress goes to `progress`.
    ///
    /// # Errors
    /// No such image, or it cannot be had.
    fn resolve(&self, name: &str, pull: Pull, progress: &mut dyn Sink) -> Result<Image, ErrorReport>;

    /// All images made by a build on this machine directly on top of `parent` (`None`: on
    /// nothing). The cache compares their `container_config`, which whoever makes an image can
    /// write as they like: one that was loaded, imported or pulled must not be among them
    /// (CVE-2024-24557).
    ///
    /// # Errors
    /// The store cannot be read.
    fn children(&self, parent: Option<&Digest>) -> Result<Vec<Image>, ErrorReport>;

    /// Stores an image. Every diff id in the config is that of a base image or of a [`Change`].
    ///
    /// # Errors
    /// The store cannot be written.
    fn create_image(&self, config: &ImageConfig, parent: Option<&Digest>) -> Result<Digest, ErrorReport>;

    /// As [`Executor::create_image`]; the last diff id may be one of the layers of `source`, which
    /// begins with the parent's.
    ///
    /// # Errors
    /// The store cannot be written.
    fn inherit(
        &self,
        config: &ImageConfig,
        parent: Option<&Digest>,
        source: &Digest,
    ) -> Result<Digest, ErrorReport>;

    /// Creates the container of a `RUN`, not started.
    ///
    /// # Errors
    /// It cannot be created.
    fn container(&self, step: &RunStep) -> Result<Box<dyn StepContainer + '_>, ErrorReport>;

    /// A fresh writable layer on an image (`None`: on nothing).
    ///
    /// # Errors
    /// It cannot be prepared or mounted.
    fn workspace(&self, image: Option<&Digest>) -> Result<Box<dyn Workspace + '_>, ErrorReport>;

    /// An image's files, to read (`None`: no files).
    ///
    /// # Errors
    /// They cannot be mounted.
    fn view(&self, image: Option<&Digest>) -> Result<Box<dyn View + '_>, ErrorReport>;

    /// Fetches what an `ADD` names.
    ///
    /// # Errors
    /// It is not there, or cannot be fetched.
    fn fetch(&self, remote: &Remote, cancel: &Cancel) -> Result<Box<dyn Fetched + '_>, ErrorReport>;

    /// What was remembered under a key, for as long as anybody likes to remember.
    fn recall(&self, key: &str) -> Option<String>;

    /// Remembers something that can be found out again.
    fn remember(&self, key: String, value: String);

    /// A secret of the client; `None` when it has none of that name.
    fn secret(&self, id: &str) -> Option<Secret>;

    /// Whether the client offers an ssh agent of that name.
    fn has_agent(&self, id: &str) -> bool;

    /// Gives the built image a name.
    ///
    /// # Errors
    /// The store cannot be written.
    fn tag(&self, image: &Digest, name: &Reference) -> Result<(), ErrorReport>;
}

/// The container of one `RUN`.
pub trait StepContainer {
    /// Its id, 64 hex digits.
    fn id(&self) -> &str;

    /// What the user should know about its creation.
    fn warnings(&self) -> &[String];

    /// Starts it, passes its output on, waits for its end. When `cancel` fires, or the output has
    /// no listener any more, the container is killed and waited for.
    ///
    /// # Errors
    /// It could not be started or watched. A command that fails is not an error but its status.
    fn run(&mut self, output: &mut dyn StepOutput, cancel: &Cancel) -> Result<i32, ErrorReport>;

    /// Stores what it changed. No time of a file is later than `epoch`.
    ///
    /// # Errors
    /// The store cannot be written.
    fn commit(&mut self, epoch: Option<Timestamp>) -> Result<Change, ErrorReport>;

    /// Removes it, with its anonymous volumes.
    ///
    /// # Errors
    /// It cannot be removed.
    fn remove(self: Box<Self>) -> Result<(), ErrorReport>;
}

/// The files of an image as one tree.
pub trait View {
    /// The tree's root directory. Symlinks below it are the image's own: whoever uses this must
    /// resolve paths in it, never through it.
    fn root(&self) -> BorrowedFd<'_>;
}

/// A fresh writable layer over an image.
pub trait Workspace: View {
    /// Stores what was changed. No time of a file is later than `epoch`.
    ///
    /// # Errors
    /// The store cannot be written.
    fn commit(self: Box<Self>, epoch: Option<Timestamp>) -> Result<Change, ErrorReport>;
}
