//! One logical line to one typed instruction.

use seacow_spec::docker::container::HealthConfig;

use super::heredoc::{self, Heredoc};
use super::instruction::{CommandLine, CopyArgs, Instruction, RunArgs, RunNetwork};
use super::mount::MountWords;
use super::{SyntaxError, duration, words};
use crate::nearest::nearest;

/// What a line can be.
pub(super) enum Parsed {
    From { base: String, name: Option<String>, platform: Option<String> },
    Instruction(Instruction),
}

/// The text after an instruction's name, flags apart.
struct Args<'a> {
    flags: Flags,
    text: &'a str,
    escape: char,
    heredocs: &'a [Heredoc],
}

/// All instructions, for who mistyped one.
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads one logical line with its here-documents.
pub(super) fn line(text: &str, escape: char, heredocs: &[Heredoc]) -> Result<Parsed, SyntaxError> {
    let (name, rest) = words::first_word(text.trim());
    let name = name.to_uppercase();
    let (flags, rest) = words::take_flags(rest);
    let args = Args { flags: Flags(flags), text: rest.trim(), escape, heredocs };
    let instruction = match name.as_str() {
        "FROM" => return from(args),
        "ENV" => Instruction::Env(args.pairs("ENV")?),
        "LABEL" => Instruction::Label { pairs: args.pairs("LABEL")?, literal: false },
        "MAINTAINER" => Instruction::Maintainer(args.single("MAINTAINER")?),
        "ADD" => Instruction::Add(add(args)?),
        "COPY" => Instruction::Copy(copy(args)?),
        "ONBUILD" => onbuild(args)?,
        "WORKDIR" => Instruction::Workdir(args.single("WORKDIR")?),
        "RUN" => run(args)?,
        "CMD" => Instruction::Cmd(args.command()?),
        "ENTRYPOINT" => Instruction::Entrypoint(args.command()?),
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck(args)?),
        "EXPOSE" => expose(args)?,
        "USER" => Instruction::User(args.single("USER")?),
        "VOLUME" => volume(args)?,
        "STOPSIGNAL" => Instruction::StopSignal(args.single("STOPSIGNAL")?),
        "ARG" => arg(args)?,
        "SHELL" => shell(args)?,
        _ => {
            let meant = nearest(&name, INSTRUCTIONS);
            return Err(SyntaxError::UnknownInstruction { meant: meant.map(str::to_owned), name });
        }
    };
    Ok(Parsed::Instruction(instruction))
}

impl Args<'_> {
    fn no_flags(&mut self) -> Result<(), SyntaxError> {
        self.flags.finish()
    }

    fn pairs(mut self, name: &'static str) -> Result<Vec<(String, String)>, SyntaxError> {
        self.no_flags()?;
        words::pairs(self.text, name, self.escape)
    }

    fn single(mut self, name: &'static str) -> Result<String, SyntaxError> {
        self.no_flags()?;
        if self.text.is_empty() { Err(SyntaxError::ExactlyOne(name)) } else { Ok(self.text.to_owned()) }
    }

    fn command(mut self) -> Result<CommandLine, SyntaxError> {
        self.no_flags()?;
        command_line(self.text)
    }

    /// A JSON list, or else blank-separated words.
    fn list(&self) -> Result<Vec<String>, SyntaxError> {
        Ok(words::json_list(self.text)?.unwrap_or_else(|| words::blank_separated(self.text)))
    }

    /// Sources and destination of `COPY` and `ADD`, and the flags that both have.
    fn files(&mut self, name: &'static str) -> Result<CopyArgs, SyntaxError> {
        let given = |value: Option<String>| value.filter(|value| !value.is_empty());
        let mut copy = CopyArgs {
            chown: given(self.flags.take("chown")?),
            chmod: given(self.flags.take("chmod")?),
            link: self.flags.take_bool("link")?.unwrap_or(false),
            excludes: self.flags.take_all("exclude")?,
            heredocs: self.heredocs.to_vec(),
            ..CopyArgs::default()
        };
        copy.sources = self.list()?;
        copy.dest = copy.sources.pop().ok_or(SyntaxError::AtLeastOne(name))?;
        if copy.sources.is_empty() {
            return Err(SyntaxError::NoDestination(name));
        }
        if !copy.heredocs.is_empty() && heredoc::of_word(&copy.dest).is_some() {
            return Err(SyntaxError::HeredocDestination(name));
        }
        Ok(copy)
    }
}

