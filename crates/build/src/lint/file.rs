//! Checks of a Dockerfile's text.

use std::collections::{BTreeMap, BTreeSet};

use super::Lint;
use crate::args::PLATFORM_ARGS;
use crate::dockerfile::{CommandLine, Dockerfile, Instruction, Stage, Step};
use crate::expand::{self, Variables};
use crate::gofmt;

/// Names that cannot name a stage usefully.
const RESERVED: [&str; 2] = ["scratch", "context"];

pub(super) fn check(file: &Dockerfile, lint: &Lint) {
    gaps(file, lint);
    casing(file, lint);
    stage_names(file, lint);
    global_args(file, lint);
    for (index, stage) in file.stages.iter().enumerate() {
        platform(stage, lint);
        commands(stage, lint);
        let below = file.stages[..index].iter().any(|earlier| earlier.name.as_deref() == Some(&stage.base));
        workdirs(stage, below, lint);
        for step in &stage.steps {
            instruction(step, lint);
        }
    }
    for step in &file.meta_args {
        instruction(step, lint);
    }
}

fn lines(step: &Step) -> (usize, usize) {
    (step.line, step.last_line)
}

fn gaps(file: &Dockerfile, lint: &Lint) {
    for line in &file.gaps {
        lint.note("NoEmptyContinuation", (*line, *line), "Empty continuation line".into());
    }
}

/// The word that an instruction begins with, as written.
fn keyword(code: &str) -> &str {
    code.split_whitespace().next().unwrap_or_default()
}

fn casing(file: &Dockerfile, lint: &Lint) {
    let mut words: Vec<(&str, usize)> = file.meta_args.iter().map(|s| (keyword(&s.code), s.line)).collect();
    for stage in &file.stages {
        words.push((keyword(&stage.code), stage.line));
        words.extend(stage.steps.iter().map(|step| (keyword(&step.code), step.line)));
        from_as(stage, lint);
    }
    let is_lower = |word: &str| word == word.to_lowercase();
    let is_upper = |word: &str| word == word.to_uppercase();
    let lower = words.iter().filter(|(word, _)| is_lower(word)).count();
    let mostly_lower = lower * 2 > words.len();
    let (majority, name): (&dyn Fn(&str) -> bool, _) =
        if mostly_lower { (&is_lower, "lowercase") } else { (&is_upper, "uppercase") };
    for (word, line) in words {
        if !majority(word) {
            let text = format!("Command '{word}' should match the case of the command majority ({name})");
            lint.note("ConsistentInstructionCasing", (line, line), text);
        }
    }
}

fn from_as(stage: &Stage, lint: &Lint) {
    let words: Vec<&str> = stage.code.split_whitespace().filter(|word| !word.starts_with("--")).collect();
    let [from, _, keyword, _] = words.as_slice() else { return };
    let same = from.to_uppercase() == **from && keyword.to_uppercase() == **keyword
        || from.to_lowercase() == **from && keyword.to_lowercase() == **keyword;
    if !same {
        let text = format!("'{keyword}' and '{from}' keywords' casing do not match");
        lint.note("FromAsCasing", (stage.line, stage.last_line), text);
    }
}

fn stage_names(file: &Dockerfile, lint: &Lint) {
    let mut seen = BTreeSet::new();
    for stage in &file.stages {
        let Some(name) = &stage.name else { continue };
        let place = (stage.line, stage.last_line);
        let written = stage.code.split_whitespace().last().unwrap_or_default();
        if written != name.as_str() {
            lint.note("StageNameCasing", place, format!("Stage name '{written}' should be lowercase"));
        }
        if !seen.insert(name) {
            let text = format!("Duplicate stage name {}, stage names should be unique", gofmt::quote(name));
            lint.note("DuplicateStageName", place, text);
        }
        if RESERVED.contains(&name.as_str()) {
            let text =
                format!("Stage name should not use the same name as reserved stage {}", gofmt::quote(name));
            lint.note("ReservedStageName", place, text);
        }
    }
}

/// A `FROM` that is nothing useful with the arguments' defaults.
fn global_args(file: &Dockerfile, lint: &Lint) {
    let mut defaults = Variables::new();
    let mut known: BTreeSet<&str> = PLATFORM_ARGS.into_iter().collect();
    for name in &known {
        defaults.insert((*name).to_owned(), "x".to_owned());
    }
    for step in &file.meta_args {
        let Instruction::Arg(pairs) = &step.instruction else { continue };
        for (name, value) in pairs {
            known.insert(name);
            let value = value.as_deref().and_then(|value| expand::word(value, file.escape, &defaults).ok());
            defaults.insert(name.clone(), value.unwrap_or_default());
        }
    }
    for stage in &file.stages {
        let Ok(expanded) = expand::expand(&stage.base, file.escape, &defaults) else { continue };
        let declared = expanded.unset.is_empty();
        let name = &expanded.text;
        let earlier = file.stages.iter().any(|other| other.name.as_ref() == Some(name));
        let valid = earlier || name.parse::<seacow_spec::Reference>().is_ok();
        if stage.base.contains('$') && declared && !valid {
            let text =
                format!("Default value for ARG {} results in empty or invalid base image name", stage.base);
            lint.note("InvalidDefaultArgInFrom", (stage.line, stage.last_line), text);
        }
    }
}

