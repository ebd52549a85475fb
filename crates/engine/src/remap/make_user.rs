//! The user whom nobody named: made with the distribution's own programs, once per machine.

use std::process::Command;

use super::RemapError;
use super::accounts::{Accounts, first_free};

/// Ids that a user is granted, as distributions do (login.defs, SUB_UID_COUNT).
const COUNT: u32 = 65_536;

/// Makes a system user with a group of his name and a range of ids of each kind.
pub(super) fn make(user: &str) -> Result<(), RemapError> {
    let shell = ["--shell", "/usr/sbin/nologin"];
    run(user, Command::new("useradd").args(["--system", "--user-group", "--no-create-home"]).args(shell))?;
    let first = first_free(&Accounts::of_host()?);
    let range = format!("{first}-{}", first.saturating_add(COUNT - 1));
    run(user, Command::new("usermod").args(["--add-subuids", &range, "--add-subgids", &range]))
}

/// Runs a program whose last argument is the user.
fn run(user: &str, program: &mut Command) -> Result<(), RemapError> {
    let failed = |why: String| RemapError::Creation { user: user.to_owned(), why };
    let name = program.get_program().to_string_lossy().into_owned();
    let output = program.arg(user).output().map_err(|error| failed(format!("{name}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(format!("{name}: {}: {words}", output.status)))
}
