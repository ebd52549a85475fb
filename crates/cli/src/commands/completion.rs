//! `completion`: scripts for shells. They ask this program itself (`__complete`), so they know
//! every command, every flag, and the names of the engine's objects.

use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{self, NO};
use crate::format::Json;
use crate::globals::{self, Globals};
use crate::tree;

/// `completion`
pub(crate) const COMMAND: Command = Command {
    usage: "bash|zsh|fish",
    about: "Generate the autocompletion script for the specified shell",
    long: "Generate the autocompletion script for the specified shell.\n\nFor example: seacow completion bash > /etc/bash_completion.d/seacow",
    args: Args::Exactly(1),
    run,
    ..Command::EMPTY
};

const BASH: &str = r#"# bash completion for seacow
_seacow() {
    local cur=${COMP_WORDS[COMP_CWORD]} line
    COMPREPLY=()
    while IFS= read -r line; do
        [[ $line == "$cur"* ]] && COMPREPLY+=("$line")
    done < <(seacow __complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null | cut -f1)
}
complete -o default -F _seacow seacow
"#;

const ZSH: &str = r#"#compdef seacow
_seacow() {
    local -a found
    local line
    while IFS= read -r line; do
        found+=("${line%%$'\t'*}:${line#*$'\t'}")
    done < <(seacow __complete "${(@)words[2,CURRENT-1]}" 2>/dev/null)
    _describe seacow found || _files
}
compdef _seacow seacow
"#;

const FISH: &str = r#"# fish completion for seacow
function __seacow_complete
    set -l words (commandline -opc)
    seacow __complete $words[2..-1] 2>/dev/null
end
complete -c seacow -a '(__seacow_complete)'
"#;

fn run(invocation: &Invocation<'_>) -> Outcome {
    match invocation.arg(0) {
        "bash" => crate::out(BASH),
        "zsh" => crate::out(ZSH),
        "fish" => crate::out(FISH),
        other => Err(Failure::Refused(format!("no completion for {other:?}: bash, zsh and fish are known"))),
    }
}

/// `__complete WORDS…`: what may follow, one per line: the word, a tab, its description.
pub(crate) fn complete(words: &[String]) -> Outcome {
    for (word, about) in candidates(words) {
        crate::outln(&format!("{word}\t{about}"))?;
    }
    Ok(())
}

fn candidates(words: &[String]) -> Vec<(String, String)> {
    let owned = |pairs: Vec<(String, &'static str)>| -> Vec<(String, String)> {
        pairs.into_iter().map(|(w, a)| (w, a.to_owned())).collect()
    };
    let Some((command, named_by)) = tree::lookup(words) else {
        let mut all = owned(tree::candidates(words));
        if words.is_empty() {
            all.extend(globals::FLAGS.iter().map(|f| (format!("--{}", f.long), f.help.to_owned())));
        }
        return all;
    };
    let mut all = objects(words, named_by);
    for flag in command.flags.iter().flat_map(|t| t.iter()).filter(|f| !f.hidden) {
        let about = flag.help.lines().next().unwrap_or("");
        all.push((format!("--{}", flag.long), about.to_owned()));
        if flag.short != NO {
            all.push((format!("-{}", flag.short), about.to_owned()));
        }
    }
    all
}

/// Names of containers or images, where the command takes such; nothing if no engine answers.
fn objects(words: &[String], named_by: usize) -> Vec<(String, String)> {
    const CONTAINERS: [&str; 21] = [
        "attach", "commit", "cp", "diff", "exec", "export", "inspect", "kill", "logs", "pause", "port",
        "rename", "restart", "rm", "start", "stats", "stop", "top", "unpause", "update", "wait",
    ];
    const IMAGES: [&str; 8] = ["run", "create", "history", "rmi", "save", "tag", "push", "inspect"];
    let (group, verb) = match named_by {
        2 => (words[0].as_str(), words[1].as_str()),
        _ => ("", words[0].as_str()),
    };
    let Ok(none) = flags::parse(&[globals::FLAGS], false, &[]) else { return Vec::new() };
    let globals = Globals::new(&none);
    let Ok(client) = globals.client() else { return Vec::new() };
    if client.endpoint.dial.connect().is_err() {
        // Completing a word is no reason to start a daemon.
        return Vec::new();
    }
    let mut all = Vec::new();
    if matches!(group, "" | "container")
        && CONTAINERS.contains(&verb)
        && let Ok(list) = client.get("/containers/json").flag("all", true).json::<Json>()
    {
        let names = list.array().iter().flat_map(|c| c.get("Names").strings());
        all.extend(names.map(|n| (n.trim_start_matches('/').to_owned(), "container".to_owned())));
    }
    if matches!(group, "" | "image" | "container")
        && IMAGES.contains(&verb)
        && let Ok(list) = client.get("/images/json").json::<Json>()
    {
        let names = list.array().iter().flat_map(|i| i.get("RepoTags").strings());
        all.extend(names.map(|n| (n.to_owned(), "image".to_owned())));
    }
    all
}
