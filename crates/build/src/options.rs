//! The options of `POST /build`.

use std::collections::BTreeMap;

use seacow_spec::docker::host_config::{HostConfig, Ulimit};
use seacow_spec::reference::InvalidReference;
use seacow_spec::{Classified, ErrorClass, Reference, Timestamp};

use crate::context::Context;
use crate::platform;

/// The file that is read when none is named.
pub const DEFAULT_DOCKERFILE: &str = "Dockerfile";

/// Options that cannot be obeyed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OptionError {
    /// JSON that cannot be read.
    #[error("error reading {what}: {cause}")]
    Json {
        /// Which parameter.
        what: &'static str,
        /// Why.
        cause: String,
    },
    /// A number that is none.
    #[error("{name}: invalid number {value:?}")]
    Number {
        /// Which parameter.
        name: &'static str,
        /// As given.
        value: String,
    },
    /// `-t` with a malformed name.
    #[error(transparent)]
    Tag(#[from] InvalidReference),
    /// `-t name@sha256:…`.
    #[error("refusing to create a tag with a digest reference")]
    TagWithDigest,
    /// Docker refuses this, too.
    #[error("The daemon on this platform does not support setting security options on build")]
    SecurityOptions,
    /// Windows' isolation modes.
    #[error("Unsupported isolation: {0:?}")]
    Isolation(String),
    /// `version=` something else than 1 and 2.
    #[error("invalid version {0}")]
    Version(String),
    /// Another kind of machine.
    #[error(transparent)]
    Platform(#[from] platform::PlatformError),
    /// What the classic builder of seacow does not do.
    #[error("{0}")]
    Unsupported(Unsupported),
}

/// What is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum Unsupported {
    BuildKit,
    Squash,
    Outputs,
    RemoteContext(String),
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::BuildKit => {
                "BuildKit builds (version=2, session) are not implemented; set DOCKER_BUILDKIT=0"
            }
            Self::Squash => "squash is not implemented: layers of a build stay one per step",
            Self::Outputs => {
                "outputs are not implemented: a classic build makes an image (BuildKit has --output)"
            }
            Self::RemoteContext(remote) => {
                let kind = if is_git(remote) { "git repositories" } else { "URLs" };
                return write!(
                    f,
                    "build contexts from {kind} are not implemented ({remote}): send the files"
                );
            }
        })
    }
}

impl Classified for OptionError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Unsupported(_) => ErrorClass::NotImplemented,
            Self::Platform(error) => error.class(),
            Self::Json { .. }
            | Self::Number { .. }
            | Self::Tag(_)
            | Self::TagWithDigest
            | Self::SecurityOptions
            | Self::Isolation(_)
            | Self::Version(_) => ErrorClass::InvalidArgument,
        }
    }
}

/// How to build.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildOptions {
    /// Path of the Dockerfile in the context.
    pub dockerfile: String,
    /// Names for the image, tags filled in.
    pub tags: Vec<Reference>,
    /// Say only the image's id.
    pub quiet: bool,
    /// Do not use the cache.
    pub no_cache: bool,
    /// Ask the registry for base images even when they are here.
    pub pull: bool,
    /// Remove the containers of steps that succeeded.
    pub remove: bool,
    /// Remove the containers of all steps.
    pub force_remove: bool,
    /// `--build-arg`; `None` where the client's environment has no value.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// Stage to stop after.
    pub target: Option<String>,
    /// Limits, network, extra hosts of `RUN`.
    pub host_config: HostConfig,
    /// Whether stages' ids are told (API ≥ 1.30).
    pub aux: bool,
    /// Tell [`seacow_spec::docker::build::BuildEvent`]s instead of Docker's texts.
    pub events: bool,
    /// Images whose steps are as good as those of this machine.
    pub cache_from: Vec<String>,
    /// `--build-context`, by name.
    pub contexts: BTreeMap<String, NamedContext>,
}

/// What a name stands for besides the stages of the Dockerfile.
#[derive(Clone, Debug, PartialEq)]
pub enum NamedContext {
    /// An image, by name.
    Image(String),
    /// Files in a directory of this host.
    Files(std::sync::Arc<Context>),
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            dockerfile: DEFAULT_DOCKERFILE.into(),
            tags: Vec::new(),
            quiet: false,
            no_cache: false,
            pull: false,
            remove: true,
            force_remove: false,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            target: None,
            host_config: HostConfig::default(),
            aux: true,
            events: false,
            cache_from: Vec::new(),
            contexts: BTreeMap::new(),
        }
    }
}

