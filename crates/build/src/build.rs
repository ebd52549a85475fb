//! One build from its first message to its last.

use seacow_spec::docker::build::BuildEvent;
use seacow_spec::{Digest, ErrorReport};

use crate::args::BuildArgs;
use crate::cancel::Cancel;
use crate::context::Context;
use crate::dockerfile::{Dockerfile, Instruction, Stage, Step};
use crate::error::BuildError;
use crate::executor::{Executor, Image};
use crate::expand::{self, Variables};
use crate::lint::Lint;
use crate::options::{BuildOptions, NamedContext};
use crate::output::{Heading, Lane, Output, Printer, Sink};
use crate::plan::Plan;
use crate::platform;
use crate::shared::{Failure, Shared};
use crate::stage::StageState;
use crate::steps;
use crate::{excerpt, gofmt};

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
    sink: Box<dyn Sink>,
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
    sink: Box<dyn Sink>,
    cancel: &Cancel,
) -> Result<Digest, BuildError> {
    let lint = Lint::of(&file)?;
    let plan = Plan::new(file, options)?;
    let printer = Printer::new(sink, options.quiet, options.events, plan.needed.len());
    let mut shared = Shared::new(&plan, options, context, executor, &printer, lint, cancel)?;
    let built = shared.run();
    if built.is_err() {
        // Why it failed matters more than a client that is gone.
        _ = printer.reveal();
    }
    built
}

impl Shared<'_> {
    fn run(&mut self) -> Result<Digest, BuildError> {
        let mut output = Output::new(self.printer, Lane::Always);
        if let Err((error, step)) = self.meta_args(&mut output) {
            let failure = Failure { error, lines: step, output: String::new() };
            return Err(self.explain(failure, &mut output));
        }
        self.build_all();
        let ended = match self.failure() {
            Some(failure) => Err(self.explain(failure, &mut output)),
            None => self.finish(&mut output),
        };
        if self.cancel.is_cancelled() && matches!(ended, Err(BuildError::Cancelled)) {
            // The client may still be there: POST /build/cancel.
            _ = output.say("Build cancelled\n");
        }
        ended
    }

    /// The `ARG`s above the first `FROM`, which are steps to Docker.
    fn meta_args(&mut self, output: &mut Output<'_>) -> Result<(), (BuildError, Option<(usize, usize)>)> {
        let (plan, total) = (self.plan, self.plan.step_count());
        let mut args = self.args.clone();
        for (index, step) in plan.meta_args.iter().enumerate() {
            let place = Some((step.line, step.last_line));
            let heading = Heading {
                number: index + 1,
                of: total,
                stage: "",
                position: index + 1,
                of_stage: plan.meta_args.len(),
                code: &step.code,
            };
            output.step(&heading).map_err(|gone| (gone.into(), None))?;
            self.meta_arg(step, &mut args).map_err(|error| (error, place))?;
            output.end_step().map_err(|gone| (gone.into(), None))?;
        }
        self.args = args;
        Ok(())
    }

    /// An `ARG` above the first `FROM`.
    fn meta_arg(&self, step: &Step, args: &mut BuildArgs) -> Result<(), BuildError> {
        let Instruction::Arg(pairs) = &step.instruction else { return Ok(()) };
        let expand = |word: &str, variables: &Variables| {
            expand::word(word, self.plan.escape, variables)
                .map_err(|source| BuildError::Expand { line: step.line, source })
        };
        for (name, default) in pairs {
            let variables = args.meta();
            let name = expand(name, &variables)?;
            let default = default.as_deref().map(|d| expand(d, &variables)).transpose()?;
            args.declare_meta(&name, default.as_deref());
        }
        Ok(())
    }

    fn finish(&self, output: &mut Output<'_>) -> Result<Digest, BuildError> {
        let unused = self.unused_args();
        if !unused.is_empty() {
            let list = gofmt::list(&unused);
            output.say(format!("[Warning] One or more build-args {list} were not consumed\n"))?;
        }
        let warnings = self.lint.warnings();
        for warning in &warnings {
            self.warning(warning, output)?;
        }
        if self.lint.is_fatal() && !warnings.is_empty() {
            return Err(BuildError::Checks(warnings.len()));
        }
        let target = self.plan.target;
        let built = self.finished(target).ok_or(BuildError::NoImage)?;
        output.say_to_docker(format!("Successfully built {}\n", built.id.short()))?;
        let mut names = Vec::new();
        for name in &self.options.tags {
            self.executor.tag(&built.id, name)?;
            output.say_to_docker(format!("Successfully tagged {}\n", name.familiar()))?;
            names.push(name.familiar());
        }
        output.event(BuildEvent::Built { id: built.id.to_string(), names })?;
        self.printer.quiet_result(&built.id)?;
        Ok(built.id)
    }

    fn warning(&self, warning: &crate::lint::Warning, output: &mut Output<'_>) -> Result<(), BuildError> {
        let excerpt =
            excerpt::excerpt(&self.options.dockerfile, &self.plan.source, warning.line..=warning.last_line);
        output.say_to_docker(format!("[WARNING]: {} (line {})\n", warning, warning.line))?;
        output.event(BuildEvent::Warning {
            rule: warning.rule.to_owned(),
            text: warning.text.clone(),
            excerpt,
            line: warning.line,
        })?;
        Ok(())
    }

    /// Shows the lines that failed; gives the error.
    fn explain(&self, failure: Failure, output: &mut Output<'_>) -> BuildError {
        let Failure { error, lines, output: tail } = failure;
        let Some((first, last)) = lines.filter(|_| !matches!(error, BuildError::Cancelled)) else {
            return error;
        };
        let excerpt = excerpt::excerpt(&self.options.dockerfile, &self.plan.source, first..=last);
        // The error itself comes in any case.
        _ = output.say_to_docker(excerpt.clone());
        _ = output.event(BuildEvent::Failed { excerpt, output: tail });
        error
    }
}

