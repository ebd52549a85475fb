//! Another runtime as a command: one call, its outcome.
//!
//! A call takes 10 to 100 ms with the usual runtimes. Those that make a process (create, start, exec) are
//! waited for, while output of the container waits in its pipes; the others are only begun, and looked
//! at again. One that hangs is killed.

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use seacow_runtime::Streams;
use seacow_spec::shim::RuntimeCommand;
use seacow_spec::{Classified, ErrorClass, ErrorReport};
use seacow_sys::command::{die_with_parent, wait_within};
use seacow_sys::process::Ended;

use super::files::Files;

/// How long a call may take: a daemon waits 60 s for an answer.
const PATIENCE: Duration = Duration::from_secs(45);
/// Runtimes look for helpers of their own; we were started without an environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What runtimes say before the matter itself, and the engine says already.
const PREAMBLES: [&str; 4] =
    ["runc create failed: ", "exec failed: ", "unable to start container process: ", "runc run failed: "];

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The runtime itself refused or failed.
    #[error("{text}")]
    Failed {
        /// What it logged.
        text: String,
    },
    /// It ended without a word.
    #[error("{runtime} {verb} ended with {status} and no message")]
    Wordless {
        /// Its path.
        runtime: String,
        /// What it was asked for.
        verb: String,
        /// How it ended.
        status: String,
    },
    /// It could not be run.
    #[error("run the runtime {runtime}: {source}")]
    Spawn {
        /// Its path.
        runtime: String,
        /// Why.
        source: std::io::Error,
    },
    /// It hung and was killed.
    #[error("{runtime} {verb} did not end within {}s", PATIENCE.as_secs())]
    Hung {
        /// Its path.
        runtime: String,
        /// What it was asked for.
        verb: String,
    },
}

impl Classified for CallError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Internal
    }
}

/// A call under way. Dropped before its end, it is killed.
pub(crate) struct Call {
    child: Child,
    verb: &'static str,
    /// The file that it logs to.
    log: String,
    until: Instant,
    /// Known once it was reaped; its pid may be somebody else's then.
    status: Option<ExitStatus>,
}

impl Call {
    /// When its time is up.
    pub(crate) fn deadline(&self) -> Instant {
        self.until
    }