impl BuildOptions {
    /// When everything is said to have been made: `--build-arg SOURCE_DATE_EPOCH=seconds`.
    pub(crate) fn epoch(&self) -> Result<Option<Timestamp>, OptionError> {
        const NAME: &str = "SOURCE_DATE_EPOCH";
        let Some(text) = self.build_args.get(NAME).and_then(Option::as_deref) else { return Ok(None) };
        let seconds = text.trim().parse::<i64>();
        let seconds = seconds.map_err(|_| OptionError::Number { name: NAME, value: text.to_owned() })?;
        Ok(Some(Timestamp::from_unix(seconds, 0)))
    }

    /// From the query's names and values, decoded, in order. Unknown names are ignored, as Docker
    /// does.
    ///
    /// # Errors
    /// A value that cannot be read, or something that is not implemented.
    pub fn from_query(query: &[(String, String)]) -> Result<Self, OptionError> {
        let query = Query(query);
        query.refuse_unsupported()?;
        platform::check(query.last("platform").unwrap_or_default())?;
        let force_remove = query.flag("forcerm");
        Ok(Self {
            dockerfile: query.text("dockerfile").unwrap_or(DEFAULT_DOCKERFILE).to_owned(),
            tags: query.tags()?,
            quiet: query.flag("q"),
            no_cache: query.flag("nocache"),
            pull: query.flag("pull"),
            remove: force_remove || query.text("rm").is_none_or(is_true),
            force_remove,
            build_args: query.json("buildargs", "build args")?,
            labels: query.json("labels", "labels")?,
            target: query.text("target").map(str::to_owned),
            host_config: query.host_config()?,
            aux: true,
            events: query.text("progress") == Some("events"),
            cache_from: query.json("cachefrom", "cache sources")?,
            contexts: BTreeMap::new(),
        })
    }
}

/// Docker's reading of a boolean parameter.
fn is_true(value: &str) -> bool {
    !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
}

pub(crate) fn is_git(remote: &str) -> bool {
    let path = remote.split(['#', '?']).next().unwrap_or(remote);
    let web = remote.starts_with("http://") || remote.starts_with("https://");
    web && path.ends_with(".git") || ["git://", "git@", "github.com/"].iter().any(|p| remote.starts_with(p))
}

pub(crate) fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

struct Query<'a>(&'a [(String, String)]);

