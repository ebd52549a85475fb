//! `COPY`, `ADD`, `WORKDIR`.

use std::path::Path;

use super::remote::{self, Place};
use super::{Site, announce, commit, probe};
use crate::build::Run;
use crate::config;
use crate::copy::{self, Chmod, CopyError, Ownership, Picked, Placing, Source};
use crate::dockerfile::CopyArgs;
use crate::error::BuildError;
use crate::executor::{Fetched, Image, View, Workspace};
use crate::expand::{self, Variables};
use crate::gopath;
use crate::ignore::Matcher;
use crate::options::NamedContext;
use crate::plan;
use crate::rooted::{Errno, Root};
use crate::stage::StageState;

/// The words of a copy, expanded.
struct Wanted {
    sources: Vec<String>,
    dest: String,
    chown: Option<String>,
    chmod: Option<(String, Chmod)>,
    excludes: Vec<String>,
    /// Files whose text stands in the Dockerfile.
    texts: Vec<Picked>,
}

/// Files of one place.
struct Batch<'a> {
    from: From<'a>,
    words: Vec<String>,
    picked: Option<Vec<Picked>>,
    owner: Ownership,
    unpack: bool,
}

/// Where they are.
enum From<'a> {
    Context(&'a crate::context::Context),
    View(Option<Image>, Option<Root>, Option<Box<dyn View + 'a>>),
    /// Not fetched before the cache was asked, where the cache need not know what it is.
    Remote(Place, Option<Root>, Option<Box<dyn Fetched + 'a>>),
    Texts,
}

/// Copies files into the image.
pub(super) fn copy(
    run: &mut Run<'_, '_>,
    state: &mut StageState,
    site: &Site,
    args: &CopyArgs,
    variables: &Variables,
) -> Result<(), BuildError> {
    let wanted = wanted(run, state, site, args, variables)?;
    let excludes = Matcher::new(&wanted.excludes);
    let excludes = excludes.map_err(|source| BuildError::Exclude { line: site.line, source })?;
    let mut batches = batches(run, site, args, &wanted)?;
    let mut summaries = Vec::with_capacity(batches.len());
    for batch in &mut batches {
        summaries.push(batch.summary(run, site, args, &wanted, &excludes)?);
    }
    let summary = copy::join(&summaries);
    if summary.starts_with("multi:") && !wanted.dest.ends_with('/') && !args.parents {
        return Err(BuildError::ManySources(site.instruction));
    }
    let comment = comment(site, args, &wanted, &summary);
    let step_config = config::with_joined_comment(&state.config, &comment);
    if probe(run, state, &step_config)? {
        return Ok(());
    }
    run.check_cancelled()?;
    for batch in &mut batches {
        batch.select(run, site, args, &excludes, &wanted)?;
    }
    let workspace = run.shared.executor.workspace(state.id())?;
    write(&*workspace, state, &wanted, &batches)?;
    let change = workspace.commit(state.epoch)?;
    commit(run, state, &step_config, &change)
}

fn wanted(
    run: &Run<'_, '_>,
    state: &StageState,
    site: &Site,
    args: &CopyArgs,
    variables: &Variables,
) -> Result<Wanted, BuildError> {
    let expand = |word: &String| run.expand(site.line, word, variables);
    let given = |word: &Option<String>| -> Result<Option<String>, BuildError> {
        Ok(word.as_ref().map(expand).transpose()?.filter(|value| !value.is_empty()))
    };
    let chmod = given(&args.chmod)?.map(|text| match Chmod::parse(&text) {
        Some(chmod) => Ok((text, chmod)),
        None => Err(BuildError::Chmod(text)),
    });
    let mtime = state.epoch.unwrap_or_else(seacow_spec::Timestamp::now).unix_seconds();
    let mut texts = Vec::new();
    for document in &args.heredocs {
        let mut data = document.text();
        if document.expand {
            let expanded = expand::document(&data, run.shared.plan.escape, variables);
            data = expanded.map_err(|source| BuildError::Expand { line: site.line, source })?.text;
        }
        texts.push(copy::text(&document.name, data.into_bytes(), mtime));
    }
    let announced =
        |word: &&String| args.heredocs.is_empty() || crate::dockerfile::heredoc::of_word(word).is_none();
    Ok(Wanted {
        sources: args.sources.iter().filter(announced).map(expand).collect::<Result<_, _>>()?,
        dest: expand(&args.dest)?,
        chown: given(&args.chown)?,
        chmod: chmod.transpose()?,
        excludes: args.excludes.iter().map(expand).collect::<Result<_, _>>()?,
        texts,
    })
}

/// What the words name, by place: neighbours of one place together.
fn batches<'a>(
    run: &mut Run<'a, '_>,
    site: &Site,
    args: &CopyArgs,
    wanted: &Wanted,
) -> Result<Vec<Batch<'a>>, BuildError> {
    let is_add = site.instruction == "ADD";
    let mut batches: Vec<Batch<'a>> = Vec::new();
    for word in &wanted.sources {
        if let Some(place) = remote::place(site, args, word, &wanted.dest)? {
            let (owner, unpack) = (Ownership::Set(0, 0), args.unpack == Some(true));
            let from = From::Remote(place, None, None);
            batches.push(Batch { from, words: Vec::new(), picked: None, owner, unpack });
            continue;
        }
        let follows = batches.last().is_some_and(|batch| !matches!(batch.from, From::Remote(..)));
        if !follows {
            let (from, owner) = local(run, site, args)?;
            let unpack = is_add && args.unpack != Some(false);
            batches.push(Batch { from, words: Vec::new(), picked: None, owner, unpack });
        }
        if let Some(batch) = batches.last_mut() {
            batch.words.push(word.clone());
        }
    }
    let has_remote = batches.iter().any(|batch| matches!(batch.from, From::Remote(..)));
    if args.checksum.is_some() && !has_remote {
        let why = "checksum can't be specified for sources that are not fetched";
        return Err(BuildError::AddFlag { flag: "--checksum", why });
    }
    if !wanted.texts.is_empty() {
        let owner = Ownership::Set(0, 0);
        batches.push(Batch { from: From::Texts, words: Vec::new(), picked: None, owner, unpack: false });
    }
    Ok(batches)
}

