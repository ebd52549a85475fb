//! The tree of commands: where each verb stands, and the pages that list them.

use crate::command::{self, Command};
use crate::commands as c;
use crate::failure::{Failure, Outcome};
use crate::flags;
use crate::globals::{self, Globals};

/// Under which heading the top-level help lists a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Common,
    /// What seacow adds to docker's verbs.
    Own,
    Plain,
    /// Another name of a listed command, or one for scripts.
    Unlisted,
}

/// A command at its place: `container ls` is `ls` in the group `container`.
struct Entry {
    group: &'static str,
    name: &'static str,
    section: Section,
    command: &'static Command,
}

const fn entry(group: &'static str, name: &'static str, command: &'static Command) -> Entry {
    Entry { group, name, section: Section::Plain, command }
}

const fn common(name: &'static str, command: &'static Command) -> Entry {
    Entry { group: "", name, section: Section::Common, command }
}

const fn own(name: &'static str, command: &'static Command) -> Entry {
    Entry { group: "", name, section: Section::Own, command }
}

const fn alias(group: &'static str, name: &'static str, command: &'static Command) -> Entry {
    Entry { group, name, section: Section::Unlisted, command }
}

/// Groups of commands, with what the help says of them.
const GROUPS: &[(&str, &str)] = &[
    ("builder", "Manage builds"),
    ("container", "Manage containers"),
    ("context", "Manage contexts"),
    ("daemon", "Manage the seacow daemon"),
    ("image", "Manage images"),
    ("network", "Manage networks"),
    ("registry", "Manage the daemon's own registry"),
    ("snapshot", "Keep what containers' files are: snapshot CONTAINER, snapshot ls, rm, prune"),
    ("storage", "Manage the store in a file"),
    ("system", "Manage seacow"),
    ("volume", "Manage volumes"),
];

