//! `RUN`.

use seacow_spec::docker::container::{ContainerConfig, HealthConfig};

use super::{OpenStep, commit, metadata, probe};
use crate::build::Run;
use crate::dockerfile::CommandLine;
use crate::error::BuildError;
use crate::executor::RunStep;
use crate::stage::StageState;

/// Runs a command and makes a layer of what it changed.
pub(super) fn run(run: &mut Run<'_>, state: &mut StageState, line: &CommandLine) -> Result<(), BuildError> {
    let command = metadata::words_of(&state.config, line);
    let args = state.args.beside(state.config.env.as_deref().unwrap_or_default());
    let recorded = ContainerConfig {
        cmd: Some(with_args(state, &args, &command)),
        entrypoint: None,
        ..state.config.clone()
    };
    if probe(run, state, &recorded)? {
        return Ok(());
    }
    let container = run.executor.container(&run_step(run, state, &args, &command))?;
    // From here on the step's end removes it, or leaves it, as the options say.
    run.open_steps.push(OpenStep::Container(container));
    let Some(OpenStep::Container(container)) = run.open_steps.last_mut() else { return Ok(()) };
    for warning in container.warnings() {
        run.output.say(format!(" ---> [Warning] {warning}\n"))?;
    }
    run.output.running_in(container.id())?;
    let ended = container.run(&mut run.output, run.cancel);
    let code = ended.map_err(|error| run.stopped_or(error))?;
    run.output.end_of_command()?;
    run.check_cancelled()?;
    if code != 0 {
        return Err(BuildError::Command { command: command.join(" "), code });
    }
    let Some(OpenStep::Container(container)) = run.open_steps.last_mut() else { return Ok(()) };
    let committed = container.commit();
    let change = committed.map_err(|error| run.stopped_or(error))?;
    commit(run, state, &recorded, &change)
}

/// `|2 A=1 B=2 /bin/sh -c …`: the arguments belong to the cache's key. No command of a Dockerfile
/// can begin with a bar and a number of arguments.
fn with_args(state: &StageState, args: &[(String, String)], command: &[String]) -> Vec<String> {
    if args.is_empty() {
        return command.to_vec();
    }
    let recorded = args.iter().filter(|(name, _)| state.args.is_recorded(name));
    let mut recorded: Vec<String> = recorded.map(|(name, value)| format!("{name}={value}")).collect();
    recorded.sort();
    let mut words = vec![format!("|{}", recorded.len())];
    words.append(&mut recorded);
    words.extend_from_slice(command);
    words
}

fn run_step(run: &Run<'_>, state: &StageState, args: &[(String, String)], command: &[String]) -> RunStep {
    let mut config = state.config.clone();
    config.cmd = Some(command.to_vec());
    config.env.get_or_insert_default().extend(args.iter().map(|(name, value)| format!("{name}={value}")));
    config.entrypoint = Some(vec![String::new()]);
    config.healthcheck = Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() });
    RunStep { image: state.id().cloned(), config, host_config: run.options.host_config.clone() }
}
