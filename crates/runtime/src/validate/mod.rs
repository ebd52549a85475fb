//! Is a `config.json` possible at all? Asked before anything is made, answered with the field's path.
//!
//! What is impossible or contradicts itself is an [`Error`]; what the specification wants only
//! logged (a capability that nobody knows) is a [`Warning`]. The same functions turn words into
//! what the kernel takes, so that what was checked is what is done.
//!
//! Not here: what only shows when it is tried (a limit this host lacks, a path inside the image).

pub(crate) mod linux;
pub(crate) mod maps;
mod mounts;
pub(crate) mod namespaces;
pub(crate) mod process;

use std::path::Path;

use seacow_spec::error::{Classified, ErrorClass};
use seacow_spec::oci::runtime::{Hook, Hooks, IdMapping, Linux, NamespaceKind, Spec, User};

/// A field that cannot be honoured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or a value of the wrong type.
    #[error("{}malformed", .path.as_deref().map(|p| format!("{p}: ")).unwrap_or_default())]
    Malformed {
        /// The field, when the document is JSON at all.
        path: Option<String>,
        /// The parser's words.
        #[source]
        source: serde_json::Error,
    },
    /// A value that makes no sense, here or at all.
    #[error("{path}: {what}")]
    Field {
        /// The field, such as `linux.namespaces[3].path`.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// A value that makes sense to others.
    #[error("{path} is not implemented by seacow's runtime: {what}")]
    Missing {
        /// The field.
        path: String,
        /// What is missing.
        what: String,
    },
}

impl Error {
    pub(crate) fn field(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Field { path: path.into(), what: what.into() }
    }

    pub(crate) fn missing(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Missing { path: path.into(), what: what.into() }
    }
}

impl Classified for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Malformed { .. } | Self::Field { .. } => ErrorClass::InvalidArgument,
            Self::Missing { .. } => ErrorClass::NotImplemented,
        }
    }
}

/// A field that is not fully honoured, where the specification says to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The field.
    pub path: String,
    /// What becomes of it.
    pub what: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.what)
    }
}

/// Reads a `config.json`.
pub fn read(json: &[u8]) -> Result<Spec, Error> {
    // A list would be read as the fields in their order.
    if json.trim_ascii_start().first() != Some(&b'{') {
        let source = serde::de::Error::custom("not a JSON object");
        return Err(Error::Malformed { path: None, source });
    }
    parse(json)
}

/// Reads any document of the specification; an error names the field.
pub fn parse<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let document = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = Some(error.path().to_string()).filter(|p| p != "." && p != "?");
        Error::Malformed { path, source: error.into_inner() }
    })?;
    deserializer.end().map_err(|source| Error::Malformed { path: None, source })?;
    Ok(document)
}

/// Checks a whole document of which nothing was made yet.
pub fn check(spec: &Spec) -> Result<Vec<Warning>, Error> {
    let mut warnings = Vec::new();
    version(&spec.oci_version)?;
    // Missing it may be until the container is started.
    if let Some(process) = &spec.process {
        process::check(process, &mut warnings)?;
    }
    let root = spec.root.as_ref().ok_or_else(|| Error::field("root", "missing"))?;
    if root.path.is_empty() {
        return Err(Error::field("root.path", "empty"));
    }
    let nothing = Default::default();
    let linux = spec.linux.as_ref().unwrap_or(&nothing);
    let kinds = namespaces::check(linux, &mut warnings)?;
    names(spec, kinds)?;
    spec.process.as_ref().map_or(Ok(()), |process| mapped_user(&process.user, linux))?;
    mounts::check(&spec.mounts, kinds, &mut warnings)?;
    linux::check(linux, kinds)?;
    if let Some(hooks) = &spec.hooks {
        check_hooks(hooks)?;
    }
    Ok(warnings)
}

/// Checks that the root file system of a bundle is there.
pub fn check_rootfs(dir: &Path) -> Result<(), Error> {
    match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Error::field("root.path", format!("{} is not a directory", dir.display()))),
        Err(error) => Err(Error::field("root.path", format!("{}: {error}", dir.display()))),
    }
}

/// Who is not in the maps of a new user namespace cannot be there.
fn mapped_user(user: &User, linux: &Linux) -> Result<(), Error> {
    let check = |field: String, id: u32, list: &str, mappings: &[IdMapping]| {
        if mappings.is_empty() || maps::to_host(mappings, id).is_some() {
            return Ok(());
        }
        Err(Error::field(format!("process.user.{field}"), format!("{id} is not mapped by linux.{list}")))
    };
    let joined = linux.namespaces.iter().any(|n| n.kind == NamespaceKind::User && !n.path.is_empty());
    if joined {
        return Ok(());
    }
    check("uid".into(), user.uid, "uidMappings", &linux.uid_mappings)?;
    check("gid".into(), user.gid, "gidMappings", &linux.gid_mappings)?;
    let mut groups = user.additional_gids.iter().enumerate();
    groups
        .try_for_each(|(i, g)| check(format!("additionalGids[{i}]"), *g, "gidMappings", &linux.gid_mappings))
}

fn version(version: &str) -> Result<(), Error> {
    // Old tools leave it out.
    let major = version.split('.').next().unwrap_or_default();
    if version.is_empty() || major == "1" {
        return Ok(());
    }
    Err(Error::field("ociVersion", format!("{version:?} is not supported, 1.x is")))
}

/// Bytes of a host or domain name (`__NEW_UTS_LEN`).
const UTS_LEN: usize = 64;

fn names(spec: &Spec, kinds: seacow_sys::ns::Kinds) -> Result<(), Error> {
    for (path, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        if name.is_empty() {
            continue;
        }
        if !kinds.contains(seacow_sys::ns::Kinds::UTS) {
            return Err(Error::field(path, "needs a UTS namespace, or it would be the host's"));
        }
        if name.len() > UTS_LEN {
            return Err(Error::field(path, format!("longer than {UTS_LEN} bytes")));
        }
    }
    Ok(())
}

fn check_hooks(hooks: &Hooks) -> Result<(), Error> {
    let stages: [(&str, &[Hook]); 6] = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (stage, list) in stages {
        for (index, hook) in list.iter().enumerate() {
            let at = format!("hooks.{stage}[{index}]");
            if !hook.path.starts_with('/') {
                return Err(Error::field(format!("{at}.path"), format!("{:?} is not absolute", hook.path)));
            }
            if hook.timeout.is_some_and(|t| t <= 0) {
                return Err(Error::field(format!("{at}.timeout"), "must be greater than zero"));
            }
            no_zero(&format!("{at}.args"), &hook.args)?;
            no_zero(&format!("{at}.env"), &hook.env)?;
        }
    }
    Ok(())
}

/// Strings for the kernel end at the first zero byte.
pub(crate) fn no_zero(path: &str, strings: &[String]) -> Result<(), Error> {
    match strings.iter().position(|s| s.contains('\0')) {
        Some(index) => Err(Error::field(format!("{path}[{index}]"), "has a zero byte")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