const TREE: &[Entry] = &[
    common("run", &c::run::COMMAND),
    common("exec", &c::exec::COMMAND),
    common("ps", &c::ps::COMMAND),
    common("build", &c::build::COMMAND),
    common("pull", &c::pull::COMMAND),
    common("push", &c::push::COMMAND),
    common("images", &c::images::COMMAND),
    common("login", &c::login::COMMAND),
    common("logout", &c::logout::COMMAND),
    common("search", &c::search::COMMAND),
    common("version", &c::version::COMMAND),
    common("info", &c::info::COMMAND),
    own("clone", &c::snapshot::CLONE),
    own("cow", &c::cow::COMMAND),
    own("doctor", &c::doctor::COMMAND),
    own("fork", &c::fork::COMMAND),
    entry("", "attach", &c::attach::COMMAND),
    entry("", "commit", &c::commit::COMMAND),
    own("completion", &c::completion::COMMAND),
    own("rollback", &c::snapshot::ROLLBACK),
    entry("", "cp", &c::cp::COMMAND),
    entry("", "create", &c::create::COMMAND),
    entry("", "diff", &c::diff::COMMAND),
    entry("", "events", &c::events::COMMAND),
    entry("", "export", &c::export::COMMAND),
    entry("", "history", &c::history::COMMAND),
    entry("", "import", &c::import::COMMAND),
    entry("", "inspect", &c::inspect::COMMAND),
    entry("", "kill", &c::kill::COMMAND),
    entry("", "load", &c::load::COMMAND),
    entry("", "logs", &c::logs::COMMAND),
    entry("", "pause", &c::pause::PAUSE),
    entry("", "port", &c::port::COMMAND),
    entry("", "rename", &c::rename::COMMAND),
    entry("", "restart", &c::stop::RESTART),
    entry("", "rm", &c::rm::COMMAND),
    entry("", "rmi", &c::rmi::COMMAND),
    entry("", "save", &c::save::COMMAND),
    entry("", "start", &c::start::COMMAND),
    entry("", "stats", &c::stats::COMMAND),
    entry("", "stop", &c::stop::STOP),
    entry("", "tag", &c::tag::COMMAND),
    entry("", "top", &c::top::COMMAND),
    entry("", "unpause", &c::pause::UNPAUSE),
    entry("", "update", &c::update::COMMAND),
    entry("", "wait", &c::wait::COMMAND),
    entry("builder", "build", &c::build::COMMAND),
    entry("builder", "prune", &c::prune::BUILDER),
    entry("container", "attach", &c::attach::COMMAND),
    entry("container", "commit", &c::commit::COMMAND),
    entry("container", "cp", &c::cp::COMMAND),
    entry("container", "create", &c::create::COMMAND),
    entry("container", "diff", &c::diff::COMMAND),
    entry("container", "exec", &c::exec::COMMAND),
    entry("container", "export", &c::export::COMMAND),
    entry("container", "inspect", &c::inspect::CONTAINER),
    entry("container", "kill", &c::kill::COMMAND),
    alias("container", "list", &c::ps::COMMAND),
    entry("container", "logs", &c::logs::COMMAND),
    entry("container", "ls", &c::ps::COMMAND),
    entry("container", "pause", &c::pause::PAUSE),
    entry("container", "port", &c::port::COMMAND),
    entry("container", "prune", &c::prune::CONTAINERS),
    alias("container", "ps", &c::ps::COMMAND),
    alias("container", "remove", &c::rm::COMMAND),
    entry("container", "rename", &c::rename::COMMAND),
    entry("container", "restart", &c::stop::RESTART),
    entry("container", "rm", &c::rm::COMMAND),
    entry("container", "run", &c::run::COMMAND),
    entry("container", "start", &c::start::COMMAND),
    entry("container", "stats", &c::stats::COMMAND),
    entry("container", "stop", &c::stop::STOP),
    entry("container", "top", &c::top::COMMAND),
    entry("container", "unpause", &c::pause::UNPAUSE),
    entry("container", "update", &c::update::COMMAND),
    entry("container", "wait", &c::wait::COMMAND),
    entry("context", "create", &c::context::CREATE),
    entry("context", "docker", &c::context::DOCKER),
    entry("context", "inspect", &c::context::INSPECT),
    alias("context", "list", &c::context::LS),
    entry("context", "ls", &c::context::LS),
    alias("context", "remove", &c::context::RM),
    entry("context", "rm", &c::context::RM),
    entry("context", "show", &c::context::SHOW),
    entry("context", "use", &c::context::USE),
    entry("daemon", "log", &c::daemon::LOG),
    entry("daemon", "start", &c::daemon::START),
    entry("daemon", "status", &c::daemon::STATUS),
    entry("registry", "gc", &c::registry::GC),
    entry("registry", "start", &c::registry::START),
    entry("registry", "status", &c::registry::STATUS),
    entry("registry", "stop", &c::registry::STOP),
    entry("snapshot", "create", &c::snapshot::CREATE),
    alias("snapshot", "list", &c::snapshot::LS),
    entry("snapshot", "ls", &c::snapshot::LS),
    entry("snapshot", "prune", &c::prune::SNAPSHOTS),
    alias("snapshot", "remove", &c::snapshot::RM),
    entry("snapshot", "rm", &c::snapshot::RM),
    entry("storage", "init", &c::storage::INIT),
    entry("storage", "status", &c::storage::STATUS),
    entry("image", "build", &c::build::COMMAND),
    entry("image", "history", &c::history::COMMAND),
    entry("image", "import", &c::import::COMMAND),
    entry("image", "inspect", &c::inspect::IMAGE),
    alias("image", "list", &c::images::COMMAND),
    entry("image", "load", &c::load::COMMAND),
    entry("image", "ls", &c::images::COMMAND),
    entry("image", "prune", &c::prune::IMAGES),
    entry("image", "pull", &c::pull::COMMAND),
    entry("image", "push", &c::push::COMMAND),
    alias("image", "remove", &c::rmi::COMMAND),
    entry("image", "rm", &c::rmi::COMMAND),
    entry("image", "save", &c::save::COMMAND),
    entry("image", "tag", &c::tag::COMMAND),
    entry("network", "connect", &c::network::CONNECT),
    entry("network", "create", &c::network::CREATE),
    entry("network", "disconnect", &c::network::DISCONNECT),
    entry("network", "inspect", &c::inspect::NETWORK),
    alias("network", "list", &c::network_ls::COMMAND),
    entry("network", "ls", &c::network_ls::COMMAND),
    entry("network", "prune", &c::prune::NETWORKS),
    alias("network", "remove", &c::network::RM),
    entry("network", "rm", &c::network::RM),
    entry("system", "df", &c::system_df::COMMAND),
    alias("system", "dial-stdio", &c::dial_stdio::COMMAND),
    entry("system", "events", &c::events::COMMAND),
    entry("system", "info", &c::info::COMMAND),
    entry("system", "prune", &c::prune::SYSTEM),
    entry("volume", "clone", &c::volume_snapshot::CLONE),
    entry("volume", "create", &c::volume::CREATE),
    entry("volume", "inspect", &c::inspect::VOLUME),
    alias("volume", "list", &c::volume::LS),
    entry("volume", "ls", &c::volume::LS),
    entry("volume", "prune", &c::prune::VOLUMES),
    entry("volume", "rollback", &c::volume_snapshot::ROLLBACK),
    entry("volume", "snapshot", &c::volume_snapshot::CREATE),
    entry("volume", "snapshot-rm", &c::volume_snapshot::RM),
    entry("volume", "snapshots", &c::volume_snapshot::LS),
    alias("volume", "remove", &c::volume::RM),
    entry("volume", "rm", &c::volume::RM),
];

