//! Telling the caller: standard error, and the log file that its kind of callers read.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use seacow_spec::time::Timestamp;

use super::error::CliError;

/// Where messages go. Without a file it is standard error.
#[derive(Debug, Default)]
pub(crate) struct Log {
    file: Option<File>,
    json: bool,
    debug: bool,
}

impl Log {
    /// Opens the log file, appending.
    pub(crate) fn open(path: Option<&str>, json: bool, debug: bool) -> Result<Self, CliError> {
        let file = match path {
            None | Some("") => None,
            Some(path) => Some(
                File::options()
                    .create(true)
                    .append(true)
                    .open(path)
                    .map_err(|e| CliError::file("open log", Path::new(path), e))?,
            ),
        };
        Ok(Self { file, json, debug })
    }

    /// A step, with `--debug`.
    pub(crate) fn debug(&self, message: &str) {
        if self.debug {
            self.write("debug", message);
        }
    }

    /// Something the caller should know of.
    pub(crate) fn warn(&self, what: &dyn std::fmt::Display) {
        self.write("warning", &what.to_string());
    }

    /// Something only a reader of the log file may want to know: without one, standard error is the
    /// program's own, and would end up in the container's log.
    pub(crate) fn note(&self, what: &dyn std::fmt::Display) {
        if self.file.is_some() || self.debug {
            self.warn(what);
        }
    }

    /// Reports a failed command and gives its exit status.
    pub(crate) fn report(&self, error: &CliError) -> ExitCode {
        let line = error.line();
        if self.file.is_some() {
            self.write("error", &line);
        }
        eprintln!("{line}");
        ExitCode::from(error.exit_code())
    }

    fn write(&self, level: &str, message: &str) {
        let time = Timestamp::now().to_string();
        let line = if self.json {
            serde_json::json!({ "level": level, "msg": message, "time": time }).to_string()
        } else {
            format!("time={time:?} level={level} msg={message:?}")
        };
        match &self.file {
            // A log that cannot be written must not end the command.
            Some(file) => {
                let mut file: &File = file;
                drop(writeln!(file, "{line}"));
            }
            None => eprintln!("{line}"),
        }
    }
}