/// The files of `--from=`: a named context, an earlier stage by name or number, an image; or of
/// the context.
fn local<'a>(
    run: &mut Run<'a, '_>,
    site: &Site,
    args: &CopyArgs,
) -> Result<(From<'a>, Ownership), BuildError> {
    let Some(from) = &args.from else {
        let missing = || BuildError::Sources { instruction: site.instruction, source: CopyError::NoContext };
        let context = run.shared.context.ok_or_else(missing)?;
        return Ok((From::Context(context), Ownership::Set(0, 0)));
    };
    let name = match run.shared.named(from) {
        Some(NamedContext::Files(context)) => return Ok((From::Context(context), Ownership::Set(0, 0))),
        Some(NamedContext::Image(name)) => name,
        None => from,
    };
    let earlier = plan::earlier_stage(&run.shared.plan.stages, site.stage, name)
        .map_err(|cause| BuildError::From { value: from.to_owned(), cause })?;
    let image = match earlier {
        Some(index) => run.stage_image(index)?,
        None if from == "scratch" => None,
        None => {
            let resolved = run.shared.resolve(name, run.output);
            Some(resolved.map_err(|source| BuildError::FromImage { value: from.to_owned(), source })?)
        }
    };
    Ok((From::View(image, None, None), Ownership::Keep))
}

impl<'a> Batch<'a> {
    /// What its files are to the cache. What is remembered of them is not read again.
    fn summary(
        &mut self,
        run: &mut Run<'a, '_>,
        site: &Site,
        args: &CopyArgs,
        wanted: &Wanted,
        excludes: &Matcher,
    ) -> Result<String, BuildError> {
        if let From::Remote(place, ..) = &self.from
            && let Some(key) = place.key(args)
        {
            return Ok(key);
        }
        let identity = match &self.from {
            From::Context(context) => context.identity().map(str::to_owned),
            From::View(image, ..) => {
                Some(image.as_ref().map(|image| config::content(&image.config)).unwrap_or_default())
            }
            From::Remote(..) | From::Texts => None,
        };
        let asked = (&self.words, &wanted.excludes, args.parents);
        let key = identity.map(|identity| format!("{identity} {asked:?}"));
        if let Some(known) = key.as_ref().and_then(|key| run.shared.executor.recall(key)) {
            return Ok(known);
        }
        self.select(run, site, args, excludes, wanted)?;
        let summary = copy::summary(self.picked.as_deref().unwrap_or_default());
        if let Some(key) = key {
            run.shared.executor.remember(key, summary.clone());
        }
        Ok(summary)
    }

