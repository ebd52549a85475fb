//! Telling the caller: standard error, and the log file its kind of callers read.

use std::io::Write;
use std::process::ExitCode;

use seacow_spec::time::Timestamp;

use super::args::Globals;
use super::error::CliError;

/// Reports a failed command and gives its exit status.
pub(crate) fn report(globals: &Globals, error: &CliError) -> ExitCode {
    let line = error.line();
    if let Some(path) = &globals.log {
        let time = Timestamp::now().to_string();
        let text = if globals.log_json {
            serde_json::json!({ "level": "error", "msg": line, "time": time }).to_string()
        } else {
            format!("time={time:?} level=error msg={line:?}")
        };
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = opened.and_then(|mut file| writeln!(file, "{text}")) {
            eprintln!("write log {}: {error}", path.display());
        }
    }
    eprintln!("{line}");
    let code = match error {
        CliError::Runtime(error) => error.exit_code().unwrap_or(1),
        _ => 1,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
