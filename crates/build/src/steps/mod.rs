//! Carrying out a step: ask the cache, do it, make an image of it.
//!
//! | module | instructions |
//! |---|---|
//! | `metadata` | those that change the config only, also for `--change` |
//! | `command` | `RUN` |
//! | `mounts` | `RUN --mount` |
//! | `files` | `COPY`, `ADD`, `WORKDIR` |
//! | `remote` | `ADD` of URLs and git repositories |
//! | `inherited` | steps of images that `--cache-from` names |

mod command;
mod files;
mod inherited;
pub(crate) mod metadata;
mod mounts;
mod remote;

use std::sync::Arc;

use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::id;

use crate::build::Run;
use crate::config;
use crate::dockerfile::{self, Instruction, Step};
use crate::error::BuildError;
use crate::executor::{Change, Image, StepContainer};
use crate::expand::Variables;
use crate::stage::StageState;

/// What was announced with `Running in …`.
pub(crate) enum OpenStep<'a> {
    /// A container.
    Container(Box<dyn StepContainer + 'a>),
    /// A step that needs no container; Docker's clients see one all the same, so the step has an
    /// id of its own.
    Named(String),
}

/// Where a step stands.
pub(crate) struct Site {
    pub stage: usize,
    pub line: usize,
    pub instruction: &'static str,
}

/// Carries out one step of a stage.
pub(crate) fn dispatch(
    run: &mut Run<'_, '_>,
    state: &mut StageState,
    stage: usize,
    step: &Step,
) -> Result<(), BuildError> {
    let done = carry_out(run, state, stage, step);
    let stopped = matches!(done, Err(BuildError::Cancelled));
    if run.shared.options.force_remove || run.shared.options.remove && done.is_ok() || stopped {
        close_steps(run, stopped)?;
    }
    run.open_steps.clear();
    done
}

/// Carries out the `ONBUILD` triggers of a base image.
pub(crate) fn triggers(
    run: &mut Run<'_, '_>,
    state: &mut StageState,
    stage: usize,
    triggers: &[String],
) -> Result<(), BuildError> {
    run.output.say(format!("# Executing {} build trigger", triggers.len()))?;
    if triggers.len() > 1 {
        run.output.say("s")?;
    }
    run.output.say("\n")?;
    for trigger in triggers {
        run.check_cancelled()?;
        let step = dockerfile::parse_trigger(trigger)?;
        dispatch(run, state, stage, &step)?;
    }
    Ok(())
}

fn carry_out(
    run: &mut Run<'_, '_>,
    state: &mut StageState,
    stage: usize,
    step: &Step,
) -> Result<(), BuildError> {
    let variables = visible(state);
    match &step.instruction {
        Instruction::Run(args) => {
            let site = Site { stage, line: step.line, instruction: "RUN" };
            command::run(run, state, &site, args, &variables)
        }
        Instruction::Copy(args) | Instruction::Add(args) => {
            let site = Site { stage, line: step.line, instruction: step.instruction.name() };
            files::copy(run, state, &site, args, &variables)
        }
        Instruction::Workdir(path) => {
            let path = run.expand(step.line, path, &variables)?;
            files::workdir(run, state, &path)
        }
        Instruction::Arg(pairs) => {
            let mut comment = String::from("ARG");
            for (name, default) in pairs {
                let name = run.expand(step.line, name, &variables)?;
                let default = default.as_deref().map(|d| run.expand(step.line, d, &variables)).transpose()?;
                state.args.declare(&name, default.as_deref());
                comment.push(' ');
                comment.push_str(&name);
                comment.extend(default.iter().flat_map(|value| ["=", value]));
            }
            commit_comment(run, state, &comment)
        }
        Instruction::Maintainer(who) => {
            state.author.clone_from(who);
            commit_comment(run, state, &format!("MAINTAINER {who}"))
        }
        instruction => {
            note_overridden_health(run, state, instruction)?;
            let lint = Some(&run.shared.lint);
            let escape = run.shared.plan.escape;
            let words = metadata::Words { line: step.line, escape, variables: &variables, lint };
            let comment = metadata::apply(&mut state.config, &mut state.cmd_set, instruction, &words)?;
            commit_comment(run, state, &comment)
        }
    }
}