/// A stage that is being built, by one thread.
pub(crate) struct Run<'a, 'o> {
    pub shared: &'a Shared<'a>,
    pub output: &'o mut Output<'a>,
    /// What was announced with `Running in` and not yet removed.
    pub open_steps: Vec<steps::OpenStep<'a>>,
}

/// A stage that is done.
pub(crate) struct Done {
    pub image: Option<Image>,
    pub args: BuildArgs,
}

impl<'a, 'o> Run<'a, 'o> {
    pub(crate) fn of(shared: &'a Shared<'a>, output: &'o mut Output<'a>) -> Self {
        Self { shared, output, open_steps: Vec::new() }
    }

    /// Builds a stage.
    pub(crate) fn stage(mut self, index: usize) -> Result<Done, Failure> {
        let plan = self.shared.plan;
        let Some(stage) = plan.stages.get(index) else {
            return Err(Failure { error: BuildError::NoImage, lines: None, output: String::new() });
        };
        let mut lines = (stage.line, stage.last_line);
        let built = self.steps(index, stage, &mut lines);
        built.map_err(|error| {
            // Nobody may be listening.
            _ = self.output.broken();
            let stopped = self.shared.cancel.is_cancelled() && matches!(error, BuildError::Cancelled);
            let lines = (!stopped).then_some(lines);
            let output = match error {
                BuildError::Command { .. } => self.output.tail().to_owned(),
                _ => String::new(),
            };
            Failure { error, lines, output }
        })
    }

