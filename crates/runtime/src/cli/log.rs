//! Telling the caller: standard error, and the log file its kind of callers read.

use std::io::Write;
use std::process::ExitCode;

use seacow_spec::time::Timestamp;

use super::args::Globals;
use super::error::CliError;

/// Reports a failed command and gives its exit status.
pub(crate) fn report(globals: &Globals, error: &CliError) -> ExitCode {
    let line = error.line();
    write(globals, "error", &line);
    eprintln!("{line}");
    let code = match error {
        CliError::Runtime(error) => error.exit_code().unwrap_or(1),
        _ => 1,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Tells of something that does not stop a command: in the log where there is one, otherwise on
/// standard error.
pub(crate) fn warn(globals: &Globals, what: &dyn std::fmt::Display) {
    let line = what.to_string();
    write(globals, "warning", &line);
    if globals.log.is_none() {
        eprintln!("seacow-runtime: warning: {line}");
    }
}

fn write(globals: &Globals, level: &str, line: &str) {
    let Some(path) = &globals.log else { return };
    let time = Timestamp::now().to_string();
    let text = if globals.log_json {
        serde_json::json!({ "level": level, "msg": line, "time": time }).to_string()
    } else {
        format!("time={time:?} level={level} msg={line:?}")
    };
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
    if let Err(error) = opened.and_then(|mut file| writeln!(file, "{text}")) {
        eprintln!("write log {}: {error}", path.display());
    }
}
