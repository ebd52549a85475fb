//! One logical line to one typed instruction.

use seacow_spec::docker::container::HealthConfig;

use super::instruction::{CommandLine, CopyArgs, Instruction};
use super::{SyntaxError, duration, words};

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
}

/// Reads one logical line.
pub(super) fn line(text: &str, escape: char) -> Result<Parsed, SyntaxError> {
    let (name, rest) = words::first_word(text.trim());
    let name = name.to_uppercase();
    let (flags, rest) = words::take_flags(rest);
    let args = Args { flags: Flags(flags), text: rest.trim(), escape };
    let instruction = match name.as_str() {
        "FROM" => return from(args),
        "ENV" => Instruction::Env(args.pairs("ENV")?),
        "LABEL" => Instruction::Label { pairs: args.pairs("LABEL")?, literal: false },
        "MAINTAINER" => Instruction::Maintainer(args.single("MAINTAINER")?),
        "ADD" => {
            Instruction::Add(args.copy("ADD", &["chmod", "checksum", "keep-git-dir", "exclude", "unpack"])?)
        }
        "COPY" => Instruction::Copy(args.copy("COPY", &["chmod", "parents", "exclude"])?),
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
        _ => return Err(SyntaxError::UnknownInstruction(name)),
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

    fn copy(mut self, name: &'static str, buildkit_only: &[&str]) -> Result<CopyArgs, SyntaxError> {
        let chown = self.flags.take("chown")?.filter(|owner| !owner.is_empty());
        let from =
            if name == "COPY" { self.flags.take("from")?.filter(|from| !from.is_empty()) } else { None };
        // Docker's classic builder reads --link and does what it does without: one layer per step.
        self.flags.take_bool("link")?;
        let buildkit_flag = self.flags.take_any(buildkit_only);
        self.no_flags()?;
        if words::has_heredoc(self.text, self.escape) {
            return Err(SyntaxError::Heredoc);
        }
        let mut sources = self.list()?;
        match (sources.pop(), sources.is_empty()) {
            (None, _) => Err(SyntaxError::AtLeastOne(name)),
            (Some(_), true) => Err(SyntaxError::NoDestination(name)),
            (Some(dest), false) => Ok(CopyArgs { sources, dest, chown, from, buildkit_flag }),
        }
    }
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
    line(args.text, args.escape)?;
    Ok(Instruction::Onbuild(args.text.to_owned()))
}

fn run(mut args: Args<'_>) -> Result<Instruction, SyntaxError> {
    let buildkit_flag = args.flags.take_any(&["mount", "network", "security", "device"]);
    args.no_flags()?;
    if args.text.is_empty() {
        return Err(SyntaxError::AtLeastOne("RUN"));
    }
    let command = command_line(args.text)?;
    match &command {
        CommandLine::Exec(list) if list.is_empty() => Err(SyntaxError::AtLeastOne("RUN")),
        CommandLine::Shell(text) if words::has_heredoc(text, args.escape) => Err(SyntaxError::Heredoc),
        _ => Ok(Instruction::Run { command, buildkit_flag }),
    }
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

    fn take_bool(&mut self, name: &str) -> Result<bool, SyntaxError> {
        match self.once(name)? {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(value)) => match value.to_ascii_lowercase().as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                "" => Err(SyntaxError::FlagWithoutValue(name.to_owned())),
                _ => Err(SyntaxError::FlagNotBoolean { name: name.to_owned(), value }),
            },
        }
    }

    /// Removes all flags of these names; the first one's name.
    fn take_any(&mut self, names: &[&str]) -> Option<String> {
        let first = self.0.iter().map(|flag| split_flag(flag).0).find(|own| names.contains(own));
        let first = first.map(str::to_owned);
        for name in names {
            self.remove(name);
        }
        first
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
