//! What these tests share.

#![allow(dead_code, reason = "each test program uses its part")]

use std::path::Path;
use std::process::{Command, Stdio};

/// The result of one run, the program's name exchanged so that both read alike.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a client against `host`; nothing of the caller's environment chooses another engine.
pub(crate) fn run(program: &str, host: &str, args: &[String]) -> Ran {
    let output = Command::new(program)
        .arg("-H")
        .arg(host)
        .args(args)
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT")
        .env_remove("SEACOW_HOST")
        .env_remove("SEACOW_CONTEXT")
        .env("B", "value")
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    Ran {
        code: output.status.code(),
        out: one_name(&String::from_utf8_lossy(&output.stdout)),
        err: one_name(&String::from_utf8_lossy(&output.stderr)),
    }
}

fn one_name(text: &str) -> String {
    text.replace("docker", "seacow").replace("Docker", "Seacow")
}

/// The client under test.
pub(crate) fn seacow() -> &'static str {
    env!("CARGO_BIN_EXE_seacow")
}

/// Whether docker's client is here to be compared with; says so loudly if it is not.
pub(crate) fn docker_is_here(test: &str) -> bool {
    let here = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("docker").is_file()));
    if !here {
        eprintln!("SKIPPED {test}: docker's client is not on the PATH");
    }
    here
}

/// The command lines of a case file, split into words as a shell would.
pub(crate) fn cases(name: &str) -> Vec<(String, Vec<String>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.map(|line| (line.to_owned(), words(line))).collect()
}

/// Words with '…' and "…" as in a POSIX shell, without expansions.
fn words(line: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word = String::new();
    let mut inside = false;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                inside = true;
            }
            (None, ' ') if inside => {
                all.push(std::mem::take(&mut word));
                inside = false;
            }
            (None, ' ') => {}
            (None, c) => {
                word.push(c);
                inside = true;
            }
        }
    }
    if inside {
        all.push(word);
    }
    all
}

/// Fails with every difference, not with the first.
pub(crate) fn report(differences: &[String], compared: usize) {
    assert!(
        differences.is_empty(),
        "{} of {compared} command lines differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// The address of a real engine to test against, or a loud word that there is none.
pub(crate) fn oracle(test: &str) -> Option<String> {
    let host = std::env::var("SEACOW_ORACLE_HOST").ok().filter(|h| !h.is_empty());
    if host.is_none() {
        eprintln!("SKIPPED {test}: SEACOW_ORACLE_HOST is not set (crates/cli/tests/oracle.sh sets it)");
    }
    host
}