impl Query<'_> {
    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn last(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.last(name).filter(|value| !value.is_empty())
    }

    fn flag(&self, name: &str) -> bool {
        self.last(name).is_some_and(is_true)
    }

    /// As Docker: what is no number is 0.
    fn number(&self, name: &str) -> i64 {
        self.last(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    fn json<T: serde::de::DeserializeOwned + Default>(
        &self,
        name: &str,
        what: &'static str,
    ) -> Result<T, OptionError> {
        let Some(text) = self.text(name) else { return Ok(T::default()) };
        let parsed = serde_json::from_str::<Option<T>>(text);
        parsed
            .map(Option::unwrap_or_default)
            .map_err(|error| OptionError::Json { what, cause: error.to_string() })
    }

    fn tags(&self) -> Result<Vec<Reference>, OptionError> {
        let mut tags = Vec::new();
        for text in self.all("t").filter(|text| !text.is_empty()) {
            let name = text.parse::<Reference>()?.or_latest();
            if name.digest().is_some() {
                return Err(OptionError::TagWithDigest);
            }
            if !tags.contains(&name) {
                tags.push(name);
            }
        }
        Ok(tags)
    }

    fn refuse_unsupported(&self) -> Result<(), OptionError> {
        let unsupported = |what| Err(OptionError::Unsupported(what));
        match self.text("version").unwrap_or("1") {
            "1" => {}
            "2" => return unsupported(Unsupported::BuildKit),
            other => return Err(OptionError::Version(other.to_owned())),
        }
        if self.text("session").is_some() {
            return unsupported(Unsupported::BuildKit);
        }
        if self.flag("squash") {
            return unsupported(Unsupported::Squash);
        }
        if self.text("outputs").is_some_and(|outputs| !matches!(outputs, "[]" | "null")) {
            return unsupported(Unsupported::Outputs);
        }
        if let Some(remote) = self.text("remote") {
            return unsupported(Unsupported::RemoteContext(remote.to_owned()));
        }
        if self.all("securityopt").next().is_some() {
            return Err(OptionError::SecurityOptions);
        }
        match self.text("isolation") {
            None | Some("default") => Ok(()),
            Some(other) => Err(OptionError::Isolation(other.to_owned())),
        }
    }

    fn host_config(&self) -> Result<HostConfig, OptionError> {
        let mut host = HostConfig::default();
        let limits = &mut host.resources;
        limits.memory = self.number("memory");
        limits.memory_swap = self.number("memswap");
        limits.cpu_shares = self.number("cpushares");
        limits.cpu_period = self.number("cpuperiod");
        limits.cpu_quota = self.number("cpuquota");
        limits.cpuset_cpus = self.text("cpusetcpus").unwrap_or_default().to_owned();
        limits.cpuset_mems = self.text("cpusetmems").unwrap_or_default().to_owned();
        limits.cgroup_parent = self.text("cgroupparent").unwrap_or_default().to_owned();
        let ulimits: Vec<Ulimit> = self.json("ulimits", "ulimit settings")?;
        limits.ulimits = (!ulimits.is_empty()).then_some(ulimits);
        host.network_mode = self.text("networkmode").unwrap_or_default().to_owned();
        let hosts: Vec<String> = self.all("extrahosts").map(str::to_owned).collect();
        host.extra_hosts = (!hosts.is_empty()).then_some(hosts);
        if let Some(size) = self.text("shmsize") {
            host.shm_size =
                size.parse().map_err(|_| OptionError::Number { name: "shmsize", value: size.to_owned() })?;
        }
        // The output of a step is the build's stream; nothing is logged.
        host.log_config.kind = "none".into();
        Ok(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(query: &[(&str, &str)]) -> Result<BuildOptions, OptionError> {
        let query: Vec<_> = query.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        BuildOptions::from_query(&query)
    }

    /// The queries of the traces in reference/docker-protocol.md.
    #[test]
    fn what_clients_send() {
        let cli = options(&[
            ("buildargs", r#"{"V":"2","N":null}"#),
            ("dockerfile", "Dockerfile"),
            ("labels", r#"{"l":"1"}"#),
            ("t", "cb:1"),
            ("t", "docker.io/library/cb:1"),
            ("t", "x"),
            ("version", "1"),
            ("memory", "67108864"),
            ("networkmode", "none"),
            ("nocache", "1"),
            ("q", "1"),
            ("target", "base"),
            ("cachefrom", "[]"),
            ("ulimits", r#"[{"Name":"nofile","Hard":2,"Soft":1}]"#),
        ])
        .unwrap();
        assert_eq!(cli.build_args["V"].as_deref(), Some("2"));
        assert_eq!(cli.build_args["N"], None);
        assert_eq!(cli.tags.iter().map(Reference::familiar).collect::<Vec<_>>(), ["cb:1", "x:latest"]);
        assert!(cli.quiet && cli.no_cache && cli.remove && !cli.force_remove && !cli.pull);
        assert_eq!(cli.host_config.resources.memory, 64 << 20);
        assert_eq!(cli.host_config.resources.ulimits.unwrap()[0].hard, 2);
        assert_eq!((cli.host_config.network_mode.as_str(), cli.target.as_deref()), ("none", Some("base")));

        let docker_py = options(&[
            ("t", "dpyb"),
            ("q", "False"),
            ("nocache", "False"),
            ("rm", "True"),
            ("forcerm", "False"),
            ("pull", "False"),
        ])
        .unwrap();
        assert!(docker_py.remove && !docker_py.quiet && !docker_py.no_cache);
        assert!(!options(&[("rm", "0")]).unwrap().remove);
        assert!(options(&[("rm", "0"), ("forcerm", "1")]).unwrap().remove);
        assert_eq!(options(&[]).unwrap().dockerfile, "Dockerfile");
    }

    #[test]
    fn what_is_refused_says_so() {
        for (name, value, class, text) in [
            ("version", "2", ErrorClass::NotImplemented, "BuildKit"),
            ("squash", "1", ErrorClass::NotImplemented, "squash"),
            ("remote", "https://x/y.git#b", ErrorClass::NotImplemented, "git repositories"),
            ("remote", "https://x/y.tar", ErrorClass::NotImplemented, "URLs"),
            ("platform", "windows/amd64", ErrorClass::NotImplemented, "windows/amd64"),
            ("t", "BAD", ErrorClass::InvalidArgument, "must be lowercase"),
            ("buildargs", "{", ErrorClass::InvalidArgument, "error reading build args"),
            ("securityopt", "x", ErrorClass::InvalidArgument, "security options"),
            ("isolation", "hyperv", ErrorClass::InvalidArgument, "Unsupported isolation: \"hyperv\""),
            ("shmsize", "x", ErrorClass::InvalidArgument, "shmsize"),
            ("version", "9", ErrorClass::InvalidArgument, "invalid version 9"),
        ] {
            let error = options(&[(name, value)]).unwrap_err();
            assert_eq!(error.class(), class, "{name}={value}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
