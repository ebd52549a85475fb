//! Which stages are built, and what they are called.

use std::collections::BTreeMap;

use crate::dockerfile::{Dockerfile, Instruction, Stage, Step};
use crate::error::{BuildError, StageIndexError};

/// A Dockerfile cut down to what this build needs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub escape: char,
    pub meta_args: Vec<Step>,
    pub stages: Vec<Stage>,
    pub warnings: Vec<String>,
}

impl Plan {
    /// Cuts after the target stage, puts `--label`s behind the last one, and refuses what could
    /// only fail later.
    pub(crate) fn new(
        file: Dockerfile,
        target: Option<&str>,
        labels: &BTreeMap<String, String>,
    ) -> Result<Self, BuildError> {
        let Dockerfile { escape, meta_args, mut stages, warnings } = file;
        if let Some(target) = target {
            let found = find_target(&stages, target).ok_or_else(|| BuildError::Target(target.to_owned()))?;
            stages.truncate(found + 1);
        }
        for (index, stage) in stages.iter().enumerate() {
            let taken = stage
                .name
                .as_ref()
                .filter(|name| stages[..index].iter().any(|s| s.name.as_ref() == Some(name)));
            if let Some(name) = taken {
                return Err(BuildError::StageName(name.clone()));
            }
            if let Some(flag) = stage.steps.iter().find_map(|step| step.instruction.buildkit_flag()) {
                return Err(BuildError::NeedsBuildKit(flag.to_owned()));
            }
        }
        let Some(last) = stages.last_mut() else { return Err(BuildError::NoImage) };
        last.steps.extend(labels.iter().map(|(name, value)| label(last.line, name, value)));
        Ok(Self { escape, meta_args, stages, warnings })
    }

    /// The number that stands behind `Step n/`.
    pub(crate) fn step_count(&self) -> usize {
        let in_stages: usize = self.stages.iter().map(|stage| 1 + stage.steps.len()).sum();
        self.meta_args.len() + in_stages
    }
}

/// By name, else by number.
fn find_target(stages: &[Stage], target: &str) -> Option<usize> {
    let lower = target.to_lowercase();
    let by_name = stages.iter().position(|stage| stage.name.as_ref() == Some(&lower));
    by_name.or_else(|| target.parse().ok().filter(|index| *index < stages.len()))
}

fn label(line: usize, name: &str, value: &str) -> Step {
    Step {
        line,
        code: format!("LABEL {name}={value}"),
        instruction: Instruction::Label { pairs: vec![(name.to_owned(), value.to_owned())], literal: true },
    }
}

/// The stage before `current` that `--from=reference` means; `None` when it must be an image.
pub(crate) fn earlier_stage(
    stages: &[Stage],
    current: usize,
    reference: &str,
) -> Result<Option<usize>, StageIndexError> {
    let lower = reference.to_lowercase();
    if let Some(index) = stages[..current].iter().position(|stage| stage.name.as_ref() == Some(&lower)) {
        return Ok(Some(index));
    }
    match reference.parse::<i64>().map(usize::try_from) {
        Err(_) => Ok(None),
        Ok(Ok(index)) if index < current => Ok(Some(index)),
        Ok(Ok(index)) if index == current => Err(StageIndexError::Current),
        Ok(_) => Err(StageIndexError::OutOfBounds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    const FILE: &[u8] =
        b"ARG V\nFROM a AS One\nRUN x\nFROM one\nCMD y\nFROM b AS two\nRUN --mount=type=cache z";

    fn plan(target: Option<&str>) -> Result<Plan, BuildError> {
        Plan::new(parse(FILE).unwrap(), target, &[("l".into(), "1 2".into())].into())
    }

    #[test]
    fn targets_labels_and_counts() {
        let one = plan(Some("ONE")).unwrap();
        assert_eq!((one.stages.len(), one.step_count()), (1, 4));
        assert_eq!(one.stages[0].steps[1].code, "LABEL l=1 2");
        assert_eq!(plan(Some("1")).unwrap().stages.len(), 2);
        let error = plan(Some("three")).unwrap_err().to_string();
        assert_eq!(error, "failed to reach build target three in Dockerfile");
        let error = plan(None).unwrap_err().to_string();
        assert!(error.starts_with("the --mount option requires BuildKit."), "{error}");
        let twice = Plan::new(parse(b"FROM a AS x\nFROM b AS X").unwrap(), None, &BTreeMap::new());
        assert_eq!(twice.unwrap_err().to_string(), "x stage name already used");
    }

    #[test]
    fn stages_by_name_and_number() {
        let stages = parse(FILE).unwrap().stages;
        assert_eq!(earlier_stage(&stages, 2, "One"), Ok(Some(0)));
        assert_eq!(earlier_stage(&stages, 2, "1"), Ok(Some(1)));
        assert_eq!(earlier_stage(&stages, 2, "2"), Err(StageIndexError::Current));
        assert_eq!(earlier_stage(&stages, 2, "-1"), Err(StageIndexError::OutOfBounds));
        assert_eq!(earlier_stage(&stages, 2, "two"), Ok(None));
        assert_eq!(earlier_stage(&stages, 0, "one"), Ok(None));
    }
}