    /// Finds its files, unless that was done.
    fn select(
        &mut self,
        run: &mut Run<'a, '_>,
        site: &Site,
        args: &CopyArgs,
        excludes: &Matcher,
        wanted: &Wanted,
    ) -> Result<(), BuildError> {
        if self.picked.is_some() {
            return Ok(());
        }
        match &mut self.from {
            From::Texts => {
                self.picked = Some(wanted.texts.clone());
                return Ok(());
            }
            From::Context(_) => {}
            From::View(image, root, view) => {
                let seen = run.shared.executor.view(image.as_ref().map(|image| &image.id))?;
                *root = Some(root_of(&*seen)?);
                *view = Some(seen);
            }
            From::Remote(place, root, fetched) => {
                let done = place.fetch(run, args)?;
                *root = Some(root_of_fd(done.root())?);
                *fetched = Some(done);
                self.words = vec![place.word()];
            }
        }
        let instruction = site.instruction;
        let source = self.source()?;
        let source = Source { excludes: Some(excludes), parents: args.parents, ..source };
        let picked = source.select(&self.words).map_err(|source| {
            if let CopyError::NotInContext(path) = &source {
                self.note_ignored(run, site, path);
            }
            BuildError::Sources { instruction, source }
        })?;
        self.picked = Some(picked);
        Ok(())
    }

    /// A file that is missing may be there and hidden.
    fn note_ignored(&self, run: &Run<'_, '_>, site: &Site, path: &str) {
        let From::Context(context) = &self.from else { return };
        if context.root().stat(Path::new(path)).is_ok() {
            run.shared.lint.ignored(&site.instruction.to_lowercase(), site.line, path);
        }
    }

    fn source(&self) -> Result<Source<'_>, BuildError> {
        let missing = || BuildError::Copy(CopyError::NoContext);
        match &self.from {
            From::Context(context) => Ok(Source::of_context(context)),
            From::View(_, root, _) | From::Remote(_, root, _) => {
                root.as_ref().map(Source::all_of).ok_or_else(missing)
            }
            From::Texts => Err(missing()),
        }
    }
}

/// The step as the history and the cache have it. Docker puts no blank between a flag and the hash;
/// old caches have it so.
fn comment(site: &Site, args: &CopyArgs, wanted: &Wanted, summary: &str) -> String {
    let mut flags = String::new();
    if let Some(owner) = &wanted.chown {
        flags.push_str(&format!("--chown={owner}"));
    }
    if let Some((mode, _)) = &wanted.chmod {
        flags.push_str(&format!("--chmod={mode}"));
    }
    if args.parents {
        flags.push_str("--parents");
    }
    if let Some(unpack) = args.unpack {
        flags.push_str(&format!("--unpack={unpack}"));
    }
    if args.parents {
        // Where a name begins to count is not part of the hash.
        flags.push_str(&format!("{:?}", wanted.sources));
    }
    format!("{} {flags}{summary} in {} ", site.instruction, wanted.dest)
}

fn write(
    workspace: &dyn Workspace,
    state: &StageState,
    wanted: &Wanted,
    batches: &[Batch<'_>],
) -> Result<(), BuildError> {
    let to = root_of(workspace)?;
    let chown = wanted.chown.as_ref().map(|chown| copy::look_up(&to, chown)).transpose()?;
    let dest = destination(&state.config.working_dir, &wanted.dest);
    for batch in batches {
        let owner = chown.map_or(batch.owner, |(uid, gid)| Ownership::Set(uid, gid));
        let source = batch.source();
        let placing = Placing {
            // Texts come from nowhere.
            from: source.as_ref().map_or(&to, |source| source.root),
            to: &to,
            dest: &dest,
            owner,
            unpack: batch.unpack,
            chmod: wanted.chmod.as_ref().map(|(_, chmod)| chmod),
        };
        let mut picked = batch.picked.iter().flatten();
        picked.try_for_each(|one| copy::place(&placing, one)).map_err(BuildError::Copy)?;
    }
    Ok(())
}

/// Makes the working directory in the image where it is missing.
pub(super) fn workdir(run: &mut Run<'_, '_>, state: &mut StageState, path: &str) -> Result<(), BuildError> {
    let comment = super::metadata::workdir(&mut state.config, path);
    let step_config = config::with_joined_comment(&state.config, &comment);
    if probe(run, state, &step_config)? {
        return Ok(());
    }
    announce(run)?;
    let workspace = run.shared.executor.workspace(state.id())?;
    let path = &state.config.working_dir;
    let failed = |source| BuildError::Workdir { path: path.clone(), source };
    copy::make_dir(&root_of(&*workspace)?, Path::new(path), (0, 0)).map_err(failed)?;
    let change = workspace.commit(state.epoch)?;
    commit(run, state, &step_config, &change)
}

fn root_of<V: View + ?Sized>(view: &V) -> Result<Root, BuildError> {
    root_of_fd(view.root())
}

pub(super) fn root_of_fd(fd: std::os::fd::BorrowedFd<'_>) -> Result<Root, BuildError> {
    let failed =
        |errno: Errno| BuildError::Copy(CopyError::Path { step: "open", path: "/".into(), source: errno });
    let fd = fd.try_clone_to_owned();
    fd.map(Root::from_fd).map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
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