fn copy(mut args: Args<'_>) -> Result<CopyArgs, SyntaxError> {
    let files = args.files("COPY")?;
    let from = args.flags.take("from")?.filter(|from| !from.is_empty());
    let parents = args.flags.take_bool("parents")?.unwrap_or(false);
    args.no_flags()?;
    Ok(CopyArgs { from, parents, ..files })
}

fn add(mut args: Args<'_>) -> Result<CopyArgs, SyntaxError> {
    let files = args.files("ADD")?;
    let checksum = args.flags.take("checksum")?.filter(|sum| !sum.is_empty());
    let keep_git_dir = args.flags.take_bool("keep-git-dir")?.unwrap_or(false);
    let unpack = args.flags.take_bool("unpack")?;
    args.no_flags()?;
    Ok(CopyArgs { checksum, keep_git_dir, unpack, ..files })
}

fn command_line(text: &str) -> Result<CommandLine, SyntaxError> {
    Ok(match words::json_list(text)? {
        Some(list) => CommandLine::Exec(list),
        None => CommandLine::Shell(text.to_owned()),
    })
}

fn from(mut args: Args<'_>) -> Result<Parsed, SyntaxError> {
    let platform = args.flags.take("platform")?.filter(|platform| !platform.is_empty());
    args.no_flags()?;
    let words = words::blank_separated(args.text);
    let (base, name) = match words.as_slice() {
        [base] => (base, None),
        [base, keyword, name] if keyword.eq_ignore_ascii_case("as") => (base, Some(stage_name(name)?)),
        _ => return Err(SyntaxError::FromArguments),
    };
    Ok(Parsed::From { base: base.clone(), name, platform })
}

fn stage_name(name: &str) -> Result<String, SyntaxError> {
    let lower = name.to_lowercase();
    let valid = lower.starts_with(|ch: char| ch.is_ascii_lowercase())
        && lower.chars().all(|ch| ch.is_ascii_lowercase() || ch.is_ascii_digit() || "-_.".contains(ch));
    if valid { Ok(lower) } else { Err(SyntaxError::StageName(name.to_owned())) }
}

fn onbuild(mut args: Args<'_>) -> Result<Instruction, SyntaxError> {
    args.no_flags()?;
    let (trigger, _) = words::first_word(args.text);
    let trigger = trigger.to_uppercase();
    match trigger.as_str() {
        "" => return Err(SyntaxError::AtLeastOne("ONBUILD")),
        "ONBUILD" => return Err(SyntaxError::ChainedOnbuild),
        "MAINTAINER" | "FROM" => return Err(SyntaxError::OnbuildTrigger(trigger)),
        _ => {}
    }
    // What cannot be read here could never be triggered.
    line(args.text, args.escape, args.heredocs)?;
    let mut text = args.text.to_owned();
    for document in args.heredocs {
        text.extend(["\n", &document.data, &document.name]);
    }
    Ok(Instruction::Onbuild(text))
}

