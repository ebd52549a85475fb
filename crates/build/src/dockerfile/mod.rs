//! The Dockerfile's grammar: bytes to typed steps.
//!
//! Nothing is expanded here and no image is looked at. Vocabulary: a *step* is one instruction
//! with its line and source text; a *stage* is a `FROM` with the steps below it; *meta args* are the
//! `ARG`s above the first `FROM`.
//!
//! | module | what |
//! |---|---|
//! | `lines` | directives, comments, continuation lines |
//! | [`heredoc`] | texts in the Dockerfile itself |
//! | [`mount`] | `RUN --mount` |
//! | `words` | flags, quoted words, pairs, JSON lists |
//! | [`instruction`] | the typed instructions |
//! | `read` | one logical line to one instruction |
//! | `duration` | `1m30s` |

mod duration;
pub mod heredoc;
pub mod instruction;
mod lines;
pub mod mount;
mod read;
#[cfg(test)]
mod tests;
mod words;

use crate::gofmt;
pub use heredoc::Heredoc;
pub use instruction::{CommandLine, CopyArgs, Instruction, RunArgs, RunNetwork, Stage, Step};

/// A Dockerfile that cannot be read: where and why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("dockerfile parse error on line {line}: {cause}")]
pub struct ParseError {
    /// Line of the instruction's beginning, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub cause: SyntaxError,
}

