//! One build from its first message to its last.

use seacow_spec::{Digest, ErrorReport};

use crate::args::BuildArgs;
use crate::cancel::Cancel;
use crate::context::Context;
use crate::dockerfile::{Dockerfile, Instruction, Stage, Step};
use crate::error::BuildError;
use crate::executor::{Executor, Image, Pull};
use crate::expand::{self, Variables};
use crate::gofmt;
use crate::options::BuildOptions;
use crate::output::{Output, Sink};
use crate::plan::Plan;
use crate::platform;
use crate::stage::StageState;
use crate::steps;

/// The name that stands for no base image.
const SCRATCH: &str = "scratch";

/// Builds an image, names it, and says so.
///
/// Blocks until the build has ended. On an error the caller sends [`BuildError::message`] as the
/// stream's last message, or answers with the error's class where nothing has been sent yet.
///
/// # Errors
/// Whatever stopped the build; [`BuildError::Cancelled`] when `cancel` fired or the sink's client
/// is gone.
pub fn build(
    options: &BuildOptions,
    context: &Context,
    executor: &dyn Executor,
    sink: &mut dyn Sink,
    cancel: &Cancel,
) -> Result<Digest, BuildError> {
    let file = context.dockerfile(&options.dockerfile)?;
    build_dockerfile(file, options, Some(context), executor, sink, cancel)
}

/// As [`build`], with a Dockerfile that does not come from the context, or without a context.
///
/// # Errors
/// As [`build`].
pub fn build_dockerfile(
    file: Dockerfile,
    options: &BuildOptions,
    context: Option<&Context>,
    executor: &dyn Executor,
    sink: &mut dyn Sink,
    cancel: &Cancel,
) -> Result<Digest, BuildError> {
    let plan = Plan::new(file, options.target.as_deref(), &options.labels)?;
    let output = Output::new(sink, options.quiet);
    let mut run = Run {
        options,
        context,
        executor,
        cancel,
        output,
        escape: plan.escape,
        stages: Vec::new(),
        open_steps: Vec::new(),
    };
    let built = run.all(&plan);
    if built.is_err() {
        // Why it failed matters more than a client that is gone.
        _ = run.output.reveal();
    }
    built
}

/// A build that is going on.
pub(crate) struct Run<'a> {
    pub options: &'a BuildOptions,
    pub context: Option<&'a Context>,
    pub executor: &'a dyn Executor,
    pub cancel: &'a Cancel,
    pub output: Output<'a>,
    /// The Dockerfile's escape character.
    pub escape: char,
    /// Images of the stages that are done; `None` where one made none.
    pub stages: Vec<Option<Image>>,
    /// What was announced with `Running in` and not yet removed.
    pub open_steps: Vec<steps::OpenStep<'a>>,
}

