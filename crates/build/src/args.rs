//! `ARG` and `--build-arg`: which arguments exist where.
//!
//! An argument exists in a stage from its `ARG` on. One that stands above the first `FROM` is a
//! *meta argument*: `FROM` lines see it, a stage only after repeating `ARG name` there. The proxy
//! variables are *built in*: `--build-arg` alone makes them visible to `RUN`, and they do not
//! change the cache unless an `ARG` names them.

use std::collections::{BTreeMap, BTreeSet};

use crate::expand::Variables;
use crate::platform;

const BUILT_IN: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Arguments that every build has without `--build-arg`: above the first stage they are simply there, a
/// stage asks for them.
pub(crate) const PLATFORM_ARGS: [&str; 8] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
];

/// The name of the stage that is being built.
const TARGET_STAGE: &str = "TARGETSTAGE";

/// Arguments that the builder itself reads.
const FOR_THE_BUILDER: [&str; 2] = ["SOURCE_DATE_EPOCH", "BUILDKIT_SYNTAX"];

/// What a predefined argument is: we build for this machine only.
fn predefined(name: &str) -> Option<String> {
    let (_, what) = name.split_at_checked(if name.starts_with("BUILD") { 5 } else { 6 })?;
    PLATFORM_ARGS.contains(&name).then(|| match what {
        "PLATFORM" => format!("linux/{}", platform::architecture()),
        "OS" => "linux".to_owned(),
        "ARCH" => platform::architecture().to_owned(),
        _ => String::new(),
    })
}

type Defaults = BTreeMap<String, Option<String>>;

/// The arguments of a build or of one stage.
#[derive(Clone, Debug, Default)]
pub(crate) struct BuildArgs {
    given: BTreeMap<String, Option<String>>,
    meta: Defaults,
    stage: Defaults,
    referenced: BTreeSet<String>,
    stage_name: String,
}

impl BuildArgs {
    /// From `--build-arg`; a value of `None` is a name without `=` that the client's environment
    /// does not have.
    pub(crate) fn new(given: BTreeMap<String, Option<String>>) -> Self {
        Self { given, ..Self::default() }
    }

    /// The arguments at the beginning of a stage.
    pub(crate) fn for_stage(&self, name: &str) -> Self {
        Self { stage: Defaults::new(), stage_name: name.to_owned(), ..self.clone() }
    }

    /// An `ARG` above the first `FROM`.
    pub(crate) fn declare_meta(&mut self, name: &str, default: Option<&str>) {
        self.meta.insert(name.to_owned(), default.map(str::to_owned));
        self.declare(name, default);
    }

    /// An `ARG` in a stage.
    pub(crate) fn declare(&mut self, name: &str, default: Option<&str>) {
        self.stage.insert(name.to_owned(), default.map(str::to_owned));
        self.referenced.insert(name.to_owned());
    }

    /// What `FROM` lines see.
    pub(crate) fn meta(&self) -> Variables {
        let mut values: Variables =
            PLATFORM_ARGS.iter().filter_map(|name| Some(((*name).to_owned(), predefined(name)?))).collect();
        values.extend(self.values(&self.meta));
        values
    }

    /// What the stage's steps see.
    pub(crate) fn in_stage(&self) -> Variables {
        self.values(&self.stage)
    }

    /// What the stage's steps see and `env` (`NAME=value`) does not override, sorted.
    pub(crate) fn beside(&self, env: &[String]) -> Vec<(String, String)> {
        let in_env = |name: &str| env.iter().any(|entry| entry.split('=').next() == Some(name));
        self.in_stage().into_iter().filter(|(name, _)| !in_env(name)).collect()
    }

    /// Whether the argument belongs in the cache key and the history.
    pub(crate) fn is_recorded(&self, name: &str) -> bool {
        self.stage.contains_key(name) || !BUILT_IN.contains(&name)
    }

    /// Remembers what a finished stage used.
    pub(crate) fn merge_references(&mut self, stage: &Self) {
        self.referenced.extend(stage.referenced.iter().cloned());
    }

    /// What was given and never asked for.
    pub(crate) fn unused(&self) -> Vec<String> {
        let unused = |name: &&String| {
            let name = name.as_str();
            !(self.referenced.contains(name) || BUILT_IN.contains(&name) || FOR_THE_BUILDER.contains(&name))
        };
        self.given.keys().filter(unused).cloned().collect()
    }

    fn values(&self, declared: &Defaults) -> Variables {
        let names = declared.keys().map(String::as_str).chain(BUILT_IN);
        names.filter_map(|name| Some((name.to_owned(), self.value(name, declared)?))).collect()
    }

    /// Given on the command line, else its own default, else the meta argument's.
    fn value(&self, name: &str, declared: &Defaults) -> Option<String> {
        if let Some(Some(given)) = self.given.get(name) {
            return Some(given.clone());
        }
        if let Some(Some(default)) = declared.get(name) {
            return Some(default.clone());
        }
        if let Some(Some(meta)) = self.meta.get(name) {
            return Some(meta.clone());
        }
        let asked = declared.contains_key(name);
        if asked && name == TARGET_STAGE {
            return Some(self.stage_name.clone());
        }
        predefined(name).filter(|_| asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(given: &[(&str, Option<&str>)]) -> BuildArgs {
        BuildArgs::new(given.iter().map(|(name, value)| ((*name).into(), value.map(Into::into))).collect())
    }

    #[test]
    fn scopes() {
        let mut build =
            args(&[("A", Some("given")), ("http_proxy", Some("p")), ("X", None), ("Y", Some("y"))]);
        build.declare_meta("A", Some("default"));
        build.declare_meta("M", Some("meta"));
        assert_eq!(build.meta()["A"], "given");
        assert_eq!(build.meta()["TARGETOS"], "linux");
        let mut stage = build.for_stage("s");
        assert_eq!(stage.in_stage().keys().collect::<Vec<_>>(), ["http_proxy"]);
        stage.declare("M", None);
        stage.declare("A", Some("other"));
        stage.declare("N", None);
        assert_eq!(
            stage.beside(&["A=1".into()]),
            [("M".into(), "meta".into()), ("http_proxy".into(), "p".into())]
        );
        assert!(!stage.is_recorded("http_proxy") && stage.is_recorded("M"));
        build.merge_references(&stage);
        assert_eq!(build.unused(), ["X", "Y"]);
    }

    #[test]
    fn platforms_are_asked_for() {
        let mut stage = args(&[("TARGETARCH", Some("own"))]).for_stage("final");
        assert!(stage.in_stage().is_empty());
        for name in ["TARGETPLATFORM", "TARGETARCH", "TARGETVARIANT", "BUILDOS", "TARGETSTAGE"] {
            stage.declare(name, None);
        }
        let values = stage.in_stage();
        assert_eq!(values["TARGETPLATFORM"], format!("linux/{}", platform::architecture()));
        assert_eq!((values["TARGETARCH"].as_str(), values["TARGETVARIANT"].as_str()), ("own", ""));
        assert_eq!((values["BUILDOS"].as_str(), values["TARGETSTAGE"].as_str()), ("linux", "final"));
        stage.declare("BUILDOS", Some("mine"));
        assert_eq!(stage.in_stage()["BUILDOS"], "mine");
    }
}