/// What a step's words can refer to: the environment, then the arguments that it does not override.
fn visible(state: &StageState) -> Variables {
    let env = state.config.env.as_deref().unwrap_or_default();
    let mut variables: Variables = state.args.beside(env).into_iter().collect();
    for entry in env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        variables.insert(name.to_owned(), value.to_owned());
    }
    variables
}

fn note_overridden_health(
    run: &mut Run<'_, '_>,
    state: &StageState,
    instruction: &Instruction,
) -> Result<(), BuildError> {
    let test =
        state.config.healthcheck.as_ref().and_then(|health| health.test.as_deref()).unwrap_or_default();
    let is_set = test.first().is_some_and(|first| first != "NONE");
    if is_set && matches!(instruction, Instruction::Healthcheck(_)) {
        let old = crate::gofmt::list(test);
        run.output.say(format!("Note: overriding previous HEALTHCHECK: {old}\n"))?;
    }
    Ok(())
}

/// A step that changes nothing but the config.
fn commit_comment(run: &mut Run<'_, '_>, state: &mut StageState, comment: &str) -> Result<(), BuildError> {
    let step_config = config::with_comment(&state.config, comment);
    if probe(run, state, &step_config)? {
        return Ok(());
    }
    announce(run)?;
    commit(run, state, &step_config, &Change::Empty)
}

/// Asks the cache for an image that the same step has made on the same parent. The newest wins.
fn probe(
    run: &mut Run<'_, '_>,
    state: &mut StageState,
    step_config: &ContainerConfig,
) -> Result<bool, BuildError> {
    if run.shared.options.no_cache || state.missed {
        return Ok(false);
    }
    // A build that is to come out the same every time takes nothing that was made at another time.
    let same_time = |image: &Image| state.epoch.is_none() || image.config.created == state.epoch;
    let same = |image: &Image| {
        same_time(image)
            && image.config.container_config.as_ref().is_some_and(|made| config::same_step(made, step_config))
    };
    let children = run.shared.executor.children(state.id())?;
    let hit = match children.into_iter().filter(same).max_by_key(|image| image.config.created) {
        Some(hit) => Some(hit),
        None => inherited::find(run, state, step_config)?,
    };
    let Some(hit) = hit else {
        state.missed = true;
        return Ok(false);
    };
    run.output.using_cache()?;
    state.advance(hit);
    Ok(true)
}

/// `Running in …` for a step without a container.
fn announce(run: &mut Run<'_, '_>) -> Result<(), BuildError> {
    let name = id::random_hex().map_err(|error| {
        BuildError::Engine(seacow_spec::ErrorReport::new(
            seacow_spec::ErrorClass::Internal,
            format!("draw a step id: {error}"),
        ))
    })?;
    run.output.running_in(&name)?;
    run.open_steps.push(OpenStep::Named(name));
    Ok(())
}

/// Makes the image of a step and goes on from it.
fn commit(
    run: &mut Run<'_, '_>,
    state: &mut StageState,
    step_config: &ContainerConfig,
    change: &Change,
) -> Result<(), BuildError> {
    let config = state.child(step_config, change);
    let id = run.shared.executor.create_image(&config, state.id())?;
    state.advance(Image { id, config: Arc::new(config) });
    Ok(())
}

/// Removes what the step has left. A container that cannot be removed does not fail the build.
fn close_steps(run: &mut Run<'_, '_>, stopped: bool) -> Result<(), BuildError> {
    for open in std::mem::take(&mut run.open_steps) {
        let said = match open {
            OpenStep::Named(name) => run.output.removed(&name),
            OpenStep::Container(container) => {
                let name = container.id().to_owned();
                match container.remove() {
                    Ok(()) => run.output.removed(&name),
                    Err(error) => run.output.say(format!(
                        "Error removing intermediate container {}: {error}\n",
                        name.get(..12).unwrap_or(&name)
                    )),
                }
            }
        };
        // Nobody may be listening to a build that was stopped; the containers go all the same.
        if !stopped {
            said?;
        }
    }
    Ok(())
}
