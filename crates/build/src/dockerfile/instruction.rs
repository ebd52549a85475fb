//! The typed instructions.

use seacow_spec::docker::container::HealthConfig;

/// A `FROM` and what stands below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Line of the `FROM`.
    pub line: usize,
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
    /// Its source text, continuation lines joined.
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
    /// `ONBUILD instruction`, as text.
    Onbuild(String),
    /// `WORKDIR path`
    Workdir(String),
    /// `RUN command`
    Run {
        /// What to run.
        command: CommandLine,
        /// The first flag that only BuildKit knows.
        buildkit_flag: Option<String>,
    },
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
            Self::Run { .. } => "RUN",
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

    /// The flag that asks for a thing which the classic builder does not have.
    pub fn buildkit_flag(&self) -> Option<&str> {
        match self {
            Self::Run { buildkit_flag, .. } => buildkit_flag.as_deref(),
            Self::Add(args) | Self::Copy(args) => args.buildkit_flag.as_deref(),
            _ => None,
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

/// What `COPY` and `ADD` have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyArgs {
    /// At least one.
    pub sources: Vec<String>,
    /// Where to.
    pub dest: String,
    /// `--chown=user[:group]`
    pub chown: Option<String>,
    /// `--from=stage|index|image` (`COPY` only)
    pub from: Option<String>,
    /// The first flag that only BuildKit knows.
    pub buildkit_flag: Option<String>,
}
