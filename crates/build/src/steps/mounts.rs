//! `RUN --mount`: from the words to what the engine mounts, and to what the cache compares.

use std::path::{Component, Path, PathBuf};

use super::Site;
use crate::build::Run;
use crate::dockerfile::RunArgs;
use crate::dockerfile::mount::{Mount, MountKind, MountWords};
use crate::error::BuildError;
use crate::executor::{FilesFrom, RunMount, RunMountKind, Secret};
use crate::expand::Variables;
use crate::options::NamedContext;
use crate::stage::StageState;
use crate::{config, copy, gopath, plan};

/// Where secrets are found when nothing else is said.
const SECRETS: &str = "/run/secrets";
/// Where the agent's socket is, likewise; a number follows.
const AGENT: &str = "/run/buildkit/ssh_agent";
/// The agent that is meant when none is named.
const DEFAULT_AGENT: &str = "default";

/// The mounts of one step.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub mounts: Vec<RunMount>,
    /// What makes two steps different to the cache. No secret is among it.
    pub keys: Vec<String>,
    /// Variables that the command sees.
    pub env: Vec<String>,
    /// Variables that nobody else may see.
    pub secret_env: Vec<String>,
    /// What is asked for and not there; it matters only when the step is carried out.
    missing: Vec<BuildError>,
}

impl Mounts {
    /// Everything that is required is there.
    pub(super) fn check(&mut self, _run: &Run<'_, '_>) -> Result<(), BuildError> {
        match self.missing.pop() {
            Some(missing) => Err(missing),
            None => Ok(()),
        }
    }
}

/// Resolves all mounts of a step.
pub(super) fn resolve(
    run: &mut Run<'_, '_>,
    state: &StageState,
    site: &Site,
    line: &RunArgs,
    variables: &Variables,
) -> Result<Mounts, BuildError> {
    let mut mounts = Mounts::default();
    for words in &line.mounts {
        let mount = words.resolve(|value| run.expand(site.line, value, variables).map_err(Failed::Build));
        let mount = mount.map_err(|failed| match failed {
            Failed::Build(error) => error,
            Failed::Syntax(source) => BuildError::Mount { line: site.line, source },
        })?;
        one(run, state, site, words, mount, &mut mounts)?;
    }
    Ok(mounts)
}

/// A word that cannot be expanded, or a value that a field does not take.
enum Failed {
    Build(BuildError),
    Syntax(crate::dockerfile::SyntaxError),
}

impl From<crate::dockerfile::SyntaxError> for Failed {
    fn from(error: crate::dockerfile::SyntaxError) -> Self {
        Self::Syntax(error)
    }
}

fn one(
    run: &mut Run<'_, '_>,
    state: &StageState,
    site: &Site,
    words: &MountWords,
    mount: Mount,
    mounts: &mut Mounts,
) -> Result<(), BuildError> {
    let working_dir = &state.config.working_dir;
    match mount.kind {
        MountKind::Bind => {
            let target = absolute(working_dir, &mount.target);
            let path = relative(&mount.source);
            let (from, key) = files(run, site, words.from.as_deref(), &path)?;
            let writable = mount.writable == Some(true);
            mounts.keys.push(format!("--mount=type=bind,source={key},target={target},rw={writable}"));
            mounts.push(target, RunMountKind::Files { from, path, writable });
        }
        MountKind::Cache => cache(run, state, site, words, mount, mounts)?,
        MountKind::Tmpfs => {
            let target = absolute(working_dir, &mount.target);
            mounts.keys.push(format!("--mount=type=tmpfs,target={target},size={}", mount.size));
            mounts.push(target, RunMountKind::Tmpfs(mount.size));
        }
        MountKind::Secret => secret(run, working_dir, &mount, mounts),
        MountKind::Ssh => agent(run, working_dir, &mount, mounts),
    }
    Ok(())
}

impl Mounts {
    fn push(&mut self, target: String, kind: RunMountKind) {
        self.mounts.push(RunMount { target, kind });
    }
}

fn cache(
    run: &mut Run<'_, '_>,
    state: &StageState,
    site: &Site,
    words: &MountWords,
    mount: Mount,
    mounts: &mut Mounts,
) -> Result<(), BuildError> {
    let target = absolute(&state.config.working_dir, &mount.target);
    let id = if mount.id.is_empty() { gopath::clean(&target) } else { mount.id };
    let path = relative(&mount.source);
    let seed = match words.from.as_deref() {
        Some(from) => Some((files(run, site, Some(from), &path)?.0, path)),
        None => None,
    };
    // What is in it is nobody's business: a step with a cache is the same whatever that holds.
    mounts.keys.push(format!("--mount=type=cache,id={id},target={target}"));
    let owner = (mount.mode.unwrap_or(0o755), mount.uid, mount.gid);
    let read_only = mount.writable == Some(false);
    mounts.push(target, RunMountKind::Cache { id, sharing: mount.sharing, read_only, owner, seed });
    Ok(())
}