    fn steps(
        &mut self,
        index: usize,
        stage: &'a Stage,
        lines: &mut (usize, usize),
    ) -> Result<Done, BuildError> {
        let plan = self.shared.plan;
        let label = stage.label(index);
        let (mut number, of) = (plan.first_number(index), plan.step_count());
        let mut position = 1;
        let of_stage = 1 + stage.steps.len();
        let heading =
            |number, position, code| Heading { number, of, stage: &label, position, of_stage, code };
        self.check_cancelled()?;
        self.output.step(&heading(number, position, &stage.code))?;
        let mut state = self.begin(index, stage)?;
        self.output.image(state.id())?;
        for step in &stage.steps {
            self.check_cancelled()?;
            number += 1;
            position += 1;
            *lines = (step.line, step.last_line);
            self.output.step(&heading(number, position, &step.code))?;
            steps::dispatch(self, &mut state, index, step)?;
            self.output.image(state.id())?;
        }
        if let (true, Some(id)) = (self.shared.options.aux, state.id()) {
            self.output.aux(id)?;
        }
        Ok(Done { image: state.image, args: state.args })
    }

    /// Carries out a `FROM`, with the triggers of its image.
    fn begin(&mut self, index: usize, stage: &'a Stage) -> Result<StageState, BuildError> {
        let variables = self.shared.args.meta();
        if let Some(wanted) = &stage.platform {
            let wanted = self.expand_from(stage.line, wanted, &variables)?;
            if wanted.is_empty() {
                return Err(platform::PlatformError::Malformed("\"\"".into()).into());
            }
            platform::check(&wanted)?;
        }
        let name = self.expand_from(stage.line, &stage.base, &variables)?;
        if name.is_empty() {
            return Err(BuildError::BlankBase(stage.base.clone()));
        }
        let base = self.base(index, &name)?;
        let args = self.shared.args.for_stage(&stage.label(index));
        let mut state = StageState::begin(base, args, self.shared.epoch);
        let triggers = state.config.on_build.take().unwrap_or_default();
        if !triggers.is_empty() {
            steps::triggers(self, &mut state, index, &triggers)?;
        }
        Ok(state)
    }

    fn expand_from(&self, line: usize, word: &str, variables: &Variables) -> Result<String, BuildError> {
        let expanded = expand::expand(word, self.shared.plan.escape, variables)
            .map_err(|source| BuildError::Expand { line, source })?;
        self.shared.lint.undefined_in_from(line, &expanded.unset, variables);
        Ok(expanded.text)
    }

    /// The image of a `FROM`: a named context, an earlier stage by name, nothing, or an image.
    fn base(&mut self, index: usize, name: &str) -> Result<Option<Image>, BuildError> {
        match self.shared.named(name) {
            Some(NamedContext::Image(reference)) => {
                let found = self.shared.resolve(reference, self.output);
                return found.map(Some).map_err(BuildError::Engine);
            }
            Some(NamedContext::Files(_)) => return Err(BuildError::FromFiles(name.to_owned())),
            None => {}
        }
        match self.shared.plan.base_stage(index, name) {
            Some(earlier) => self.stage_image(earlier),
            None if name == SCRATCH => Ok(None),
            None => self.shared.resolve(name, self.output).map(Some).map_err(BuildError::Engine),
        }
    }

    /// The image of an earlier stage.
    pub(crate) fn stage_image(&mut self, index: usize) -> Result<Option<Image>, BuildError> {
        self.shared.stage(index, self.output)
    }

    pub(crate) fn expand(
        &self,
        line: usize,
        word: &str,
        variables: &Variables,
    ) -> Result<String, BuildError> {
        let expanded = expand::expand(word, self.shared.plan.escape, variables)
            .map_err(|source| BuildError::Expand { line, source })?;
        self.shared.lint.undefined(line, &expanded.unset, variables);
        Ok(expanded.text)
    }

    /// What an engine's refusal means: it may only say that the build was stopped meanwhile.
    pub(crate) fn stopped_or(&self, error: ErrorReport) -> BuildError {
        let stopped = self.shared.cancel.is_cancelled() || self.output.is_disconnected();
        if stopped { BuildError::Cancelled } else { BuildError::Engine(error) }
    }

    pub(crate) fn check_cancelled(&self) -> Result<(), BuildError> {
        if self.shared.cancel.is_cancelled() { Err(BuildError::Cancelled) } else { Ok(()) }
    }
}
