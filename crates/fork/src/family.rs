//! A source and its templates: the library's one entry.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::capture::{self, State};
use crate::clone::{self, Begun, Held, Spec};
use crate::error::{Error, Result};
use crate::examine::{self, Target};
use crate::reason::Reason;
use crate::shadow::{Copied, Shadow};
use crate::snapshot::{self, Snapshot};
use crate::source::Source;
use crate::template::{self, Changes, Frames, Template};

/// How long making a template and a clone may take; far more than any takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The caller's part of a pause: what has to be of the same moment as the memory. A closure is done at the
/// end, with nothing beside it.
pub trait Meanwhile {
    /// The source stands still, and nothing stands in the way. What is begun here goes on beside our own work.
    fn begin(&mut self) -> std::result::Result<(), String>;

    /// Waits until it is done.
    fn finish(&mut self) -> std::result::Result<(), String>;
}

impl<F: FnMut() -> std::result::Result<(), String>> Meanwhile for F {
    fn begin(&mut self) -> std::result::Result<(), String> {
        Ok(())
    }

    fn finish(&mut self) -> std::result::Result<(), String> {
        self()
    }
}

/// What one source's forks have in common. Dropped, templates and snapshots are killed; clones live on.
///
/// ```no_run
/// use std::time::Duration;
/// use seacow_fork::{Family, Spec, Target};
///
/// # fn main() -> seacow_fork::Result<()> {
/// # let (pid, spec) = (1234, Spec::default());
/// let target = Target { pid, streams: &[], cgroup: None };
/// let mut family = Family::new(pid);
/// // The file system is snapshotted in the pause, too.
/// family.fork(&target, Duration::from_millis(500), || Ok(()))?;
/// let clones = [family.clone_from(&spec)?, family.clone_from(&spec)?];
/// for clone in clones {
///     clone.release()?;
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Family {
    pid: i32,
    /// The one of the source, until that executes another program.
    shadow: Option<Shadow>,
    made: Option<Generation>,
    /// The one before. Its end takes milliseconds, for which nobody should wait.
    last: Option<Generation>,
}

/// One fork.
#[derive(Debug)]
struct Generation {
    state: State,
    /// What the template was filled from; a fork of the shadow is full.
    snapshot: Option<Snapshot>,
    /// Where that has its pages, once it was asked.
    frames: Option<Frames>,
    template: Template,
}

/// A copy of the memory that was made while the source stood still.
enum Copy {
    Snapshot(Snapshot),
    OfShadow(Copied),
    /// Only of what has changed since the last snapshot.
    Changes(Changes),
}

/// How the memory was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// By one fork of the source's shadow.
    Shadow,
    /// By a fork of the source, out of which a template was filled.
    Snapshot,
    /// The last fork's template and what has changed since the last snapshot.
    Kept,
}

/// What a fork took.
#[derive(Clone, Copy, Debug)]
pub struct Forked {
    /// Which way was taken.
    pub path: Path,
    /// How long the source stood still.
    pub pause: Duration,
    /// Of these, what was waited for the caller's part.
    pub caller: Duration,
    /// From the call until clones can be made.
    pub ready: Duration,
    /// Bytes that were copied.
    pub copied: u64,
}

impl Family {
    /// Of a process that was not forked yet.
    pub fn new(pid: i32) -> Self {
        Self { pid, shadow: None, made: None, last: None }
    }

    /// Of a process with a shadow, which must not be watched any more when it is forked.
    pub fn with_shadow(pid: i32, shadow: Shadow) -> Self {
        Self { shadow: Some(shadow), ..Self::new(pid) }
    }

    /// The shadow, if it is one still.
    pub fn shadow(&self) -> Option<&Shadow> {
        self.shadow.as_ref().filter(|shadow| shadow.is_of(self.pid))
    }

    /// As [`examine`](crate::examine), but for what is there on account of earlier forks.
    pub fn examine(&self, target: &Target<'_>) -> Result<Vec<Reason>> {
        examine::examine_but(target, &self.kept().collect::<Vec<_>>())
    }

    /// Processes that stand still in the source's cgroup and are ours, as the caller sees them. The first are
    /// in its pid namespace, too: snapshots, that of the last fork first. A source that ends waits until
    /// they have been let go, so whoever sees one of them end drops the family. Then comes the shadow.
    pub fn kept(&self) -> impl Iterator<Item = i32> {
        let generations = self.made.iter().chain(&self.last);
        let snapshots = generations.filter_map(|made| Some(made.snapshot.as_ref()?.puppet.pid));
        snapshots.chain(self.shadow.iter().map(Shadow::pid))
    }

    /// Stops the source, takes its state and a copy-on-write copy of its memory, lets it go, and makes
    /// a template of that. `meanwhile` is the caller's part of the pause (the snapshot of the file system);
    /// it must keep to `pause_at_most` itself, after which nothing else is begun and the source is let go.
    ///
    /// What stands in the way is the error [`Error::Refused`], found before anything is touched.
    pub fn fork(
        &mut self,
        target: &Target<'_>,
        pause_at_most: Duration,
        meanwhile: impl Meanwhile,
    ) -> Result<Forked> {
        self.tidy();
        let began = Instant::now();
        let mut source = Source::stop(self.pid, began + pause_at_most)?;
        if self.shadow().is_none() {
            self.shadow = None;
        }
        let stopped = source.stopped;
        let taken = self.take(&mut source, target, meanwhile, began + pause_at_most);
        let released = source.release();
        let (state, copy, caller) = taken?;
        // It has ended meanwhile, perhaps; its copy has not.
        drop(released);
        let pause = stopped.elapsed();
        let (path, made) = self.generation(state, copy)?;
        let (copied, ready) = (made.template.copied, began.elapsed());
        self.last = self.made.replace(made);
        Ok(Forked { path, pause, caller, ready, copied })
    }

