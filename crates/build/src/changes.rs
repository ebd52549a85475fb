//! `--change` of `docker commit` and `docker import`.

use seacow_spec::docker::container::ContainerConfig;

use crate::dockerfile::{self, Instruction, Step, SyntaxError};
use crate::error::BuildError;
use crate::expand::Variables;
use crate::steps::metadata;

/// Changes a config by instructions, each as it would stand in a Dockerfile. Allowed are `CMD`,
/// `ENTRYPOINT`, `ENV`, `EXPOSE`, `HEALTHCHECK`, `LABEL`, `ONBUILD`, `USER`, `VOLUME`, `WORKDIR`.
///
/// # Errors
/// An instruction that is malformed or not allowed.
pub fn apply_changes(config: ContainerConfig, changes: &[String]) -> Result<ContainerConfig, BuildError> {
    let parsed = dockerfile::parse_steps(changes.join("\n").as_bytes());
    let (escape, steps) = parsed.map_err(|error| match error.cause {
        SyntaxError::UnexpectedFrom => BuildError::NotAChange("from".into()),
        _ => error.into(),
    })?;
    if let Some(step) = steps.iter().find(|step| !is_change(&step.instruction)) {
        return Err(BuildError::NotAChange(step.instruction.name().to_lowercase()));
    }
    let mut config = config;
    let mut cmd_set = false;
    for Step { line, instruction, .. } in &steps {
        let variables: Variables = env_of(&config);
        let words = metadata::Words { line: *line, escape, variables: &variables, lint: None };
        metadata::apply(&mut config, &mut cmd_set, instruction, &words)?;
    }
    Ok(config)
}

fn env_of(config: &ContainerConfig) -> Variables {
    let env = config.env.as_deref().unwrap_or_default().iter();
    let pairs = env.map(|entry| entry.split_once('=').unwrap_or((entry, "")));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn is_change(instruction: &Instruction) -> bool {
    match instruction {
        Instruction::Cmd(_)
        | Instruction::Entrypoint(_)
        | Instruction::Env(_)
        | Instruction::Expose(_)
        | Instruction::Healthcheck(_)
        | Instruction::Label { .. }
        | Instruction::Onbuild(_)
        | Instruction::User(_)
        | Instruction::Volume(_)
        | Instruction::Workdir(_) => true,
        Instruction::Maintainer(_)
        | Instruction::Add(_)
        | Instruction::Copy(_)
        | Instruction::Run(_)
        | Instruction::StopSignal(_)
        | Instruction::Arg(_)
        | Instruction::Shell(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<ContainerConfig, String> {
        let base = ContainerConfig {
            env: Some(vec!["A=1".into()]),
            cmd: Some(vec!["old".into()]),
            ..ContainerConfig::default()
        };
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply_changes(base, &changes).map_err(|error| error.to_string())
    }

    #[test]
    fn changes_the_config() {
        let config = changed(&[
            "CMD [\"x\"]",
            "env B=$A",
            "ENTRYPOINT y z",
            "EXPOSE 80",
            "WORKDIR a",
            "WORKDIR b",
            "LABEL l=1",
            "VOLUME /v",
            "USER u",
            "ONBUILD RUN q",
            "HEALTHCHECK NONE",
        ])
        .unwrap();
        assert_eq!(config.cmd.unwrap(), ["x"]);
        assert_eq!(config.env.unwrap(), ["A=1", "B=1"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "y z"]);
        assert!(config.exposed_ports.unwrap().contains_key("80/tcp"));
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/a/b", "u"));
        assert_eq!(config.on_build.unwrap(), ["RUN q"]);
        assert_eq!(changed(&[]).unwrap().cmd.unwrap(), ["old"]);
    }

    #[test]
    fn refuses_what_is_no_change() {
        assert_eq!(changed(&["RUN x"]).unwrap_err(), "run is not a valid change command");
        assert_eq!(changed(&["FROM x"]).unwrap_err(), "from is not a valid change command");
        assert_eq!(
            changed(&["FOO"]).unwrap_err(),
            "dockerfile parse error on line 1: unknown instruction: FOO"
        );
    }
}
