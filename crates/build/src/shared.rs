//! What the stages of one build share, and the order in which they are built.
//!
//! A few threads take the stages in the order of the Dockerfile. A stage that needs another waits
//! for it; it can only need earlier ones, which somebody has taken before, so nobody waits in a
//! circle. A stage that nobody planned (a trigger of a base image may name one) is built by whoever
//! needs it.

use std::sync::{Condvar, Mutex, PoisonError};

use seacow_spec::{ErrorReport, Timestamp};

use crate::args::BuildArgs;
use crate::build::Run;
use crate::cancel::Cancel;
use crate::context::Context;
use crate::error::BuildError;
use crate::executor::{Executor, Image, Pull};
use crate::lint::Lint;
use crate::options::{BuildOptions, NamedContext};
use crate::output::{Lane, Output, Printer};
use crate::plan::Plan;

/// Stages that are built at a time.
const PARALLEL: usize = 8;

/// One build.
pub(crate) struct Shared<'a> {
    pub options: &'a BuildOptions,
    pub context: Option<&'a Context>,
    pub executor: &'a dyn Executor,
    /// Fires when the client cancels, and when a stage fails.
    pub cancel: Cancel,
    pub printer: &'a Printer,
    pub plan: &'a Plan,
    /// `ARG`s above the first stage.
    pub args: BuildArgs,
    pub lint: Lint,
    /// When everything is said to have been made.
    pub epoch: Option<Timestamp>,
    cells: Vec<Cell>,
    failed: Mutex<Option<Failure>>,
}

/// Why the build failed, and where.
pub(crate) struct Failure {
    pub error: BuildError,
    /// Lines of the instruction.
    pub lines: Option<(usize, usize)>,
    /// The end of what its command wrote.
    pub output: String,
}

#[derive(Default)]
struct Cell {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
enum State {
    #[default]
    Waiting,
    Building,
    /// With its image, if it made one, and the arguments that it used.
    Done(Option<Image>, BuildArgs),
    Failed,
}

/// Tells whoever waits for a stage that it has ended, also when its thread panicked.
struct Unfinished<'a> {
    cell: &'a Cell,
    cancel: &'a Cancel,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let mut state = self.cell.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Building) {
            *state = State::Failed;
            self.cancel.cancel();
        }
        self.cell.changed.notify_all();
    }
}

impl<'a> Shared<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        options: &'a BuildOptions,
        context: Option<&'a Context>,
        executor: &'a dyn Executor,
        printer: &'a Printer,
        lint: Lint,
        cancel: &Cancel,
    ) -> Result<Self, BuildError> {
        let own = Cancel::new();
        let follower = own.clone();
        cancel.on_cancel(move || follower.cancel());
        Ok(Self {
            options,
            context,
            executor,
            cancel: own,
            printer,
            plan,
            args: BuildArgs::new(options.build_args.clone()),
            lint,
            cells: plan.stages.iter().map(|_| Cell::default()).collect(),
            failed: Mutex::default(),
            epoch: options.epoch()?,
        })
    }

    /// Builds all stages of the plan.
    pub(crate) fn build_all(&'a self) {
        let wanted = &self.plan.needed;
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            loop {
                let position = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(stage) = wanted.get(position) else { return };
                let mut output = Output::new(self.printer, Lane::Stage(position));
                // What went wrong is noted there.
                let _ = self.stage(*stage, &mut output);
                self.printer.done(position);
            }
        };
        if wanted.len() < 2 {
            return work();
        }
        std::thread::scope(|scope| {
            for number in 0..wanted.len().min(PARALLEL) {
                let name = format!("seacow-stage-{number}");
                if std::thread::Builder::new().name(name).spawn_scoped(scope, work).is_err() {
                    // One thread is enough, and this is one.
                    work();
                }
            }
        });
    }

    /// A stage's image: waits for it, or builds it. Says what it does to `output`.
    pub(crate) fn stage(
        &'a self,
        index: usize,
        output: &mut Output<'a>,
    ) -> Result<Option<Image>, BuildError> {
        let Some(cell) = self.cells.get(index) else { return Ok(None) };
        {
            let mut state = cell.state.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                match &*state {
                    State::Waiting => break,
                    State::Building => {
                        state = cell.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                    State::Done(image, _) => return Ok(image.clone()),
                    State::Failed => return Err(BuildError::Cancelled),
                }
            }
            *state = State::Building;
        }
        let unfinished = Unfinished { cell, cancel: &self.cancel };
        let built = Run::of(self, output).stage(index);
        let (new, answer) = match built {
            Ok(done) => (State::Done(done.image.clone(), done.args), Ok(done.image)),
            Err(failure) => {
                self.fail(failure);
                (State::Failed, Err(BuildError::Cancelled))
            }
        };
        *cell.state.lock().unwrap_or_else(PoisonError::into_inner) = new;
        drop(unfinished);
        answer
    }

    /// Notes a failure and stops everybody else. The first that is one counts.
    pub(crate) fn fail(&self, failure: Failure) {
        {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            let before = failed.as_ref().map(|failure| matches!(failure.error, BuildError::Cancelled));
            if before.unwrap_or(true) {
                *failed = Some(failure);
            }
        }
        self.cancel.cancel();
    }

    /// The failure, if there was one.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The image of a stage that is done.
    pub(crate) fn finished(&self, index: usize) -> Option<Image> {
        let state = self.cells.get(index)?.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Done(image, _) => image.clone(),
            State::Waiting | State::Building | State::Failed => None,
        }
    }

    /// Arguments that were given and that no stage asked for.
    pub(crate) fn unused_args(&self) -> Vec<String> {
        let mut all = self.args.clone();
        for cell in &self.cells {
            if let State::Done(_, args) = &*cell.state.lock().unwrap_or_else(PoisonError::into_inner) {
                all.merge_references(args);
            }
        }
        all.unused()
    }

    /// A context that was given under this name.
    pub(crate) fn named(&self, name: &str) -> Option<&'a NamedContext> {
        let options: &'a BuildOptions = self.options;
        options.contexts.get(name)
    }

    /// An image from the engine.
    pub(crate) fn resolve(&self, name: &str, output: &mut Output<'_>) -> Result<Image, ErrorReport> {
        let pull = if self.options.pull { Pull::Always } else { Pull::Missing };
        self.executor.resolve(name, pull, output)
    }
}