fn find(group: &str, name: &str) -> Option<&'static Entry> {
    TREE.iter().find(|e| e.group == group && e.name == name)
}

/// A group that is a verb too.
const SNAPSHOT: &str = "snapshot";

fn is_group(name: &str) -> bool {
    GROUPS.iter().any(|(group, _)| *group == name)
}

/// Runs the command that `args` names.
pub(crate) fn run(args: &[String], globals: &Globals) -> Outcome {
    let Some((first, rest)) = args.split_first() else { return crate::out(&help()) };
    if first == "help" {
        return help_on(rest);
    }
    if first == "__complete" {
        return c::completion::complete(rest);
    }
    if is_group(first) {
        return run_in_group(first, rest, globals);
    }
    match find("", first) {
        Some(entry) => command::invoke(entry.command, first, rest, globals),
        None => Err(unknown("", first)),
    }
}

fn run_in_group(group: &str, args: &[String], globals: &Globals) -> Outcome {
    match args.first().map(String::as_str) {
        None | Some("--help" | "-h") => crate::out(&group_help(group)),
        // `snapshot CONTAINER`: the verb is the group's name.
        Some(name) if group == SNAPSHOT && find(group, name).is_none() => {
            command::invoke(&c::snapshot::CREATE, group, args, globals)
        }
        Some(flag) if flag.starts_with('-') => Err(Failure::Status {
            text: format!(
                "unknown flag: {flag}\n\nUsage:  seacow {group}\n\nRun 'seacow {group} --help' for more information"
            ),
            code: crate::failure::USAGE,
        }),
        Some(name) => match find(group, name) {
            Some(entry) => command::invoke(entry.command, &format!("{group} {name}"), &args[1..], globals),
            None => Err(unknown(group, name)),
        },
    }
}

fn help_on(words: &[String]) -> Outcome {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let page = match words.as_slice() {
        [] => Some(help()),
        [group] if is_group(group) => Some(group_help(group)),
        [name] => find("", name).map(|e| command::help(e.command, name)),
        [group, name, ..] if is_group(group) => {
            find(group, name).map(|e| command::help(e.command, &format!("{group} {name}")))
        }
        [name, ..] => find("", name).map(|e| command::help(e.command, name)),
    };
    match page {
        Some(page) => crate::out(&page),
        None => Err(Failure::Refused(format!("unknown help topic: {}", words.join(" ")))),
    }
}

/// What docker has, or later versions of seacow will have, and this one has not.
const ABSENT: &[(&str, &str)] = &[
    ("buildx", "images are built with `seacow build`"),
    ("checkpoint", "containers cannot be checkpointed"),
    (
        "compose",
        "docker's compose works with seacow: DOCKER_HOST=unix:///run/seacow/seacow.sock docker compose …",
    ),
    ("config", "there is no swarm mode"),
    ("fork", "running containers cannot be forked yet"),
    ("manifest", "manifest lists cannot be edited"),
    ("node", "there is no swarm mode"),
    ("plugin", "there are no plugins"),
    ("secret", "there is no swarm mode"),
    ("service", "there is no swarm mode"),
    ("stack", "there is no swarm mode"),
    ("swarm", "there is no swarm mode"),
    ("trust", "content trust is not supported"),
];

fn unknown(group: &str, name: &str) -> Failure {
    if let Some((_, why)) = ABSENT.iter().find(|(absent, _)| group.is_empty() && *absent == name) {
        return Failure::Refused(format!("NotImplemented: seacow {name}: {why}"));
    }
    let path = if group.is_empty() { name.to_owned() } else { format!("{group} {name}") };
    let mut text = format!("seacow: unknown command: seacow {path}\n");
    if let Some(near) = nearest(group, name) {
        text.push_str(&format!("\nDid you mean '{near}'?\n"));
    }
    if group.is_empty() {
        text.push_str("\nRun 'seacow --help' for more information");
    } else {
        text.push_str(&format!(
            "\nUsage:  seacow {group}\n\nRun 'seacow {group} --help' for more information"
        ));
    }
    Failure::Refused(text)
}