fn run(mut args: Args<'_>) -> Result<Instruction, SyntaxError> {
    let mounts = args.flags.take_all("mount")?;
    let mounts = mounts.iter().map(|text| MountWords::read(text)).collect::<Result<Vec<_>, _>>()?;
    let network = match args.flags.take("network")?.as_deref() {
        None | Some("default") => RunNetwork::Default,
        Some("none") => RunNetwork::None,
        Some("host") => RunNetwork::Host,
        Some(other) => return Err(SyntaxError::RunNetwork(other.to_owned())),
    };
    match args.flags.take("security")?.as_deref() {
        None | Some("sandbox") => {}
        Some("insecure") => return Err(SyntaxError::Insecure),
        Some(other) => return Err(SyntaxError::RunSecurity(other.to_owned())),
    }
    if args.flags.take("device")?.is_some() {
        return Err(SyntaxError::Device);
    }
    args.no_flags()?;
    if args.text.is_empty() {
        return Err(SyntaxError::AtLeastOne("RUN"));
    }
    let command = command_line(args.text)?;
    if matches!(&command, CommandLine::Exec(list) if list.is_empty()) {
        return Err(SyntaxError::AtLeastOne("RUN"));
    }
    Ok(Instruction::Run(RunArgs { command, mounts, network, heredocs: args.heredocs.to_vec() }))
}

fn expose(mut args: Args<'_>) -> Result<Instruction, SyntaxError> {
    args.no_flags()?;
    let mut ports = words::blank_separated(args.text);
    if ports.is_empty() {
        return Err(SyntaxError::AtLeastOne("EXPOSE"));
    }
    ports.sort();
    Ok(Instruction::Expose(ports))
}

fn volume(mut args: Args<'_>) -> Result<Instruction, SyntaxError> {
    args.no_flags()?;
    let volumes: Vec<String> = args.list()?.iter().map(|path| path.trim().to_owned()).collect();
    if volumes.is_empty() {
        return Err(SyntaxError::AtLeastOne("VOLUME"));
    }
    if volumes.iter().any(String::is_empty) {
        return Err(SyntaxError::EmptyVolume);
    }
    Ok(Instruction::Volume(volumes))
}

fn arg(mut args: Args<'_>) -> Result<Instruction, SyntaxError> {
    args.no_flags()?;
    let words = words::quoted(args.text, args.escape);
    if words.is_empty() {
        return Err(SyntaxError::AtLeastOne("ARG"));
    }
    let pairs = words.into_iter().map(|word| match word.split_once('=') {
        Some(("", _)) => Err(SyntaxError::BlankName("ARG")),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => Ok((word, None)),
    });
    Ok(Instruction::Arg(pairs.collect::<Result<_, _>>()?))
}

fn shell(mut args: Args<'_>) -> Result<Instruction, SyntaxError> {
    args.no_flags()?;
    match words::json_list(args.text)? {
        Some(list) if !list.is_empty() => Ok(Instruction::Shell(list)),
        Some(_) => Err(SyntaxError::AtLeastOne("SHELL")),
        None if args.text.is_empty() => Err(SyntaxError::AtLeastOne("SHELL")),
        None => Err(SyntaxError::NotJson { instruction: "SHELL", text: args.text.to_owned() }),
    }
}

fn healthcheck(mut args: Args<'_>) -> Result<HealthConfig, SyntaxError> {
    let (kind, rest) = match args.text.split_once(char::is_whitespace) {
        Some((kind, rest)) => (kind.to_uppercase(), rest.trim_start()),
        None => (args.text.to_uppercase(), ""),
    };
    match kind.as_str() {
        "" => Err(SyntaxError::AtLeastOne("HEALTHCHECK")),
        "NONE" if rest.is_empty() => {
            args.no_flags()?;
            Ok(HealthConfig { test: Some(vec![kind]), ..HealthConfig::default() })
        }
        "NONE" => Err(SyntaxError::HealthcheckNone),
        "CMD" => {
            let mut health = HealthConfig {
                interval: args.flags.interval("interval")?,
                timeout: args.flags.interval("timeout")?,
                start_period: args.flags.interval("start-period")?,
                start_interval: args.flags.interval("start-interval")?,
                retries: args.flags.retries()?,
                test: None,
            };
            args.no_flags()?;
            health.test = Some(health_test(rest)?);
            Ok(health)
        }
        _ => Err(SyntaxError::HealthcheckType(kind)),
    }
}

