//! `COPY`, `ADD`, `WORKDIR`.

use std::path::Path;

use super::{announce, commit, probe};
use crate::build::Run;
use crate::config;
use crate::copy::{self, CopyError, Ownership, Picked, Placing, Source};
use crate::dockerfile::CopyArgs;
use crate::error::BuildError;
use crate::executor::{View, Workspace};
use crate::expand::Variables;
use crate::gopath;
use crate::options::is_url;
use crate::plan::{self, Plan};
use crate::rooted::{Errno, Root};
use crate::stage::StageState;

/// Where a copy stands.
pub(super) struct Site<'a> {
    pub plan: &'a Plan,
    pub stage: usize,
    pub line: usize,
    pub instruction: &'static str,
}

/// The words of a copy, expanded.
struct Wanted {
    sources: Vec<String>,
    dest: String,
    chown: Option<String>,
}

/// Copies files into the image.
pub(super) fn copy(
    run: &mut Run<'_>,
    state: &mut StageState,
    site: &Site<'_>,
    args: &CopyArgs,
    variables: &Variables,
) -> Result<(), BuildError> {
    let expand = |word: &String| run.expand(site.line, word, variables);
    let wanted = Wanted {
        sources: args.sources.iter().map(expand).collect::<Result<_, _>>()?,
        dest: expand(&args.dest)?,
        chown: args.chown.as_ref().map(expand).transpose()?.filter(|owner| !owner.is_empty()),
    };
    refuse_remote(site.instruction, &wanted.sources)?;
    let Some(from) = &args.from else {
        let missing = || BuildError::Sources { instruction: site.instruction, source: CopyError::NoContext };
        let context = run.context.ok_or_else(missing)?;
        let source = Source { root: context.root(), ignore: Some(context.ignore()) };
        return copy_from(run, state, site, &wanted, &source, Ownership::Set(0, 0));
    };
    let view = view_of(run, site, from)?;
    let root = root_of(&*view)?;
    copy_from(run, state, site, &wanted, &Source { root: &root, ignore: None }, Ownership::Keep)
}

fn copy_from(
    run: &mut Run<'_>,
    state: &mut StageState,
    site: &Site<'_>,
    wanted: &Wanted,
    source: &Source<'_>,
    owner: Ownership,
) -> Result<(), BuildError> {
    let instruction = site.instruction;
    let picked =
        source.select(&wanted.sources).map_err(|source| BuildError::Sources { instruction, source })?;
    if picked.len() > 1 && !wanted.dest.ends_with('/') {
        return Err(BuildError::ManySources(instruction));
    }
    let chown = wanted.chown.as_ref().map(|owner| format!("--chown={owner}")).unwrap_or_default();
    // Docker puts no blank between the flag and the hash; old caches have it so.
    let comment = format!("{instruction} {chown}{} in {} ", copy::summary(&picked), wanted.dest);
    let step_config = config::with_joined_comment(&state.config, &comment);
    if probe(run, state, &step_config)? {
        return Ok(());
    }
    run.check_cancelled()?;
    let workspace = run.executor.workspace(state.id())?;
    write(&*workspace, state, site, wanted, source, owner, &picked)?;
    let change = workspace.commit()?;
    commit(run, state, &step_config, &change)
}

fn write(
    workspace: &dyn Workspace,
    state: &StageState,
    site: &Site<'_>,
    wanted: &Wanted,
    source: &Source<'_>,
    owner: Ownership,
    picked: &[Picked],
) -> Result<(), BuildError> {
    let to = root_of(workspace)?;
    let owner = match &wanted.chown {
        Some(chown) => {
            let (uid, gid) = copy::look_up(&to, chown)?;
            Ownership::Set(uid, gid)
        }
        None => owner,
    };
    let dest = destination(&state.config.working_dir, &wanted.dest);
    let placing =
        Placing { from: source.root, to: &to, dest: &dest, owner, unpack: site.instruction == "ADD" };
    picked.iter().try_for_each(|one| copy::place(&placing, one)).map_err(BuildError::Copy)
}

/// Makes the working directory in the image where it is missing.
pub(super) fn workdir(run: &mut Run<'_>, state: &mut StageState, path: &str) -> Result<(), BuildError> {
    let comment = super::metadata::workdir(&mut state.config, path);
    let step_config = config::with_joined_comment(&state.config, &comment);
    if probe(run, state, &step_config)? {
        return Ok(());
    }
    announce(run)?;
    let workspace = run.executor.workspace(state.id())?;
    let path = &state.config.working_dir;
    let failed = |source| BuildError::Workdir { path: path.clone(), source };
    copy::make_dir(&root_of(&*workspace)?, Path::new(path), (0, 0)).map_err(failed)?;
    let change = workspace.commit()?;
    commit(run, state, &step_config, &change)
}

/// The files of `--from=`: an earlier stage by name or number, else an image.
fn view_of<'a>(run: &mut Run<'a>, site: &Site<'_>, from: &str) -> Result<Box<dyn View + 'a>, BuildError> {
    let earlier = plan::earlier_stage(&site.plan.stages, site.stage, from)
        .map_err(|cause| BuildError::From { value: from.to_owned(), cause })?;
    let image = match earlier {
        Some(index) => run.stages.get(index).cloned().flatten(),
        None => {
            let resolved = run.resolve(from);
            Some(resolved.map_err(|source| BuildError::FromImage { value: from.to_owned(), source })?)
        }
    };
    Ok(run.executor.view(image.as_ref().map(|image| &image.id))?)
}

fn root_of<V: View + ?Sized>(view: &V) -> Result<Root, BuildError> {
    let failed =
        |errno: Errno| BuildError::Copy(CopyError::Path { step: "open", path: "/".into(), source: errno });
    let fd = view.root().try_clone_to_owned();
    fd.map(Root::from_fd).map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}

fn refuse_remote(instruction: &'static str, sources: &[String]) -> Result<(), BuildError> {
    let git = |source: &str| source.starts_with("git@") || source.starts_with("git://");
    let Some(remote) = sources.iter().find(|source| is_url(source) || instruction == "ADD" && git(source))
    else {
        return Ok(());
    };
    let source = if instruction == "COPY" {
        CopyError::UrlForCopy
    } else {
        let kind = if crate::options::is_git(remote) { "git repositories" } else { "URLs" };
        CopyError::Remote { kind, source_text: remote.clone() }
    };
    Err(BuildError::Sources { instruction, source })
}

/// Absolute, with the trailing slash that says that it is a directory. `.` can be nothing else,
/// even where the working directory does not exist yet.
fn destination(working_dir: &str, dest: &str) -> String {
    if dest.starts_with('/') {
        return dest.to_owned();
    }
    let mut path = gopath::join(&["/", working_dir, dest]);
    let is_dir = dest.ends_with('/') || dest == "." || dest.ends_with("/.");
    if is_dir && !path.ends_with('/') {
        path.push('/');
    }
    path
}
