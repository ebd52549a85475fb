//! `RUN --mount=type=…,…`: from text to typed fields.
//!
//! The text is read twice: when the file is parsed, to find what is wrong with it and which stage it
//! needs, and when the step is reached, after its variables were expanded.

use super::SyntaxError;
use super::words;

/// A mount as written: names and values, the type and the stage apart, which cannot be variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountWords {
    /// `type=`
    pub kind: MountKind,
    /// `from=`: a stage, an image or a named context.
    pub from: Option<String>,
    /// The other fields, in order.
    pub fields: Vec<(String, Option<String>)>,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image. The default.
    #[default]
    Bind,
    /// A directory that is kept from build to build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret of the client.
    Secret,
    /// The client's ssh agent.
    Ssh,
}

impl MountKind {
    /// As written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

/// Who may use a cache at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Any number of steps.
    #[default]
    Shared,
    /// Each step that comes at the same time gets another one.
    Private,
    /// One step after the other.
    Locked,
}

/// A mount with its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where; empty where it was left to the kind.
    pub target: String,
    /// Path in the source.
    pub source: String,
    /// Name of a cache, secret or agent.
    pub id: String,
    /// `rw` or `ro`, where one was given.
    pub writable: Option<bool>,
    /// Of a cache.
    pub sharing: Sharing,
    /// Bytes of a tmpfs; 0 for the kernel's default.
    pub size: i64,
    /// A missing secret or agent is an error.
    pub required: bool,
    /// Permissions.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Environment variable of a secret.
    pub env: Option<String>,
}

impl MountWords {
    /// Reads `type=cache,target=/x,…`.
    pub(super) fn read(text: &str) -> Result<Self, SyntaxError> {
        let mut mount = Self { kind: MountKind::Bind, from: None, fields: Vec::new() };
        for field in words::comma_separated(text) {
            let (name, value) = match field.split_once('=') {
                Some((name, value)) => (name.to_ascii_lowercase(), Some(value.to_owned())),
                None => (field.to_ascii_lowercase(), None),
            };
            match (name.as_str(), value) {
                ("type", Some(value)) => mount.kind = kind(&value)?,
                ("from", Some(value)) if value.contains('$') => {
                    return Err(SyntaxError::MountFromVariable(value));
                }
                ("from", Some(value)) => mount.from = Some(value).filter(|from| !from.is_empty()),
                ("type" | "from", None) => return Err(SyntaxError::MountField(name)),
                (_, value) => mount.fields.push((name, value)),
            }
        }
        let from_fits = matches!(mount.kind, MountKind::Bind | MountKind::Cache);
        if mount.from.is_some() && !from_fits {
            return Err(unexpected("from", mount.kind));
        }
        // Values may be variables yet; names may not.
        mount.resolve(|value| Ok::<_, SyntaxError>(value.to_owned())).map(drop)?;
        Ok(mount)
    }

    /// The mount with its values expanded.
    ///
    /// # Errors
    /// A value cannot be expanded, or is not what the field takes.
    pub fn resolve<E: From<SyntaxError>>(
        &self,
        mut expand: impl FnMut(&str) -> Result<String, E>,
    ) -> Result<Mount, E> {
        let mut mount = Mount { kind: self.kind, ..Mount::default() };
        for (name, value) in &self.fields {
            let value = value.as_deref().map(&mut expand).transpose()?;
            mount.set(name, value)?;
        }
        let needs_target = matches!(self.kind, MountKind::Bind | MountKind::Cache | MountKind::Tmpfs);
        if needs_target && mount.target.is_empty() {
            return Err(SyntaxError::MountTarget(self.kind.name()).into());
        }
        Ok(mount)
    }
}

impl Mount {
    fn set(&mut self, name: &str, value: Option<String>) -> Result<(), SyntaxError> {
        use MountKind::{Bind, Cache, Secret, Ssh, Tmpfs};
        let kind = self.kind;
        match (name, kind) {
            ("target" | "dst" | "destination", _) => self.target = text(name, value)?,
            ("source" | "src", Bind | Cache) => self.source = text(name, value)?,
            ("rw" | "readwrite", Bind | Cache) => self.writable = Some(flag(name, value)?),
            ("ro" | "readonly", Bind | Cache) => self.writable = Some(!flag(name, value)?),
            ("id", Cache | Secret | Ssh) => self.id = text(name, value)?,
            ("sharing", Cache) => self.sharing = sharing(&text(name, value)?)?,
            ("size", Tmpfs) => self.size = size(&text(name, value)?)?,
            ("required", Secret | Ssh) => self.required = flag(name, value)?,
            ("mode", Cache | Secret | Ssh) => self.mode = Some(number(name, &text(name, value)?, 8)?),
            ("uid", Cache | Secret | Ssh) => self.uid = number(name, &text(name, value)?, 10)?,
            ("gid", Cache | Secret | Ssh) => self.gid = number(name, &text(name, value)?, 10)?,
            ("env", Secret) => self.env = Some(text(name, value)?),
            _ => return Err(unexpected(name, kind)),
        }
        Ok(())
    }
}

fn unexpected(name: &str, kind: MountKind) -> SyntaxError {
    SyntaxError::MountKey { key: name.to_owned(), kind: kind.name() }
}

fn kind(text: &str) -> Result<MountKind, SyntaxError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "bind" => MountKind::Bind,
        "cache" => MountKind::Cache,
        "tmpfs" => MountKind::Tmpfs,
        "secret" => MountKind::Secret,
        "ssh" => MountKind::Ssh,
        _ => return Err(SyntaxError::MountType(text.to_owned())),
    })
}

fn text(name: &str, value: Option<String>) -> Result<String, SyntaxError> {
    value.ok_or_else(|| SyntaxError::MountField(name.to_owned()))
}

/// A field alone means yes. What is a variable yet is taken for a yes.
fn flag(name: &str, value: Option<String>) -> Result<bool, SyntaxError> {
    match value.as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) if value.contains('$') => Ok(true),
        Some(value) => Err(bad(name, value)),
    }
}

fn number(name: &str, value: &str, radix: u32) -> Result<u32, SyntaxError> {
    if value.contains('$') {
        return Ok(0);
    }
    u32::from_str_radix(value, radix).map_err(|_| bad(name, value))
}

fn sharing(value: &str) -> Result<Sharing, SyntaxError> {
    Ok(match value {
        "shared" => Sharing::Shared,
        "private" => Sharing::Private,
        "locked" => Sharing::Locked,
        value if value.contains('$') => Sharing::Shared,
        _ => return Err(bad("sharing", value)),
    })
}

/// `64m`, `1g`, with or without a `b`; units are powers of 1024.
fn size(value: &str) -> Result<i64, SyntaxError> {
    if value.contains('$') {
        return Ok(0);
    }
    let lower = value.to_ascii_lowercase();
    let bare = lower.strip_suffix('b').unwrap_or(&lower);
    let bare = bare.strip_suffix('i').unwrap_or(bare);
    let (digits, unit) = match bare.char_indices().last() {
        Some((at, 'k')) => (&bare[..at], 10),
        Some((at, 'm')) => (&bare[..at], 20),
        Some((at, 'g')) => (&bare[..at], 30),
        Some((at, 't')) => (&bare[..at], 40),
        _ => (bare, 0),
    };
    let number: i64 = digits.trim().parse().map_err(|_| bad("size", value))?;
    number.checked_mul(1 << unit).filter(|size| *size >= 0).ok_or_else(|| bad("size", value))
}

fn bad(name: &str, value: &str) -> SyntaxError {
    SyntaxError::MountValue { key: name.to_owned(), value: value.to_owned() }
}
