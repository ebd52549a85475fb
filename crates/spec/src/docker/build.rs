//! Progress streams of build, pull, push, load and import: objects separated by `\r\n`.

use serde::{Deserialize, Serialize};

/// One object of a progress stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct JsonMessage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}

/// Bytes done and to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// Why it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct ErrorDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    pub message: String,
}

/// `POST /build/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct BuildPruned {
    pub caches_deleted: Option<Vec<String>>,
    pub space_reclaimed: u64,
}

/// What a build tells `seacow build` instead of Docker's texts, one object per message in its
/// [`JsonMessage::aux`], under [`BUILD_EVENT`]. Steps of different stages overlap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum BuildEvent {
    /// A step begins.
    Begin {
        /// Number of the step in this build.
        step: u64,
        /// Name or number of its stage; empty before the first stage.
        stage: String,
        /// Position in the stage, counted from 1.
        position: usize,
        /// Steps of the stage.
        of: usize,
        /// Its source text.
        text: String,
    },
    /// A step's command wrote something.
    Output {
        /// Which step.
        step: u64,
        /// On its standard error.
        stderr: bool,
        /// What.
        text: String,
    },
    /// A step ended well.
    End {
        /// Which step.
        step: u64,
        /// It was done before.
        cached: bool,
        /// How long it took, in microseconds.
        micros: u64,
    },
    /// A step failed, or was stopped because another one did.
    Broken {
        /// Which step.
        step: u64,
        /// How long it took, in microseconds.
        micros: u64,
    },
    /// Something worth knowing, a line or more.
    Note {
        /// What.
        text: String,
    },
    /// A build check found something.
    Warning {
        /// Name of the rule.
        rule: String,
        /// What is wrong.
        text: String,
        /// The lines of the Dockerfile.
        excerpt: String,
        /// The first of them.
        line: usize,
    },
    /// The build failed; the message follows as Docker's.
    Failed {
        /// The lines of the Dockerfile.
        excerpt: String,
        /// The end of what the failed command wrote.
        output: String,
    },
    /// Somebody in the build wants to talk to the client's ssh agent: `POST /build/agent?…`.
    Agent {
        /// Number of the connection.
        connection: u64,
        /// Which agent.
        id: String,
    },
    /// The image.
    Built {
        /// Its id.
        id: String,
        /// The names it was given.
        names: Vec<String>,
    },
}

/// Where in a message's `aux` a [`BuildEvent`] is.
pub const BUILD_EVENT: &str = "seacow.build";

/// Files of a build context as our client lists them before it sends any: `POST /build/context`, and
/// again at the beginning of `PUT /build/context`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextList {
    /// Parents before what is in them.
    pub entries: Vec<ContextEntry>,
}

/// One file, directory or link of a context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextEntry {
    /// Relative, with slashes.
    #[serde(rename = "p")]
    pub path: String,
    /// Permissions.
    #[serde(rename = "m")]
    pub mode: u32,
    /// Nanoseconds since the epoch.
    #[serde(rename = "t")]
    pub mtime: i64,
    /// What it is.
    #[serde(flatten)]
    pub kind: ContextKind,
}

/// What an entry of a context is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContextKind {
    /// A directory.
    #[default]
    #[serde(rename = "d")]
    Directory,
    /// A link, and where it leads.
    #[serde(rename = "l")]
    Link(String),
    /// A file: its size, and the SHA-256 of its bytes in 64 hex digits.
    #[serde(rename = "f")]
    File(u64, String),
}

/// What the engine wants of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextWanted {
    /// The name of the context: the same for the same list.
    pub id: String,
    /// Hashes of the files that it lacks, each once. They are sent behind the list, in this order.
    pub missing: Vec<String>,
}

/// The body of `POST /build?seacow-session=…` by our client, instead of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildStart {
    /// Name of the context.
    pub context: String,
    /// The Dockerfile's text, where it is not in the context.
    pub dockerfile: Option<String>,
    /// Further contexts by their names.
    pub contexts: std::collections::BTreeMap<String, NamedSource>,
    /// Secrets by their names, in base64.
    pub secrets: std::collections::BTreeMap<String, String>,
    /// Names of ssh agents that the client offers.
    pub agents: Vec<String>,
}

/// What a named context is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamedSource {
    /// An image.
    Image(String),
    /// A context that was sent, by its name.
    Context(String),
}

/// Name in the query of `POST /build` that says that its body is a [`BuildStart`]; its value names the
/// session, and is nobody else's.
pub const BUILD_SESSION: &str = "seacow-session";

/// Beginning of the error by which an engine says that it does not have a context any more.
pub const NO_SUCH_CONTEXT: &str = "no such build context";
