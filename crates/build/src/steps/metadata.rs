//! Instructions that change the config only. `docker commit --change` and `import --change` use
//! the same functions.

use std::collections::BTreeMap;

use seacow_spec::docker::container::{ContainerConfig, Empty};

use crate::config::{self, set_env};
use crate::dockerfile::{CommandLine, Instruction};
use crate::error::BuildError;
use crate::expand::{self, Expansion, Variables};
use crate::lint::Lint;
use crate::{gofmt, gopath, ports};

/// How a step's words are expanded.
pub(crate) struct Words<'a> {
    pub line: usize,
    pub escape: char,
    pub variables: &'a Variables,
    /// Who wants to know of variables that nobody has set.
    pub lint: Option<&'a Lint>,
}

impl Words<'_> {
    fn expand(&self, word: &str) -> Result<Expansion, BuildError> {
        let expanded = expand::expand(word, self.escape, self.variables)
            .map_err(|source| BuildError::Expand { line: self.line, source })?;
        if let Some(lint) = self.lint {
            lint.undefined(self.line, &expanded.unset, self.variables);
        }
        Ok(expanded)
    }

    fn one(&self, word: &str) -> Result<String, BuildError> {
        self.expand(word).map(|expanded| expanded.text)
    }

    fn each(&self, words: &[String]) -> Result<Vec<String>, BuildError> {
        words.iter().map(|word| self.one(word)).collect()
    }

    fn pairs(&self, pairs: &[(String, String)]) -> Result<Vec<(String, String)>, BuildError> {
        pairs.iter().map(|(name, value)| Ok((self.one(name)?, self.one(value)?))).collect()
    }
}

/// Changes the config; returns the instruction as the history has it.
pub(crate) fn apply(
    config: &mut ContainerConfig,
    cmd_set: &mut bool,
    instruction: &Instruction,
    words: &Words<'_>,
) -> Result<String, BuildError> {
    Ok(match instruction {
        Instruction::Env(pairs) => env(config, &words.pairs(pairs)?),
        Instruction::Label { pairs, literal } => {
            let expanded;
            let pairs = if *literal {
                pairs
            } else {
                expanded = words.pairs(pairs)?;
                &expanded
            };
            label(config, pairs)
        }
        Instruction::Cmd(line) => cmd(config, cmd_set, line),
        Instruction::Entrypoint(line) => entrypoint(config, *cmd_set, line),
        Instruction::Healthcheck(health) => {
            config.healthcheck = Some(health.clone());
            format!("HEALTHCHECK {}", config::quote_health(health))
        }
        Instruction::Expose(specs) => expose(config, specs, words)?,
        Instruction::User(user) => {
            config.user = words.one(user)?;
            format!("USER {}", config.user)
        }
        Instruction::Volume(paths) => volume(config, &words.each(paths)?)?,
        Instruction::StopSignal(signal) => {
            let signal = words.one(signal)?;
            seacow_spec::signal::parse(&signal)?;
            let comment = format!("STOPSIGNAL {signal}");
            config.stop_signal = Some(signal);
            comment
        }
        Instruction::Shell(shell) => {
            config.shell = Some(shell.clone());
            format!("SHELL {}", gofmt::list(shell))
        }
        Instruction::Onbuild(trigger) => {
            config.on_build.get_or_insert_default().push(trigger.clone());
            format!("ONBUILD {trigger}")
        }
        Instruction::Workdir(path) => workdir(config, &words.one(path)?),
        Instruction::Maintainer(_)
        | Instruction::Add(_)
        | Instruction::Copy(_)
        | Instruction::Run(_)
        | Instruction::Arg(_) => return Err(BuildError::NotAChange(instruction.name().to_lowercase())),
    })
}

/// Changes the working directory: an absolute path replaces it, a relative one goes on from it.
pub(crate) fn workdir(config: &mut ContainerConfig, path: &str) -> String {
    config.working_dir =
        if path.starts_with('/') { path.to_owned() } else { gopath::join(&["/", &config.working_dir, path]) };
    format!("WORKDIR {}", config.working_dir)
}

fn env(config: &mut ContainerConfig, pairs: &[(String, String)]) -> String {
    for (name, value) in pairs {
        set_env(config, name, value);
    }
    with_pairs("ENV", pairs)
}

fn label(config: &mut ContainerConfig, pairs: &[(String, String)]) -> String {
    config.labels.get_or_insert_default().extend(pairs.iter().cloned());
    with_pairs("LABEL", pairs)
}

fn with_pairs(instruction: &str, pairs: &[(String, String)]) -> String {
    let mut text = instruction.to_owned();
    for (name, value) in pairs {
        text.extend([" ", name, "=", value]);
    }
    text
}

/// The words of a command; a shell form goes behind the shell's own.
pub(crate) fn words_of(config: &ContainerConfig, line: &CommandLine) -> Vec<String> {
    match line {
        CommandLine::Exec(words) => words.clone(),
        CommandLine::Shell(text) => {
            let mut words = config::shell(config);
            words.extend((!text.is_empty()).then(|| text.clone()));
            words
        }
    }
}

fn is_empty(line: &CommandLine) -> bool {
    match line {
        CommandLine::Exec(words) => words.is_empty(),
        CommandLine::Shell(text) => text.is_empty(),
    }
}

fn cmd(config: &mut ContainerConfig, cmd_set: &mut bool, line: &CommandLine) -> String {
    let words = words_of(config, line);
    let comment = format!("CMD {}", gofmt::quote_list(&words));
    config.cmd = Some(words);
    config.args_escaped = None;
    *cmd_set |= !is_empty(line);
    comment
}

/// An entrypoint makes a `CMD` of the base image meaningless; one of this stage it leaves.
fn entrypoint(config: &mut ContainerConfig, cmd_set: bool, line: &CommandLine) -> String {
    let words = (!is_empty(line)).then(|| words_of(config, line));
    let comment = format!("ENTRYPOINT {}", gofmt::quote_list(words.as_deref().unwrap_or_default()));
    config.entrypoint = words;
    config.args_escaped = None;
    if !cmd_set {
        config.cmd = None;
    }
    comment
}

/// The only instruction whose words may become several: `EXPOSE $PORTS`.
fn expose(config: &mut ContainerConfig, specs: &[String], words: &Words<'_>) -> Result<String, BuildError> {
    let mut expanded = Vec::new();
    for spec in specs {
        expanded.extend(words.expand(spec)?.words);
    }
    let exposed = config.exposed_ports.get_or_insert_default();
    for spec in &expanded {
        exposed.extend(ports::exposed(spec)?.into_iter().map(|port| (port, Empty {})));
    }
    Ok(format!("EXPOSE {}", expanded.join(" ")))
}

fn volume(config: &mut ContainerConfig, paths: &[String]) -> Result<String, BuildError> {
    if paths.iter().any(String::is_empty) {
        return Err(BuildError::EmptyVolume);
    }
    let volumes: &mut BTreeMap<String, Empty> = config.volumes.get_or_insert_default();
    volumes.extend(paths.iter().map(|path| (path.clone(), Empty {})));
    Ok(format!("VOLUME {}", gofmt::list(paths)))
}