/// What is wrong with an instruction; the texts are Docker's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum SyntaxError {
    #[error("unknown instruction: {name}{}", did_you_mean(meant.as_deref()))]
    UnknownInstruction { name: String, meant: Option<String> },
    #[error("file with no instructions")]
    NoInstructions,
    #[error("dockerfile line greater than max allowed size of {}", lines::MAX_LINE)]
    LineTooLong,
    #[error("only one {0} parser directive can be used")]
    RepeatedDirective(String),
    #[error("invalid escape token '{0}' does not match ` or \\")]
    BadEscape(String),
    #[error("no build stage in current context")]
    NoStage,
    #[error("{0} requires at least one argument")]
    AtLeastOne(&'static str),
    #[error("{0} requires exactly one argument")]
    ExactlyOne(&'static str),
    #[error("{0} must have two arguments")]
    TwoArguments(&'static str),
    #[error(
        "{0} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination(&'static str),
    #[error("{0} names can not be blank")]
    BlankName(&'static str),
    #[error("Syntax error - can't find = in {}. Must be of the form: name=value", gofmt::quote(.0))]
    NoEquals(String),
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    NotStrings,
    #[error("{instruction} requires the arguments to be in JSON form: {text}")]
    NotJson { instruction: &'static str, text: String },
    #[error("Unknown flag: {0}")]
    UnknownFlag(String),
    #[error("Duplicate flag specified: {0}")]
    DuplicateFlag(String),
    #[error("Missing a value on flag: {0}")]
    FlagWithoutValue(String),
    #[error("Expecting boolean value for flag {name}, not: {value}")]
    FlagNotBoolean { name: String, value: String },
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    #[error("invalid name for build stage: {}, name can't start with a number or contain symbols", gofmt::quote(.0))]
    StageName(String),
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    ChainedOnbuild,
    #[error("{0} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger(String),
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckCommand,
    #[error("Unknown type {} in HEALTHCHECK (try CMD)", gofmt::quote(.0))]
    HealthcheckType(String),
    #[error("time: invalid duration {}", gofmt::quote(.0))]
    Duration(String),
    #[error("Interval {} cannot be less than 1ms", gofmt::quote(.0))]
    ShortInterval(&'static str),
    #[error("invalid value for --retries: {}", gofmt::quote(.0))]
    Retries(String),
    #[error("--retries cannot be negative ({0})")]
    NegativeRetries(i64),
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    #[error("invalid check directive: {}", gofmt::quote(.0))]
    CheckDirective(String),
    #[error("unterminated heredoc: no line that is {} alone", gofmt::quote(.0))]
    Unterminated(String),
    #[error("{0} cannot accept a heredoc as a destination")]
    HeredocDestination(&'static str),
    #[error("invalid field {} must be a key=value pair", gofmt::quote(.0))]
    MountField(String),
    #[error("unexpected key {} for mount type {}", gofmt::quote(key), gofmt::quote(kind))]
    MountKey { key: String, kind: &'static str },
    #[error("unsupported mount type {}", gofmt::quote(.0))]
    MountType(String),
    #[error("invalid value for {key}: {}", gofmt::quote(value))]
    MountValue { key: String, value: String },
    #[error("invalid mount config for type \"{0}\": field Target must not be empty")]
    MountTarget(&'static str),
    #[error("'from' doesn't support variable expansion ({0}), define alias stage instead")]
    MountFromVariable(String),
    #[error("invalid network mode {}", gofmt::quote(.0))]
    RunNetwork(String),
    #[error("security {} is not valid", gofmt::quote(.0))]
    RunSecurity(String),
    #[error(
        "NotImplemented: RUN --security=insecure: a build step never gets more rights than a container; run a container with --privileged and commit it"
    )]
    Insecure,
    #[error(
        "NotImplemented: RUN --device: build steps have no devices; run a container with --device and commit it"
    )]
    Device,
    #[error("from is not a valid change command")]
    UnexpectedFrom,
    #[error("onbuild trigger should be a single expression")]
    TriggerCount,
}

fn did_you_mean(meant: Option<&str>) -> String {
    meant.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default()
}

impl SyntaxError {
    fn at(self, line: usize) -> ParseError {
        ParseError { line, cause: self }
    }
}

/// A Dockerfile, parsed.
#[derive(Debug, PartialEq)]
pub struct Dockerfile {
    /// The escape character, `\` or `` ` ``.
    pub escape: char,
    /// `ARG`s above the first `FROM`.
    pub meta_args: Vec<Step>,
    /// In order.
    pub stages: Vec<Stage>,
    /// Lines of instructions with an empty line in the middle.
    pub gaps: Vec<usize>,
    /// Value of the directive `# check=`.
    pub check: Option<String>,
    /// The text that was parsed.
    pub source: String,
}

/// Parses a whole file. Bytes that are not UTF-8 become U+FFFD.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn parse(source: &[u8]) -> Result<Dockerfile, ParseError> {
    let lines = lines::split(source)?;
    if lines.lines.is_empty() {
        return Err(SyntaxError::NoInstructions.at(1));
    }
    let mut file = Dockerfile {
        escape: lines.escape,
        meta_args: Vec::new(),
        stages: Vec::new(),
        gaps: lines.gaps,
        check: lines.check,
        source: String::from_utf8_lossy(source).into_owned(),
    };
    for line in &lines.lines {
        let parsed = read::line(&line.text, lines.escape, &line.heredocs);
        let parsed = parsed.map_err(|cause| cause.at(line.number))?;
        match (parsed, file.stages.last_mut()) {
            (read::Parsed::From { base, name, platform }, _) => file.stages.push(Stage {
                line: line.number,
                last_line: line.last,
                code: line.text.trim().to_owned(),
                base,
                name,
                platform,
                steps: Vec::new(),
            }),
            (read::Parsed::Instruction(instruction), stage) => {
                let is_arg = matches!(instruction, Instruction::Arg(_));
                let step = step(line, instruction);
                match stage {
                    Some(stage) => stage.steps.push(step),
                    None if is_arg => file.meta_args.push(step),
                    None => return Err(SyntaxError::NoStage.at(line.number)),
                }
            }
        }
    }
    // Only arguments: there is nothing to build.
    if file.stages.is_empty() {
        let last = lines.lines.last().map_or(1, |line| line.number);
        return Err(SyntaxError::NoStage.at(last));
    }
    Ok(file)
}

fn step(line: &lines::LogicalLine, instruction: Instruction) -> Step {
    Step { line: line.number, last_line: line.last, code: line.text.trim().to_owned(), instruction }
}

/// Parses a list of instructions without `FROM`: `--change` of commit and import, `ONBUILD`
/// triggers of a base image.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn parse_steps(source: &[u8]) -> Result<(char, Vec<Step>), ParseError> {
    let lines = lines::split(source)?;
    let steps = lines.lines.iter().map(|line| {
        let parsed = read::line(&line.text, lines.escape, &line.heredocs);
        match parsed.map_err(|cause| cause.at(line.number))? {
            read::Parsed::Instruction(instruction) => Ok(step(line, instruction)),
            read::Parsed::From { .. } => Err(SyntaxError::UnexpectedFrom.at(line.number)),
        }
    });
    Ok((lines.escape, steps.collect::<Result<_, _>>()?))
}

/// Go's duration (`1h30m`) in nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    duration::parse(text)
}

/// Parses the one instruction of an `ONBUILD` trigger.
///
/// # Errors
/// It is malformed, or not exactly one.
pub fn parse_trigger(source: &str) -> Result<Step, ParseError> {
    let (_, steps) = parse_steps(source.as_bytes())?;
    match <[Step; 1]>::try_from(steps) {
        Ok([step]) => Ok(step),
        Err(_) => Err(SyntaxError::TriggerCount.at(1)),
    }
}
