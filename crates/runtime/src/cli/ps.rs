//! `ps`.

use std::collections::BTreeSet;
use std::process::Command;

use super::args::{Globals, Parsed};
use super::error::CliError;
use super::state::StateDir;

/// The processes in a container: pids as JSON, or the host's `ps` cut down to them.
pub(crate) fn ps(globals: &Globals, parsed: &Parsed) -> Result<String, CliError> {
    let record = StateDir::of(globals, parsed.id()?)?.read()?;
    let json = parsed.wants_json()?;
    let pids = record.cgroups()?.pids()?;
    if json {
        return Ok(format!("{}\n", serde_json::json!(pids)));
    }
    let mut options = parsed.operands.get(1..).unwrap_or(&[]).to_vec();
    if options.is_empty() {
        options.push("-ef".into());
    }
    let output = Command::new("ps").args(&options).output().map_err(|e| CliError::file("run", "ps", e))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(CliError::State(format!("ps {}: {}", options.join(" "), why.trim())));
    }
    only(&String::from_utf8_lossy(&output.stdout), &pids)
}

/// The header and the lines of these processes.
fn only(table: &str, pids: &[i32]) -> Result<String, CliError> {
    let pids: BTreeSet<String> = pids.iter().map(i32::to_string).collect();
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_whitespace()
        .position(|title| title == "PID")
        .ok_or_else(|| CliError::State("couldn't find PID field in ps output".into()))?;
    let ours = lines.filter(|l| l.split_whitespace().nth(column).is_some_and(|pid| pids.contains(pid)));
    Ok(std::iter::once(header).chain(ours).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_the_table_down() {
        let table = "  PID TTY  CMD\n    1 ?    init\n   21 ?    sleep 1\n";
        assert_eq!(only(table, &[21]).unwrap(), "  PID TTY  CMD\n   21 ?    sleep 1\n");
        assert!(only("no such column\n", &[]).is_err());
    }
}
