//! A source and its templates: the library's one entry.

use std::time::{Duration, Instant};

use crate::capture::{self, State};
use crate::clone::{self, Held, Spec};
use crate::error::{Error, Result};
use crate::examine::Target;
use crate::snapshot::{self, Snapshot};
use crate::source::Source;
use crate::template::{self, Template};

/// How long making a template and a clone may take; far more than any takes.
const PATIENCE: Duration = Duration::from_secs(60);

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
    made: Option<Generation>,
    /// The one before. Its end takes milliseconds, for which nobody should wait.
    last: Option<Generation>,
}

/// One fork.
#[derive(Debug)]
struct Generation {
    state: State,
    snapshot: Snapshot,
    template: Template,
}

/// What a fork took.
#[derive(Clone, Copy, Debug)]
pub struct Forked {
    /// How long the source stood still.
    pub pause: Duration,
    /// Of these, what the caller's part took.
    pub caller: Duration,
    /// From the call until clones can be made.
    pub ready: Duration,
    /// Bytes that were copied.
    pub copied: u64,
}

impl Family {
    /// Of a process that was not forked yet.
    pub fn new(pid: i32) -> Self {
        Self { pid, made: None, last: None }
    }

    /// Stops the source, takes its state and a copy-on-write copy of its memory, lets it go, and makes
    /// a template of that. `while_stopped` is the caller's part of the pause (the snapshot of the file
    /// system); it must keep to `pause_at_most` itself, after which nothing else is begun and the
    /// source is let go.
    ///
    /// What stands in the way is the error [`Error::Refused`], found before anything is touched.
    pub fn fork(
        &mut self,
        target: &Target<'_>,
        pause_at_most: Duration,
        while_stopped: impl FnOnce() -> std::result::Result<(), String>,
    ) -> Result<Forked> {
        self.tidy();
        let began = Instant::now();
        let mut source = Source::stop(self.pid, began + pause_at_most)?;
        let ours: Vec<i32> = self.made.iter().map(|made| made.snapshot.puppet.pid).collect();
        let taken = self.take(&mut source, target, &ours, while_stopped, began + pause_at_most);
        let released = source.release();
        let (state, snapshot, caller) = taken?;
        // It has ended meanwhile, perhaps; its copy has not.
        drop(released);
        let pause = began.elapsed();
        let template = self.template_of(&state, &snapshot)?;
        let (copied, ready) = (template.copied, began.elapsed());
        self.last = self.made.replace(Generation { state, snapshot, template });
        Ok(Forked { pause, caller, ready, copied })
    }

    fn take(
        &self,
        source: &mut Source,
        target: &Target<'_>,
        ours: &[i32],
        while_stopped: impl FnOnce() -> std::result::Result<(), String>,
        deadline: Instant,
    ) -> Result<(State, Snapshot, Duration)> {
        let state = capture::capture(source, target, ours)?;
        snapshot::bury(source)?;
        let snapshot = snapshot::take(source, &state.mappings, deadline)?;
        let caller = Instant::now();
        while_stopped().map_err(Error::Caller)?;
        Ok((state, snapshot, caller.elapsed()))
    }

    /// From the last one, where that is of use.
    fn template_of(&self, state: &State, snapshot: &Snapshot) -> Result<Template> {
        let deadline = Instant::now() + PATIENCE;
        if let Some(last) = &self.made {
            let old = (&last.snapshot, &last.state);
            if let Some(template) = template::rebuild(&last.template, old, (snapshot, state), deadline)? {
                return Ok(template);
            }
        }
        template::build(state, snapshot, deadline)
    }

    /// Makes a clone from the last fork. It stands still until it is released.
    pub fn clone_from(&self, spec: &Spec<'_>) -> Result<Held> {
        let made = self.made.as_ref().ok_or(Error::Gone { pid: self.pid })?;
        clone::make(&made.template, &made.state, spec, Instant::now() + PATIENCE)
    }

    /// Processes that stand still in the source's pid namespace and cgroup, as the caller sees them: what is
    /// kept of its memory. The first is the last fork's. A source that ends waits until they have been
    /// let go, so whoever sees one of them end drops the family.
    pub fn kept(&self) -> impl Iterator<Item = i32> {
        self.made.iter().chain(&self.last).map(|generation| generation.snapshot.puppet.pid)
    }

    /// Ends the template and the snapshot before the last fork's, which nobody needs any more: when there
    /// is time. The next fork does it first.
    pub fn tidy(&mut self) {
        self.last = None;
    }

    /// Lets go of templates and snapshots, and has the source take note of the latter, for which it
    /// stands still once more for some hundred microseconds.
    pub fn retire(mut self, pause_at_most: Duration) -> Result<()> {
        (self.made, self.last) = (None, None);
        let mut source = Source::stop(self.pid, Instant::now() + pause_at_most)?;
        let buried = snapshot::bury(&mut source);
        source.release().and(buried)
    }
}