    fn generation(&mut self, state: State, copy: Copy) -> Result<(Path, Generation)> {
        let deadline = Instant::now() + PATIENCE;
        let (mut frames, mut snapshot) = (None, None);
        let (path, template) = match copy {
            Copy::OfShadow(copied) => (Path::Shadow, template::of_copy(copied, &state, deadline)?),
            Copy::Snapshot(taken) => {
                let template = self.template_of(&state, &taken)?;
                snapshot = Some(taken);
                (Path::Snapshot, template)
            }
            Copy::Changes(changes) => {
                let made = self.made.as_mut().ok_or(Error::Gone { pid: self.pid })?;
                let template = template::renew(&made.template, &state, &changes, deadline)?;
                (snapshot, frames) = (made.snapshot.take(), made.frames.take());
                (Path::Kept, template)
            }
        };
        Ok((path, Generation { state, snapshot, frames, template }))
    }

    fn take(
        &mut self,
        source: &mut Source,
        target: &Target<'_>,
        mut meanwhile: impl Meanwhile,
        deadline: Instant,
    ) -> Result<(State, Copy, Duration)> {
        let examined = capture::examine(source, target, &self.kept().collect::<Vec<_>>())?;
        meanwhile.begin().map_err(Error::Caller)?;
        let state = capture::capture(source, examined)?;
        snapshot::bury(source)?;
        let copy = match (&mut self.shadow, changes_since(self.made.as_ref(), source, &state)?) {
            (Some(shadow), _) => Copy::OfShadow(shadow.fork(source, &state.mappings, deadline)?),
            (None, Some(changes)) => Copy::Changes(changes),
            (None, None) => Copy::Snapshot(snapshot::take(source, &state.mappings, deadline)?),
        };
        let caller = Instant::now();
        meanwhile.finish().map_err(Error::Caller)?;
        Ok((state, copy, caller.elapsed()))
    }

    /// From the last one, where that is of use.
    fn template_of(&self, state: &State, snapshot: &Snapshot) -> Result<Template> {
        let deadline = Instant::now() + PATIENCE;
        if let Some(Generation { template: last, snapshot: Some(of_last), state: old_state, .. }) = &self.made
        {
            let old = (of_last, old_state);
            if let Some(template) = template::rebuild(last, old, (snapshot, state), deadline)? {
                return Ok(template);
            }
        }
        template::build(state, snapshot, deadline)
    }

    /// Makes a clone from the last fork. It stands still until it is released.
    pub fn clone_from(&self, spec: &Spec<'_>) -> Result<Held> {
        self.begin_clone(spec.cgroup, spec.shadow.is_some())?.finish(spec)
    }

    /// Begins to make a clone: the kernel copies the memory while the caller prepares the rest.
    /// `cgroup` and `with_shadow`: what [`Spec::cgroup`] and [`Spec::shadow`] will say.
    pub fn begin_clone<'a>(&'a self, cgroup: Option<BorrowedFd<'a>>, with_shadow: bool) -> Result<Begun<'a>> {
        let made = self.made.as_ref().ok_or(Error::Gone { pid: self.pid })?;
        clone::begin(&made.template, &made.state, cgroup, with_shadow)
    }

    /// Ends what is left of the fork before the last one, which nobody needs any more, and prepares for the
    /// next: when there is time. The next fork does it first.
    pub fn tidy(&mut self) {
        self.last = None;
        if let Some(Generation { state, snapshot: Some(snapshot), frames: frames @ None, .. }) =
            &mut self.made
        {
            // The next fork goes the longer way when this cannot be read.
            *frames = Frames::of(snapshot, &state.mappings).ok();
        }
    }

    /// Lets go of templates and snapshots, and has the source take note of the latter, for which it
    /// stands still once more for some hundred microseconds.
    pub fn retire(&mut self, pause_at_most: Duration) -> Result<()> {
        let has_snapshot = |made: &Generation| made.snapshot.is_some();
        let snapshots = self.made.iter().chain(&self.last).any(has_snapshot);
        (self.made, self.last) = (None, None);
        if !snapshots {
            return Ok(());
        }
        let mut source = Source::stop(self.pid, Instant::now() + pause_at_most)?;
        let buried = snapshot::bury(&mut source);
        source.release().and(buried)
    }

    /// The shadow, for another family of the same source.
    pub fn into_shadow(self) -> Option<Shadow> {
        self.shadow
    }
}

/// What has changed since the last snapshot, where the last template can be made the next one by that.
fn changes_since(made: Option<&Generation>, source: &Source, state: &State) -> Result<Option<Changes>> {
    match made {
        Some(Generation { state: old, frames: Some(frames), template, .. })
            if template::can_renew(template, old, state) =>
        {
            Changes::of(source, &state.mappings, frames)
        }
        Some(_) | None => Ok(None),
    }
}