fn platform(stage: &Stage, lint: &Lint) {
    let Some(platform) = &stage.platform else { return };
    let place = (stage.line, stage.last_line);
    if matches!(platform.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        let text = format!(
            "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
        );
        lint.note("RedundantTargetPlatform", place, text);
    } else if !platform.contains('$') {
        let text = format!("FROM --platform flag should not use constant value {}", gofmt::quote(platform));
        lint.note("FromPlatformFlagConstDisallowed", place, text);
    }
}

/// Instructions of which the last one counts.
fn commands(stage: &Stage, lint: &Lint) {
    let mut last: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let has_shell = stage.steps.iter().any(|step| matches!(step.instruction, Instruction::Shell(_)));
    for step in &stage.steps {
        let name = step.instruction.name();
        let shell_form = match &step.instruction {
            Instruction::Cmd(line) | Instruction::Entrypoint(line) => {
                matches!(line, CommandLine::Shell(text) if !text.is_empty())
            }
            Instruction::Healthcheck(_) => false,
            _ => continue,
        };
        if shell_form && !has_shell {
            let text = format!(
                "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
            );
            lint.note("JSONArgsRecommended", lines(step), text);
        }
        if let Some(before) = last.insert(name, lines(step)) {
            let text = format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            lint.note("MultipleInstructionsDisallowed", before, text);
        }
    }
}

fn workdirs(stage: &Stage, on_stage: bool, lint: &Lint) {
    // An earlier stage may have set an absolute one.
    let mut absolute = on_stage;
    for step in &stage.steps {
        let Instruction::Workdir(path) = &step.instruction else { continue };
        if path.starts_with('/') || path.starts_with('$') {
            absolute = true;
        } else if !absolute {
            let text = format!(
                "Relative workdir {} can have unexpected results if the base image changes",
                gofmt::quote(path)
            );
            lint.note("WorkdirRelativePath", lines(step), text);
        }
    }
}

fn instruction(step: &Step, lint: &Lint) {
    let name = step.instruction.name();
    match &step.instruction {
        Instruction::Maintainer(_) => {
            let text = "Maintainer instruction is deprecated in favor of using label".to_owned();
            lint.note("MaintainerDeprecated", lines(step), text);
        }
        Instruction::Env(pairs) | Instruction::Label { pairs, literal: false } => {
            if is_legacy(&step.code) {
                let text = format!(
                    "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
                );
                lint.note("LegacyKeyValueFormat", lines(step), text);
            }
            if name == "ENV" {
                pairs.iter().for_each(|(key, _)| secret(step, name, key, lint));
            }
        }
        Instruction::Arg(pairs) => pairs.iter().for_each(|(key, _)| secret(step, name, key, lint)),
        Instruction::Expose(ports) => ports.iter().for_each(|port| expose(step, port, lint)),
        _ => {}
    }
}

/// `ENV name value`: the second word has no sign of equality.
fn is_legacy(code: &str) -> bool {
    code.split_whitespace().nth(1).is_some_and(|word| !word.contains('='))
}

/// Words of names that secrets have, and of names that only look like it.
const SECRETS: [&str; 9] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret"];
const MORE_SECRETS: [&str; 1] = ["token"];
const NO_SECRETS: [&str; 2] = ["public", "file"];

fn secret(step: &Step, instruction: &str, key: &str, lint: &Lint) {
    let lower = key.to_lowercase();
    let words: Vec<&str> = lower.split(['_', '-']).collect();
    let named = |list: &[&str]| words.iter().any(|word| list.contains(word));
    if (named(&SECRETS) || named(&MORE_SECRETS)) && !named(&NO_SECRETS) {
        let text = format!(
            "Do not use ARG or ENV instructions for sensitive data ({instruction} {})",
            gofmt::quote(key)
        );
        lint.note("SecretsUsedInArgOrEnv", lines(step), text);
    }
}

fn expose(step: &Step, port: &str, lint: &Lint) {
    if port.contains('$') {
        return;
    }
    let (number, protocol) = port.split_once('/').unwrap_or((port, ""));
    if protocol != protocol.to_lowercase() {
        let text = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
        lint.note("ExposeProtoCasing", lines(step), text);
    }
    if number.contains(':') {
        let text = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
        );
        lint.note("ExposeInvalidFormat", lines(step), text);
    }
}