fn secret(run: &Run<'_, '_>, working_dir: &str, mount: &Mount, mounts: &mut Mounts) {
    let id = match (mount.id.as_str(), &mount.env) {
        ("", Some(env)) => env.clone(),
        ("", None) => gopath::base(&mount.target).to_owned(),
        (id, _) => id.to_owned(),
    };
    // That a secret is there belongs to the key, what it is does not.
    let env = mount.env.as_deref().unwrap_or_default();
    mounts.keys.push(format!("--mount=type=secret,id={id},target={},env={env}", mount.target));
    let Some(data) = run.shared.executor.secret(&id) else {
        mounts.missing.extend(mount.required.then_some(BuildError::NoSecret(id)));
        return;
    };
    if let Some(env) = &mount.env {
        mounts.secret_env.push(format!("{env}={}", String::from_utf8_lossy(&data.0)));
    }
    if mount.env.is_none() || !mount.target.is_empty() {
        let target = match mount.target.as_str() {
            "" => format!("{SECRETS}/{}", gopath::base(&id)),
            target => absolute(working_dir, target),
        };
        let owner = (mount.mode.unwrap_or(0o400), mount.uid, mount.gid);
        mounts.push(target, RunMountKind::File { data: Secret(data.0), owner });
    }
}

fn agent(run: &Run<'_, '_>, working_dir: &str, mount: &Mount, mounts: &mut Mounts) {
    let id = if mount.id.is_empty() { DEFAULT_AGENT.to_owned() } else { mount.id.clone() };
    let before = mounts.mounts.iter().filter(|m| matches!(m.kind, RunMountKind::Agent { .. })).count();
    let target = match mount.target.as_str() {
        "" => format!("{AGENT}.{before}"),
        target => absolute(working_dir, target),
    };
    mounts.keys.push(format!("--mount=type=ssh,id={id},target={target}"));
    if !run.shared.executor.has_agent(&id) {
        mounts.missing.extend(mount.required.then_some(BuildError::NoAgent(id)));
        return;
    }
    if before == 0 {
        mounts.env.push(format!("SSH_AUTH_SOCK={target}"));
    }
    let owner = (mount.mode.unwrap_or(0o600), mount.uid, mount.gid);
    mounts.push(target, RunMountKind::Agent { id, owner });
}

/// The files of `from=`, and what they are to the cache.
fn files(
    run: &mut Run<'_, '_>,
    site: &Site,
    from: Option<&str>,
    path: &Path,
) -> Result<(FilesFrom, String), BuildError> {
    let of_context = |context: &crate::context::Context| {
        let hash = copy::tree_summary(context, path)
            .map_err(|source| BuildError::Sources { instruction: "RUN --mount", source })?;
        Ok((FilesFrom::Directory(context.path().to_owned()), format!("{}@{hash}", path.display())))
    };
    let Some(from) = from else {
        let missing =
            || BuildError::Sources { instruction: "RUN --mount", source: copy::CopyError::NoContext };
        return of_context(run.shared.context.ok_or_else(missing)?);
    };
    let image = match run.shared.named(from) {
        Some(NamedContext::Files(context)) => return of_context(context),
        Some(NamedContext::Image(name)) => Some(image_of(run, from, name)?),
        None => {
            let earlier = plan::earlier_stage(&run.shared.plan.stages, site.stage, from)
                .map_err(|cause| BuildError::From { value: from.to_owned(), cause })?;
            match earlier {
                Some(index) => run.stage_image(index)?,
                None if from == "scratch" => None,
                None => Some(image_of(run, from, from)?),
            }
        }
    };
    let content = image.as_ref().map(|image| config::content(&image.config)).unwrap_or_default();
    let key = format!("{}@{content}", path.display());
    Ok((FilesFrom::Image(image.map(|image| image.id)), key))
}

fn image_of(run: &mut Run<'_, '_>, from: &str, name: &str) -> Result<crate::executor::Image, BuildError> {
    let resolved = run.shared.resolve(name, run.output);
    resolved.map_err(|source| BuildError::FromImage { value: from.to_owned(), source })
}

fn absolute(working_dir: &str, target: &str) -> String {
    if target.starts_with('/') { gopath::clean(target) } else { gopath::join(&["/", working_dir, target]) }
}

/// A path below a root: what leads out of it stops there.
fn relative(path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => _ = clean.pop(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}