impl Run<'_> {
    fn all(&mut self, plan: &Plan) -> Result<Digest, BuildError> {
        self.warnings(&plan.warnings)?;
        let total = plan.step_count();
        let mut number = 0;
        let mut args = BuildArgs::new(self.options.build_args.clone());
        for step in &plan.meta_args {
            number += 1;
            self.output.step(number, total, &step.code)?;
            self.meta_arg(step, &mut args)?;
        }
        for (index, stage) in plan.stages.iter().enumerate() {
            number += 1;
            self.output.step(number, total, &stage.code)?;
            let mut state = self.begin(plan, index, stage, &args)?;
            self.output.image(state.id())?;
            for step in &stage.steps {
                self.check_cancelled()?;
                number += 1;
                self.output.step(number, total, &step.code)?;
                steps::dispatch(self, &mut state, plan, index, step)?;
                self.output.image(state.id())?;
            }
            if let (true, Some(id)) = (self.options.aux, state.id()) {
                self.output.aux(id)?;
            }
            args.merge_references(&state.args);
            self.stages.push(state.image);
        }
        let unused = args.unused();
        if !unused.is_empty() {
            let list = gofmt::list(&unused);
            self.output.say(format!("[Warning] One or more build-args {list} were not consumed\n"))?;
        }
        self.finish()
    }

    fn finish(&mut self) -> Result<Digest, BuildError> {
        let built = self.stages.last().cloned().flatten().ok_or(BuildError::NoImage)?;
        self.output.say(format!("Successfully built {}\n", built.id.short()))?;
        for name in &self.options.tags {
            self.executor.tag(&built.id, name)?;
            self.output.say(format!("Successfully tagged {}\n", name.familiar()))?;
        }
        self.output.quiet_result(&built.id)?;
        Ok(built.id)
    }

    fn warnings(&mut self, warnings: &[String]) -> Result<(), BuildError> {
        if warnings.is_empty() {
            return Ok(());
        }
        let mut text: String = warnings.iter().map(|warning| format!("[WARNING]: {warning}\n")).collect();
        text.push_str("[WARNING]: Empty continuation lines will become errors in a future release.\n");
        Ok(self.output.warn(&text)?)
    }

    /// An `ARG` above the first `FROM`.
    fn meta_arg(&mut self, step: &Step, args: &mut BuildArgs) -> Result<(), BuildError> {
        let Instruction::Arg(pairs) = &step.instruction else { return Ok(()) };
        let variables = args.in_stage();
        for (name, default) in pairs {
            let name = self.expand(step.line, name, &variables)?;
            let default = default.as_deref().map(|d| self.expand(step.line, d, &variables)).transpose()?;
            args.declare_meta(&name, default.as_deref());
        }
        Ok(())
    }

    /// Carries out a `FROM`, with the triggers of its image.
    fn begin(
        &mut self,
        plan: &Plan,
        index: usize,
        stage: &Stage,
        args: &BuildArgs,
    ) -> Result<StageState, BuildError> {
        let variables = args.meta();
        if let Some(wanted) = &stage.platform {
            let wanted = self.expand(stage.line, wanted, &variables)?;
            if wanted.is_empty() {
                return Err(platform::PlatformError::Malformed("\"\"".into()).into());
            }
            platform::check(&wanted)?;
        }
        let name = self.expand(stage.line, &stage.base, &variables)?;
        if name.is_empty() {
            return Err(BuildError::BlankBase(stage.base.clone()));
        }
        let base = self.base(plan, index, &name)?;
        let mut state = StageState::begin(base, args.for_stage());
        let triggers = state.config.on_build.take().unwrap_or_default();
        if !triggers.is_empty() {
            steps::triggers(self, &mut state, plan, index, &triggers)?;
        }
        Ok(state)
    }

    /// The image of a `FROM`: an earlier stage by name, nothing, or an image.
    fn base(&mut self, plan: &Plan, index: usize, name: &str) -> Result<Option<Image>, BuildError> {
        let lower = name.to_lowercase();
        let earlier = plan.stages[..index].iter().position(|stage| stage.name.as_ref() == Some(&lower));
        match earlier.and_then(|earlier| self.stages.get(earlier)) {
            Some(image) => Ok(image.clone()),
            None if name == SCRATCH => Ok(None),
            None => self.resolve(name).map(Some).map_err(BuildError::Engine),
        }
    }

    /// An image from the engine.
    pub(crate) fn resolve(&mut self, name: &str) -> Result<Image, ErrorReport> {
        let pull = if self.options.pull { Pull::Always } else { Pull::Missing };
        self.executor.resolve(name, pull, &mut self.output)
    }

    pub(crate) fn expand(
        &self,
        line: usize,
        word: &str,
        variables: &Variables,
    ) -> Result<String, BuildError> {
        expand::word(word, self.escape, variables).map_err(|source| BuildError::Expand { line, source })
    }

    /// What an engine's refusal means: it may only say that the build was stopped meanwhile.
    pub(crate) fn stopped_or(&self, error: ErrorReport) -> BuildError {
        let stopped = self.cancel.is_cancelled() || self.output.is_disconnected();
        if stopped { BuildError::Cancelled } else { BuildError::Engine(error) }
    }

    pub(crate) fn check_cancelled(&mut self) -> Result<(), BuildError> {
        if !self.cancel.is_cancelled() {
            return Ok(());
        }
        // The client may still be there: POST /build/cancel.
        _ = self.output.say("Build cancelled\n");
        Err(BuildError::Cancelled)
    }
}
