//! Error classes and the report that crosses process borders.
//!
//! Libraries have their own error enums; each can say which of these few classes it belongs to
//! ([`Classified`]). The daemon alone turns a class into an HTTP status. Between processes an
//! error travels as an [`ErrorReport`]: class, message and the chain of causes as a list.

use serde::{Deserialize, Serialize};

/// What kind of failure it was, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The named thing does not exist.
    NotFound,
    /// The thing exists but its state forbids the request.
    Conflict,
    /// The request itself is wrong; repeating it will not help.
    InvalidArgument,
    /// The caller has not proven who they are.
    Unauthorized,
    /// The caller may not do this.
    Forbidden,
    /// Already so; nothing was done.
    NotModified,
    /// Not built yet, or not possible on this host; the text says what is missing.
    NotImplemented,
    /// Something this depends on is not there at the moment.
    Unavailable,
    /// A fault of the engine or the machine.
    Internal,
}

/// An error that knows its class.
pub trait Classified: std::error::Error {
    /// The class a caller should act on.
    fn class(&self) -> ErrorClass;
}

/// An error as it crosses a process border.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// What kind of failure it was.
    pub class: ErrorClass,
    /// The failed step with its operands, one sentence.
    pub message: String,
    /// Causes, outermost first, without `message` itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Exit status that Docker's clients expect for it (126, 127), where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

impl ErrorReport {
    /// A report without causes.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), causes: Vec::new(), exit_code: None }
    }

    /// The same report with the exit status a client should see.
    #[must_use]
    pub fn with_exit_code(mut self, code: i32) -> Self {
        self.exit_code = Some(code);
        self
    }

    /// Takes an error with its whole chain of sources.
    pub fn of(error: &dyn Classified) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self { class: error.class(), message: error.to_string(), causes, exit_code: None }
    }
}

impl std::fmt::Display for ErrorReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        let mut last = self.message.as_str();
        for cause in &self.causes {
            // Many errors already print their source; saying it twice helps nobody.
            if !last.ends_with(cause.as_str()) {
                write!(f, ": {cause}")?;
            }
            last = cause;
        }
        Ok(())
    }
}

impl std::error::Error for ErrorReport {}

impl Classified for ErrorReport {
    fn class(&self) -> ErrorClass {
        self.class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_already_in_the_message_is_not_repeated() {
        let report = ErrorReport {
            class: ErrorClass::Internal,
            message: "open /x: no such file".into(),
            causes: vec!["no such file".into(), "deeper".into()],
            exit_code: None,
        };
        assert_eq!(report.to_string(), "open /x: no such file: deeper");
    }
}