    /// A child of ours was reaped; tells whether it was this one.
    pub(crate) fn reaped(&mut self, pid: i32, ended: Ended) -> bool {
        let is_it = self.status.is_none() && i32::try_from(self.child.id()) == Ok(pid);
        if is_it {
            self.status = Some(ExitStatus::from_raw(match ended {
                Ended::Exited(code) => code << 8,
                Ended::Killed(signal) => signal,
            }));
        }
        is_it
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.status.is_none() {
            // It has ended just now, or ends now.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A runtime and where it keeps its things.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    command: RuntimeCommand,
    files: Files,
    /// Numbers the calls: several may have the same verb.
    calls: Cell<u32>,
}

impl Runtime {
    pub(crate) fn new(command: RuntimeCommand, files: Files) -> Self {
        Self { command, files, calls: Cell::new(0) }
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Runs one verb to its end. `streams` are what a process that it makes gets.
    pub(crate) fn call(
        &self,
        verb: &str,
        arguments: &[&OsStr],
        streams: Option<Streams>,
    ) -> Result<(), ErrorReport> {
        self.run(verb, arguments, streams).map_err(|error| report(&error))
    }

    /// Begins with one verb.
    pub(super) fn begin(&self, verb: &'static str, arguments: &[&OsStr]) -> Result<Call, ErrorReport> {
        let log = self.new_log(verb);
        let child = self.spawn(verb, &log, arguments, None).map_err(|error| report(&error))?;
        Ok(Call { child, verb, log, until: Instant::now() + PATIENCE, status: None })
    }

    /// How it ended, if it has; after its time it is as good as ended, and killed when it is dropped.
    pub(super) fn outcome_by(&self, call: &mut Call, now: Instant) -> Option<Result<(), ErrorReport>> {
        let outcome = self.outcome(call);
        if outcome.is_none() && now >= call.until {
            let hung = CallError::Hung { runtime: self.name(), verb: call.verb.into() };
            return Some(Err(report(&hung)));
        }
        outcome
    }

    /// How it ended, if it has.
    pub(super) fn outcome(&self, call: &mut Call) -> Option<Result<(), ErrorReport>> {
        if call.status.is_none() {
            call.status = match call.child.try_wait() {
                Ok(status) => status,
                Err(source) => return Some(Err(report(&self.not_run(source)))),
            };
        }
        let judged = self.judge(call.verb, &call.log, call.status?);
        Some(judged.map_err(|error| report(&error)))
    }

    fn run(&self, verb: &str, arguments: &[&OsStr], streams: Option<Streams>) -> Result<(), CallError> {
        let log = self.new_log(verb);
        let mut child = self.spawn(verb, &log, arguments, streams)?;
        match wait_within(&mut child, PATIENCE).map_err(|source| self.not_run(source))? {
            Some(status) => self.judge(verb, &log, status),
            None => Err(CallError::Hung { runtime: self.name(), verb: verb.into() }),
        }
    }

    fn name(&self) -> String {
        self.command.path.display().to_string()
    }

    fn not_run(&self, source: std::io::Error) -> CallError {
        CallError::Spawn { runtime: self.name(), source }
    }

    /// A file of its own: what another call says would be taken for this one's.
    fn new_log(&self, verb: &str) -> String {
        self.calls.set(self.calls.get().wrapping_add(1));
        format!("{verb}-{}", self.calls.get())
    }

    fn spawn(
        &self,
        verb: &str,
        log: &str,
        arguments: &[&OsStr],
        streams: Option<Streams>,
    ) -> Result<Child, CallError> {
        let mut command = self.command_line(verb, log, arguments);
        if let Some(Streams::Files { stdin, stdout, stderr }) = streams {
            command.stdin(stdin).stdout(stdout).stderr(stderr);
        }
        // The command goes with this function: its copies of the streams would keep them open.
        command.spawn().map_err(|source| self.not_run(source))
    }

    fn judge(&self, verb: &str, log: &str, status: ExitStatus) -> Result<(), CallError> {
        let complaint = self.files.take_complaint(log);
        if status.success() {
            return Ok(());
        }
        Err(match complaint {
            Some(text) => CallError::Failed { text: in_common_words(&text) },
            None => {
                CallError::Wordless { runtime: self.name(), verb: verb.into(), status: status.to_string() }
            }
        })
    }

    fn command_line(&self, verb: &str, log: &str, arguments: &[&OsStr]) -> Command {
        let mut command = Command::new(&self.command.path);
        command.args(&self.command.args);
        command.arg("--root").arg(self.files.state());
        command.arg("--log").arg(self.files.log(log)).args(["--log-format", "json"]);
        command.arg(verb).args(arguments);
        command.env_clear().env("PATH", PATH).current_dir(Path::new("/"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        die_with_parent(&mut command);
        command
    }
}

fn report(error: &CallError) -> ErrorReport {
    let report = ErrorReport::of(error);
    match error {
        CallError::Failed { text } => match exit_code(text) {
            Some(code) => report.with_exit_code(code),
            None => report,
        },
        CallError::Wordless { .. } | CallError::Spawn { .. } | CallError::Hung { .. } => report,
    }
}

/// The matter itself, with errors of the kernel in runc's spelling: clients look for those words,
/// and other runtimes write them as the C library does.
fn in_common_words(mut text: &str) -> String {
    while let Some(rest) = PREAMBLES.iter().find_map(|preamble| text.strip_prefix(preamble)) {
        text = rest;
    }
    if let Some(name) = not_found_by_crun(text) {
        // A path is not looked for.
        return match name.contains('/') {
            true => format!("exec: {name:?}: stat {name}: no such file or directory"),
            false => format!("exec: {name:?}: executable file not found in $PATH"),
        };
    }
    // crun's answer to a program that is a directory, where runc has the kernel's.
    let text = text.replace("open executable: Operation not permitted", "open executable: Permission denied");
    ["No such file or directory", "Permission denied", "Not a directory"]
        .iter()
        .fold(text, |text, words| text.replace(words, &words.to_lowercase()))
}

/// What crun did not find: it puts the name in the middle of the words that clients look for.
fn not_found_by_crun(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("executable file `")?;
    let (name, rest) = rest.split_once('`')?;
    rest.starts_with(" not found in $PATH").then_some(name)
}

/// The exit status that a runtime's words stand for; dockerd reads them in the same way.
fn exit_code(text: &str) -> Option<i32> {
    let text = text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if says(&["executable file not found", "no such file or directory", "not a directory"]) {
        return Some(127);
    }
    says(&["permission denied", "exec format error", "is a directory"]).then_some(126)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_runtimes() {
        let runc = "runc create failed: unable to start container process: exec: \"x\": executable file not found in $PATH";
        assert_eq!(in_common_words(runc), "exec: \"x\": executable file not found in $PATH");
        assert_eq!(exit_code(runc), Some(127));
        let crun = "executable file `x` not found in $PATH: No such file or directory";
        assert_eq!(in_common_words(crun), "exec: \"x\": executable file not found in $PATH");
        assert_eq!(exit_code(crun), Some(127));
        let path = crun.replace("`x`", "`/x`");
        assert_eq!(in_common_words(&path), "exec: \"/x\": stat /x: no such file or directory");
        assert_eq!(exit_code("open executable: Permission denied"), Some(126));
        let directory = in_common_words("open executable: Operation not permitted");
        assert_eq!(
            (directory.as_str(), exit_code(&directory)),
            ("open executable: permission denied", Some(126))
        );
        assert_eq!(exit_code("mount: Operation not permitted"), None);
        assert_eq!(exit_code("something else"), None);
    }

    #[test]
    fn complaints_and_silence() {
        let temporary = tempfile::tempdir().unwrap();
        let files = Files::new(temporary.path().join("oci"));
        files.make().unwrap();
        let script = temporary.path().join("runtime");
        let run = |text: &str| {
            // Written by another process: a descriptor of ours that a fork inherits would make it busy.
            let made = std::process::Command::new("sh")
                .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\"; chmod 700 \"$0\""])
                .arg(&script)
                .arg(text)
                .status();
            assert!(made.unwrap().success());
            let command = RuntimeCommand { path: script.clone(), args: vec!["--x".into()] };
            Runtime::new(command, files.clone()).call("state", &["id".as_ref()], None)
        };
        run("test \"$1 $2 $4 $6 $8\" = '--x --root --log --log-format state'").unwrap();
        let refused =
            run("echo '{\"level\":\"error\",\"msg\":\"exec failed: permission denied\"}' > \"$5\"; exit 1");
        let refused = refused.unwrap_err();
        assert_eq!((refused.to_string().as_str(), refused.exit_code), ("permission denied", Some(126)));
        let wordless = run("exit 3").unwrap_err().to_string();
        assert!(wordless.contains("state ended with exit status: 3 and no message"), "{wordless}");
        let command = RuntimeCommand { path: "/no/such".into(), args: Vec::new() };
        let missing = Runtime::new(command, files).call("state", &[], None).unwrap_err().to_string();
        assert!(missing.contains("/no/such"), "{missing}");
    }
}
