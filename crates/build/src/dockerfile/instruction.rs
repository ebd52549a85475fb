//! The typed instructions.

use seacow_spec::docker::container::HealthConfig;

use super::heredoc::Heredoc;
use super::mount::MountWords;

/// A `FROM` and what stands below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Line of the `FROM`.
    pub line: usize,
    /// Line of its end.
    pub last_line: usize,
    /// Its source text.
    pub code: String,
    /// Image or earlier stage, not expanded.
    pub base: String,
    /// `AS name`, in lower case.
    pub name: Option<String>,
    /// `--platform`, not expanded.
    pub platform: Option<String>,
    /// The steps.
    pub steps: Vec<Step>,
}

/// One instruction in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Line of its beginning.
    pub line: usize,
    /// Line of its end, here-documents included.
    pub last_line: usize,
    /// Its source text, continuation lines joined, without here-documents.
    pub code: String,
    /// What it says.
    pub instruction: Instruction,
}

/// One instruction; words are not expanded.
#[derive(Clone, Debug, PartialEq)]
pub enum Instruction {
    /// `ENV name=value …`
    Env(Vec<(String, String)>),
    /// `LABEL name=value …`
    Label {
        /// The labels.
        pairs: Vec<(String, String)>,
        /// From `--label` of the command line, where nothing is expanded.
        literal: bool,
    },
    /// `MAINTAINER who`
    Maintainer(String),
    /// `ADD sources… dest`
    Add(CopyArgs),
    /// `COPY sources… dest`
    Copy(CopyArgs),
    /// `ONBUILD instruction`, as text, with its here-documents.
    Onbuild(String),
    /// `WORKDIR path`
    Workdir(String),
    /// `RUN command`
    Run(RunArgs),
    /// `CMD command`
    Cmd(CommandLine),
    /// `ENTRYPOINT command`
    Entrypoint(CommandLine),
    /// `HEALTHCHECK …`
    Healthcheck(HealthConfig),
    /// `EXPOSE port…`, sorted.
    Expose(Vec<String>),
    /// `USER user[:group]`
    User(String),
    /// `VOLUME path…`
    Volume(Vec<String>),
    /// `STOPSIGNAL signal`
    StopSignal(String),
    /// `ARG name[=default] …`
    Arg(Vec<(String, Option<String>)>),
    /// `SHELL ["program", "arg"…]`
    Shell(Vec<String>),
}

impl Instruction {
    /// Its name, in upper case.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Env(_) => "ENV",
            Self::Label { .. } => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Add(_) => "ADD",
            Self::Copy(_) => "COPY",
            Self::Onbuild(_) => "ONBUILD",
            Self::Workdir(_) => "WORKDIR",
            Self::Run(_) => "RUN",
            Self::Cmd(_) => "CMD",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Expose(_) => "EXPOSE",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::Arg(_) => "ARG",
            Self::Shell(_) => "SHELL",
        }
    }
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// To be handed to the shell.
    Shell(String),
    /// To be executed as it is; may be empty.
    Exec(Vec<String>),
}

/// What a `RUN` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunArgs {
    /// What to run.
    pub command: CommandLine,
    /// `--mount`, not expanded.
    pub mounts: Vec<MountWords>,
    /// `--network`
    pub network: RunNetwork,
    /// The texts that the command reads.
    pub heredocs: Vec<Heredoc>,
}

/// `RUN --network=…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// The build's.
    #[default]
    Default,
    /// Only a loopback interface.
    None,
    /// The host's.
    Host,
}

/// What `COPY` and `ADD` have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyArgs {
    /// At least one, here-documents included.
    pub sources: Vec<String>,
    /// Files whose text stands in the Dockerfile.
    pub heredocs: Vec<Heredoc>,
    /// Where to.
    pub dest: String,
    /// `--chown=user[:group]`
    pub chown: Option<String>,
    /// `--chmod=755`, `--chmod=u=rwX,go=rX`
    pub chmod: Option<String>,
    /// `--from=stage|index|image|context` (`COPY` only)
    pub from: Option<String>,
    /// `--link`: does not depend on what is below. One layer per step is what we make anyway.
    pub link: bool,
    /// `--parents` (`COPY` only): keep the directories of the sources.
    pub parents: bool,
    /// `--exclude=pattern`, any number.
    pub excludes: Vec<String>,
    /// `--checksum=sha256:…` (`ADD` only)
    pub checksum: Option<String>,
    /// `--keep-git-dir` (`ADD` only)
    pub keep_git_dir: bool,
    /// `--unpack=true|false` (`ADD` only); local archives are unpacked by default, fetched ones not.
    pub unpack: Option<bool>,
}
