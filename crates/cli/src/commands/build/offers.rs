//! What a build is offered besides files: `--secret`, `--ssh`, `--build-context`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::failure::{Failure, go_io_text};
use crate::flags::Matches;

/// The agent that is meant when none is named.
const DEFAULT_AGENT: &str = "default";

/// Everything that is offered.
#[derive(Debug, Default)]
pub(super) struct Offers {
    pub(super) secrets: BTreeMap<String, Vec<u8>>,
    /// Sockets of agents.
    pub(super) agents: BTreeMap<String, PathBuf>,
    pub(super) contexts: BTreeMap<String, Source>,
}

/// A named context.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    Image(String),
    Directory(String),
}

impl Offers {
    pub(super) fn parse(matches: &Matches) -> Result<Self, Failure> {
        let mut offers = Self::default();
        for text in matches.list("secret") {
            let (id, data) = secret(&text)?;
            offers.secrets.insert(id, data);
        }
        for text in matches.list("ssh") {
            let (id, path) = agent(&text, std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from))?;
            offers.agents.insert(id, path);
        }
        for text in matches.list("build-context") {
            let (name, source) = context(&text)?;
            offers.contexts.insert(name, source);
        }
        Ok(offers)
    }
}

/// Only a build from a directory by our own engine can be offered anything.
pub(super) fn refuse_elsewhere(matches: &Matches) -> Result<(), Failure> {
    for flag in ["secret", "ssh", "build-context"] {
        if !matches.list(flag).is_empty() {
            return Err(Failure::Refused(format!(
                "NotImplemented: --{flag} needs a directory to build from, without devices and pipes in it, and an engine that is seacow"
            )));
        }
    }
    Ok(())
}

/// `id=x,src=file`, `id=x,env=NAME`; without either the variable of that name, or the file.
fn secret(text: &str) -> Result<(String, Vec<u8>), Failure> {
    let bad = |why: &str| Failure::Refused(format!("invalid --secret {text:?}: {why}"));
    let (mut id, mut kind, mut source, mut env) = (None, None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("type", value @ ("file" | "env"))) => kind = Some(value),
            Some(("src" | "source", value)) => source = Some(value.to_owned()),
            Some(("env", value)) => env = Some(value.to_owned()),
            _ => return Err(bad(&format!("unexpected field {field:?}"))),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| bad("it has no id"))?;
    if kind == Some("env") && env.is_none() {
        env = Some(source.take().unwrap_or_else(|| id.clone()));
    }
    if env.is_none() && source.is_none() {
        match std::env::var_os(&id) {
            Some(_) if kind.is_none() => env = Some(id.clone()),
            _ => source = Some(id.clone()),
        }
    }
    let data = match (env, source) {
        (Some(name), _) => {
            use std::os::unix::ffi::OsStringExt as _;
            std::env::var_os(&name).ok_or_else(|| bad(&format!("{name} is not set")))?.into_vec()
        }
        (None, source) => {
            let path = source.unwrap_or_default();
            std::fs::read(&path).map_err(|error| bad(&format!("open {path}: {}", go_io_text(&error))))?
        }
    };
    Ok((id, data))
}

/// `default`, `id`, `id=socket`.
fn agent(text: &str, own: Option<PathBuf>) -> Result<(String, PathBuf), Failure> {
    let bad = |why: String| Failure::Refused(format!("invalid --ssh {text:?}: {why}"));
    let (id, path) = match text.split_once('=') {
        Some((id, path)) => (id, Some(PathBuf::from(path))),
        None => (text, None),
    };
    let id = if id.is_empty() { DEFAULT_AGENT } else { id };
    let path = path.or(own).ok_or_else(|| bad("no agent runs: SSH_AUTH_SOCK is not set".into()))?;
    let meta = std::fs::metadata(&path)
        .map_err(|error| bad(format!("{}: {}", path.display(), go_io_text(&error))))?;
    if !std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) {
        return Err(bad(format!(
            "NotImplemented: {} is no agent's socket; keys are given to an agent with ssh-add",
            path.display()
        )));
    }
    Ok((id.to_owned(), path))
}

fn context(text: &str) -> Result<(String, Source), Failure> {
    let bad = |why: &str| Failure::Refused(format!("invalid --build-context {text:?}: {why}"));
    let (name, source) = text.split_once('=').ok_or_else(|| bad("expected name=path"))?;
    if name.is_empty() || source.is_empty() {
        return Err(bad("expected name=path"));
    }
    if let Some(image) = source.strip_prefix("docker-image://") {
        return Ok((name.to_owned(), Source::Image(image.to_owned())));
    }
    if source.contains("://") || source.starts_with("git@") {
        return Err(bad("NotImplemented: contexts from URLs and git repositories; name a directory"));
    }
    Ok((name.to_owned(), Source::Directory(source.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s");
        std::fs::write(&file, b"top\0").unwrap();
        let path = file.display();
        assert_eq!(secret(&format!("id=a,src={path}")).unwrap(), ("a".into(), b"top\0".to_vec()));
        assert_eq!(secret(&format!("type=file,source={path},id=a")).unwrap().1, b"top\0");
        let own = std::env::var("PATH").unwrap();
        assert_eq!(secret("id=PATH").unwrap().1, own.as_bytes());
        assert_eq!(secret("id=x,env=PATH").unwrap().1, own.as_bytes());
        for wrong in ["src=x", "id=", "id=a,odd=1", "id=a,src=/nope-seacow", "id=a,env=NOPE_SEACOW"] {
            assert!(secret(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn agents_and_contexts() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(agent("default", Some(socket.clone())).unwrap(), ("default".into(), socket.clone()));
        assert_eq!(agent(&format!("k={}", socket.display()), None).unwrap(), ("k".into(), socket));
        assert!(agent("default", None).unwrap_err().to_string().contains("SSH_AUTH_SOCK"));
        let key = dir.path().join("key");
        std::fs::write(&key, "").unwrap();
        assert!(
            agent(&format!("k={}", key.display()), None).unwrap_err().to_string().contains("NotImplemented")
        );
        assert_eq!(context("a=b/c").unwrap(), ("a".into(), Source::Directory("b/c".into())));
        assert_eq!(context("a=docker-image://bb:1").unwrap(), ("a".into(), Source::Image("bb:1".into())));
        assert!(context("a").is_err() && context("a=https://x").is_err());
    }
}