/// The listed command most like `name`, if one is close.
fn nearest(group: &str, name: &str) -> Option<&'static str> {
    let names = TREE.iter().filter(|e| e.group == group && e.section != Section::Unlisted).map(|e| e.name);
    let groups = GROUPS.iter().map(|(g, _)| *g).filter(|_| group.is_empty());
    names
        .chain(groups)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(d, candidate)| *d <= candidate.len().div_ceil(4).min(2))
        .min_by_key(|(d, _)| *d)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn listing(heading: &str, lines: impl Iterator<Item = (&'static str, &'static str)>) -> String {
    // docker pads all of a page's lists to the same column; 12 fits its longest names.
    lines.fold(format!("{heading}\n"), |page, (name, about)| page + &format!("  {name:<11} {about}\n"))
}

/// The page that `seacow` and `seacow --help` show.
pub(crate) fn help() -> String {
    let in_section = |section: Section| {
        let mut entries: Vec<_> =
            TREE.iter().filter(|e| e.group.is_empty() && e.section == section).collect();
        if section != Section::Common {
            entries.sort_by_key(|e| e.name);
        }
        entries.into_iter().map(|e| (e.name, e.command.about))
    };
    [
        "Usage:  seacow [OPTIONS] COMMAND\n\nA container engine that copies on write\n".to_owned(),
        listing("Common Commands:", in_section(Section::Common)),
        listing("Copy-on-write and own Commands:", in_section(Section::Own)),
        listing("Management Commands:", GROUPS.iter().copied()),
        listing("Commands:", in_section(Section::Plain)),
        format!("Global Options:\n{}", flags::flag_usages(&[globals::FLAGS], flags::wrap_width())),
        "Run 'seacow COMMAND --help' for more information on a command.\n".to_owned(),
    ]
    .join("\n")
}

fn group_help(group: &str) -> String {
    let about = GROUPS.iter().find(|(name, _)| *name == group).map_or("", |(_, about)| about);
    let entries = TREE.iter().filter(|e| e.group == group && e.section != Section::Unlisted);
    format!(
        "Usage:  seacow {group} COMMAND\n\n{about}\n\n{}\nRun 'seacow {group} COMMAND --help' for more information on a command.\n",
        listing("Commands:", entries.map(|e| (e.name, e.command.about)))
    )
}

/// Names that may follow `words`, for the completion of shells.
pub(crate) fn candidates(words: &[String]) -> Vec<(String, &'static str)> {
    let group = words.first().map(String::as_str).filter(|w| is_group(w));
    let entries = TREE.iter().filter(|e| e.group == group.unwrap_or("") && e.section != Section::Unlisted);
    let mut all: Vec<(String, &'static str)> =
        entries.map(|e| (e.name.to_owned(), e.command.about)).collect();
    if group.is_none() {
        all.extend(GROUPS.iter().map(|(name, about)| ((*name).to_owned(), *about)));
    }
    all
}

/// The command that `words` begin with, and how many of them name it.
pub(crate) fn lookup(words: &[String]) -> Option<(&'static Command, usize)> {
    let first = words.first()?;
    if is_group(first) {
        return find(first, words.get(1)?).map(|e| (e.command, 2));
    }
    find("", first).map(|e| (e.command, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_unique_and_every_group_exists() {
        for (i, e) in TREE.iter().enumerate() {
            assert!(e.group.is_empty() || is_group(e.group), "{}", e.group);
            assert!(
                !TREE[..i].iter().any(|o| o.group == e.group && o.name == e.name),
                "{} {} twice",
                e.group,
                e.name
            );
        }
    }

    #[test]
    fn flags_of_a_command_are_unique() {
        for e in TREE {
            let flags: Vec<_> = e.command.flags.iter().flat_map(|t| t.iter()).collect();
            for (i, f) in flags.iter().enumerate() {
                assert!(!flags[..i].iter().any(|o| o.long == f.long), "{} --{}", e.name, f.long);
                let twice = flags[..i].iter().any(|o| o.short == f.short && f.short != crate::flags::NO);
                assert!(!twice, "{} -{}", e.name, f.short);
            }
        }
    }

    #[test]
    fn suggestions() {
        assert_eq!(nearest("", "psx"), Some("ps"));
        assert_eq!(nearest("container", "inspct"), Some("inspect"));
        assert_eq!(nearest("", "frobnicate"), None);
    }
}
