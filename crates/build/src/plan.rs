//! Which stages are built, in what order, and what they are called.

use std::collections::BTreeSet;

use crate::args::BuildArgs;
use crate::dockerfile::{Dockerfile, Instruction, Stage, Step};
use crate::error::{BuildError, StageIndexError};
use crate::expand;
use crate::options::BuildOptions;

/// A Dockerfile cut down to what this build needs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub escape: char,
    pub meta_args: Vec<Step>,
    /// All stages up to the target.
    pub stages: Vec<Stage>,
    /// Those that the target needs, itself included, in the file's order.
    pub needed: Vec<usize>,
    /// The stage whose image is wanted.
    pub target: usize,
    /// The Dockerfile's text.
    pub source: String,
}

impl Plan {
    /// Cuts after the target stage, puts `--label`s behind the last one, and leaves out stages that
    /// nothing needs.
    pub(crate) fn new(file: Dockerfile, options: &BuildOptions) -> Result<Self, BuildError> {
        let Dockerfile { escape, meta_args, mut stages, source, .. } = file;
        if let Some(target) = options.target.as_deref() {
            let found = find_target(&stages, target).ok_or_else(|| BuildError::Target(target.to_owned()))?;
            stages.truncate(found + 1);
        }
        let Some(last) = stages.last_mut() else { return Err(BuildError::NoImage) };
        let (line, last_line) = (last.line, last.last_line);
        last.steps.extend(options.labels.iter().map(|(name, value)| label(line, last_line, name, value)));
        let target = stages.len() - 1;
        let mut plan = Self { escape, meta_args, stages, needed: Vec::new(), target, source };
        plan.needed = plan.closure(options);
        Ok(plan)
    }

    /// The number that stands behind `Step n/`.
    pub(crate) fn step_count(&self) -> usize {
        let stages = self.needed.iter().filter_map(|index| self.stages.get(*index));
        self.meta_args.len() + stages.map(|stage| 1 + stage.steps.len()).sum::<usize>()
    }

    /// The number of a stage's `FROM`.
    pub(crate) fn first_number(&self, stage: usize) -> usize {
        let before = self.needed.iter().filter(|index| **index < stage);
        let steps: usize =
            before.filter_map(|index| self.stages.get(*index)).map(|s| 1 + s.steps.len()).sum();
        self.meta_args.len() + steps + 1
    }

    /// The stage that a `FROM` means by a name.
    pub(crate) fn base_stage(&self, current: usize, name: &str) -> Option<usize> {
        let lower = name.to_lowercase();
        self.stages.get(..current)?.iter().rposition(|stage| stage.name.as_ref() == Some(&lower))
    }

    /// The target and whatever it needs.
    fn closure(&self, options: &BuildOptions) -> Vec<usize> {
        let args = self.meta_values(options);
        let mut needed = BTreeSet::new();
        let mut open = vec![self.target];
        while let Some(index) = open.pop() {
            if needed.insert(index) {
                open.extend(self.needs(index, &args, options));
            }
        }
        needed.into_iter().collect()
    }

    /// Values of the arguments above the first stage. One that cannot be expanded fails when its
    /// turn comes.
    fn meta_values(&self, options: &BuildOptions) -> expand::Variables {
        let mut args = BuildArgs::new(options.build_args.clone());
        for step in &self.meta_args {
            let Instruction::Arg(pairs) = &step.instruction else { continue };
            for (name, default) in pairs {
                let value =
                    default.as_deref().and_then(|text| expand::word(text, self.escape, &args.meta()).ok());
                args.declare_meta(name, value.as_deref());
            }
        }
        args.meta()
    }

    /// The stages that a stage names.
    fn needs(&self, index: usize, args: &expand::Variables, options: &BuildOptions) -> Vec<usize> {
        let Some(stage) = self.stages.get(index) else { return Vec::new() };
        let is_named = |name: &str| options.contexts.contains_key(name);
        let base = expand::word(&stage.base, self.escape, args).ok().filter(|base| !is_named(base));
        let mut needs: Vec<usize> = base.and_then(|base| self.base_stage(index, &base)).into_iter().collect();
        for step in &stage.steps {
            let sources: Vec<&str> = match &step.instruction {
                Instruction::Copy(args) => args.from.as_deref().into_iter().collect(),
                Instruction::Run(run) => run.mounts.iter().filter_map(|m| m.from.as_deref()).collect(),
                _ => continue,
            };
            let stages = sources.into_iter().filter(|name| !is_named(name));
            // One that does not exist fails when its step comes.
            needs.extend(stages.filter_map(|name| earlier_stage(&self.stages, index, name).ok().flatten()));
        }
        needs
    }
}

impl Stage {
    /// Its name, or its number.
    pub(crate) fn label(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| index.to_string())
    }
}

/// By name, else by number.
fn find_target(stages: &[Stage], target: &str) -> Option<usize> {
    let lower = target.to_lowercase();
    let by_name = stages.iter().rposition(|stage| stage.name.as_ref() == Some(&lower));
    by_name.or_else(|| target.parse().ok().filter(|index| *index < stages.len()))
}

fn label(line: usize, last_line: usize, name: &str, value: &str) -> Step {
    Step {
        line,
        last_line,
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
    if let Some(index) = stages[..current].iter().rposition(|stage| stage.name.as_ref() == Some(&lower)) {
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

    const FILE: &[u8] = b"ARG V\nFROM a AS One\nRUN x\nFROM one\nCMD y\nFROM b AS two\nRUN z";

    fn plan_of(file: &[u8], target: Option<&str>) -> Result<Plan, BuildError> {
        let options = BuildOptions {
            target: target.map(str::to_owned),
            labels: [("l".into(), "1 2".into())].into(),
            ..BuildOptions::default()
        };
        Plan::new(parse(file).unwrap(), &options)
    }

    #[test]
    fn targets_labels_and_counts() {
        let one = plan_of(FILE, Some("ONE")).unwrap();
        assert_eq!((one.stages.len(), one.step_count()), (1, 4));
        assert_eq!(one.stages[0].steps[1].code, "LABEL l=1 2");
        assert_eq!(plan_of(FILE, Some("1")).unwrap().stages.len(), 2);
        let error = plan_of(FILE, Some("three")).unwrap_err().to_string();
        assert_eq!(error, "failed to reach build target three in Dockerfile");
    }

    #[test]
    fn what_nothing_needs_is_left_out() {
        let needed = |file: &[u8], target| plan_of(file, target).unwrap().needed;
        assert_eq!(needed(FILE, None), [2]);
        assert_eq!(needed(FILE, Some("1")), [0, 1]);
        let file = b"ARG B=one\nFROM a AS one\nFROM a AS two\nFROM a AS three\nFROM $B\n\
                     COPY --from=1 x /\nRUN --mount=from=img,target=/x y";
        assert_eq!(needed(file, None), [0, 1, 3]);
        let plan = plan_of(file, None).unwrap();
        assert_eq!((plan.first_number(0), plan.first_number(1), plan.first_number(3)), (2, 3, 4));
        assert_eq!(plan.step_count(), 7);
        let file = b"FROM a AS x\nFROM b AS x\nFROM x";
        assert_eq!(needed(file, None), [1, 2]);
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
