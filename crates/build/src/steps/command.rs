//! `RUN`.

use seacow_spec::docker::container::{ContainerConfig, HealthConfig};

use super::mounts::{self, Mounts};
use super::{OpenStep, Site, commit, metadata, probe};
use crate::build::Run;
use crate::dockerfile::{CommandLine, RunArgs, RunNetwork, heredoc};
use crate::error::BuildError;
use crate::executor::{RunMount, RunMountKind, RunStep, Secret};
use crate::expand::Variables;
use crate::stage::StageState;

/// Where the text of a here-document that is a program of its own is put.
const SCRIPTS: &str = "/dev/pipes";

/// Runs a command and makes a layer of what it changed.
pub(super) fn run(
    run: &mut Run<'_, '_>,
    state: &mut StageState,
    site: &Site,
    line: &RunArgs,
    variables: &Variables,
) -> Result<(), BuildError> {
    let Command { words: command, script } = Command::of(state, line);
    let args = state.args.beside(state.config.env.as_deref().unwrap_or_default());
    let mut mounts = mounts::resolve(run, state, site, line, variables)?;
    mounts.mounts.extend(script);
    let recorded = ContainerConfig {
        cmd: Some(recorded(state, &args, line, &mounts, &command)),
        entrypoint: None,
        ..state.config.clone()
    };
    if probe(run, state, &recorded)? {
        return Ok(());
    }
    mounts.check(run)?;
    let step = run_step(run, state, &args, &command, line.network, mounts)?;
    let container = run.shared.executor.container(&step)?;
    // From here on the step's end removes it, or leaves it, as the options say.
    run.open_steps.push(OpenStep::Container(container));
    let Some(OpenStep::Container(container)) = run.open_steps.last_mut() else { return Ok(()) };
    for warning in container.warnings() {
        run.output.say(format!(" ---> [Warning] {warning}\n"))?;
    }
    run.output.running_in(container.id())?;
    let ended = container.run(run.output, &run.shared.cancel);
    let code = ended.map_err(|error| run.stopped_or(error))?;
    run.output.end_of_command()?;
    run.check_cancelled()?;
    if code != 0 {
        return Err(BuildError::Command { command: command.join(" "), code });
    }
    let Some(OpenStep::Container(container)) = run.open_steps.last_mut() else { return Ok(()) };
    let committed = container.commit(state.epoch);
    let change = committed.map_err(|error| run.stopped_or(error))?;
    commit(run, state, &recorded, &change)
}

/// What is executed.
struct Command {
    words: Vec<String>,
    /// The program that the words name, when it stands in the Dockerfile.
    script: Option<RunMount>,
}

impl Command {
    /// A here-document alone is the shell's text, or a program of its own when it begins with `#!`. With
    /// other words around them, here-documents are the shell's to read.
    fn of(state: &StageState, line: &RunArgs) -> Self {
        let (CommandLine::Shell(text), Some(first)) = (&line.command, line.heredocs.first()) else {
            return Self { words: metadata::words_of(&state.config, &line.command), script: None };
        };
        let alone = line.heredocs.len() == 1 && heredoc::is_alone(text);
        if alone && first.data.starts_with("#!") {
            let target = format!("{SCRIPTS}/{}", first.name);
            let kind = RunMountKind::File { data: Secret(first.text().into_bytes()), owner: (0o755, 0, 0) };
            let script = Some(RunMount { target: target.clone(), kind });
            let words = metadata::words_of(&state.config, &CommandLine::Shell(target));
            return Self { words, script };
        }
        let mut full = String::new();
        if alone {
            full = first.text();
        } else {
            full.push_str(text);
            for document in &line.heredocs {
                full.extend(["\n", &document.data, &document.name]);
            }
        }
        Self { words: metadata::words_of(&state.config, &CommandLine::Shell(full)), script: None }
    }
}

/// The command as the history and the cache have it.
///
/// `|2 A=1 B=2 /bin/sh -c …`: the arguments belong to the cache's key. No command of a Dockerfile
/// can begin with a bar and a number of arguments. Mounts and the network stand there as well, and
/// the text of a program that is in the Dockerfile.
fn recorded(
    state: &StageState,
    args: &[(String, String)],
    line: &RunArgs,
    mounts: &Mounts,
    command: &[String],
) -> Vec<String> {
    let used = args.iter().filter(|(name, _)| state.args.is_recorded(name));
    let mut recorded: Vec<String> = used.map(|(name, value)| format!("{name}={value}")).collect();
    recorded.sort();
    recorded.extend(mounts.keys.iter().cloned());
    match line.network {
        RunNetwork::Default => {}
        RunNetwork::None => recorded.push("--network=none".into()),
        RunNetwork::Host => recorded.push("--network=host".into()),
    }
    for mount in &mounts.mounts {
        if let (RunMountKind::File { data, .. }, true) = (&mount.kind, mount.target.starts_with(SCRIPTS)) {
            recorded.push(String::from_utf8_lossy(&data.0).into_owned());
        }
    }
    if args.is_empty() && recorded.is_empty() {
        return command.to_vec();
    }
    let mut words = vec![format!("|{}", recorded.len())];
    words.append(&mut recorded);
    words.extend_from_slice(command);
    words
}

fn run_step(
    run: &Run<'_, '_>,
    state: &StageState,
    args: &[(String, String)],
    command: &[String],
    network: RunNetwork,
    mounts: Mounts,
) -> Result<RunStep, BuildError> {
    let mut config = state.config.clone();
    config.cmd = Some(command.to_vec());
    let env = config.env.get_or_insert_default();
    env.extend(args.iter().map(|(name, value)| format!("{name}={value}")));
    env.extend(mounts.env);
    config.entrypoint = Some(vec![String::new()]);
    config.healthcheck = Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() });
    let mut host_config = run.shared.options.host_config.clone();
    match network {
        RunNetwork::Default => {}
        RunNetwork::None => host_config.network_mode = "none".into(),
        RunNetwork::Host if host_config.network_mode == "host" => {}
        RunNetwork::Host => return Err(BuildError::HostNetwork),
    }
    Ok(RunStep {
        image: state.id().cloned(),
        config,
        host_config,
        mounts: mounts.mounts,
        secret_env: mounts.secret_env,
    })
}