fn health_test(text: &str) -> Result<Vec<String>, SyntaxError> {
    let (kind, mut command) = match command_line(text)? {
        CommandLine::Exec(list) => ("CMD", list),
        CommandLine::Shell(text) if text.is_empty() => return Err(SyntaxError::HealthcheckCommand),
        CommandLine::Shell(text) => ("CMD-SHELL", vec![text]),
    };
    if command.is_empty() {
        return Err(SyntaxError::HealthcheckCommand);
    }
    command.insert(0, kind.to_owned());
    Ok(command)
}

/// The flags of an instruction; each is taken once, what is left over at the end is unknown.
struct Flags(Vec<String>);

impl Flags {
    /// Removes every flag of this name; each as its value, if it has one.
    fn remove(&mut self, name: &str) -> Vec<Option<String>> {
        let mut found = Vec::new();
        self.0.retain(|flag| {
            let (own, value) = split_flag(flag);
            if own == name {
                found.push(value.map(str::to_owned));
            }
            own != name
        });
        found
    }

    fn once(&mut self, name: &str) -> Result<Option<Option<String>>, SyntaxError> {
        let mut found = self.remove(name);
        if found.len() > 1 {
            return Err(SyntaxError::DuplicateFlag(name.to_owned()));
        }
        Ok(found.pop())
    }

    fn take(&mut self, name: &str) -> Result<Option<String>, SyntaxError> {
        match self.once(name)? {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(SyntaxError::FlagWithoutValue(name.to_owned())),
        }
    }

    /// `None` when absent; alone it means yes.
    fn take_bool(&mut self, name: &str) -> Result<Option<bool>, SyntaxError> {
        match self.once(name)? {
            None => Ok(None),
            Some(None) => Ok(Some(true)),
            Some(Some(value)) => match value.to_ascii_lowercase().as_str() {
                "true" => Ok(Some(true)),
                "false" => Ok(Some(false)),
                "" => Err(SyntaxError::FlagWithoutValue(name.to_owned())),
                _ => Err(SyntaxError::FlagNotBoolean { name: name.to_owned(), value }),
            },
        }
    }

    /// The values of a flag that may be repeated.
    fn take_all(&mut self, name: &str) -> Result<Vec<String>, SyntaxError> {
        let values = self.remove(name).into_iter();
        values.map(|value| value.ok_or_else(|| SyntaxError::FlagWithoutValue(name.to_owned()))).collect()
    }

    /// A duration in nanoseconds, 0 when absent.
    fn interval(&mut self, name: &'static str) -> Result<i64, SyntaxError> {
        const SHORTEST: i64 = 1_000_000;
        let Some(text) = self.take(name)?.filter(|text| !text.is_empty()) else { return Ok(0) };
        let nanos = duration::parse(&text).ok_or(SyntaxError::Duration(text))?;
        if nanos != 0 && nanos < SHORTEST { Err(SyntaxError::ShortInterval(name)) } else { Ok(nanos) }
    }

    fn retries(&mut self) -> Result<i64, SyntaxError> {
        let Some(text) = self.take("retries")?.filter(|text| !text.is_empty()) else { return Ok(0) };
        let retries = text.parse::<i32>().map_err(|_| SyntaxError::Retries(text))?;
        if retries < 0 { Err(SyntaxError::NegativeRetries(retries.into())) } else { Ok(retries.into()) }
    }

    fn finish(&self) -> Result<(), SyntaxError> {
        match self.0.first() {
            None => Ok(()),
            Some(flag) => Err(SyntaxError::UnknownFlag(split_flag(flag).0.to_owned())),
        }
    }
}

/// `--name=value`; flags come with their dashes.
fn split_flag(flag: &str) -> (&str, Option<&str>) {
    let flag = flag.strip_prefix("--").unwrap_or(flag);
    match flag.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (flag, None),
    }
}
