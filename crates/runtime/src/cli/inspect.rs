//! `state`, `list`, `ps`.

use std::collections::BTreeSet;
use std::process::Command;

use seacow_runtime::cgroup::Cgroups;

use super::args::{Globals, Parsed};
use super::error::CliError;
use super::state::{self, Record, StateDir, Status};

/// Prints the OCI state.
pub(crate) fn state(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    let dir = StateDir::of(globals, parsed.id()?)?;
    let record = dir.read()?;
    println!("{:#}", state::oci(&record, dir.status(&record)));
    Ok(())
}

/// Prints all containers.
pub(crate) fn list(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    let found = all(globals)?;
    if parsed.has("quiet") {
        found.iter().for_each(|(record, _)| println!("{}", record.id));
        return Ok(());
    }
    if parsed.value("format") == Some("json") {
        let states: Vec<_> = found.iter().map(|(record, status)| state::oci(record, *status)).collect();
        println!("{}", serde_json::Value::Array(states));
        return Ok(());
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED"].map(str::to_owned)];
    for (record, status) in &found {
        let pid = if *status == Status::Stopped { 0 } else { record.pid };
        rows.push([
            record.id.clone(),
            pid.to_string(),
            status.word().to_owned(),
            record.bundle.display().to_string(),
            record.created.clone(),
        ]);
    }
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        println!("{}", cells.join("   ").trim_end());
    }
    Ok(())
}

fn all(globals: &Globals) -> Result<Vec<(Record, Status)>, CliError> {
    let root = state::root(globals);
    let entries = match std::fs::read_dir(&root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| CliError::file("list", &root, e))?,
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(dir) = StateDir::of(globals, &entry.file_name().to_string_lossy()) else { continue };
        // One that is just being made or removed has no record.
        if let Ok(record) = dir.read() {
            let status = dir.status(&record);
            found.push((record, status));
        }
    }
    found.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    Ok(found)
}

/// Prints the processes in a container: pids as JSON, or the host's `ps` cut down to them.
pub(crate) fn ps(globals: &Globals, parsed: &Parsed) -> Result<(), CliError> {
    let record = StateDir::of(globals, parsed.id()?)?.read()?;
    let pids = Cgroups::new(&record.cgroups_path)?.pids()?;
    if parsed.value("format") == Some("json") {
        println!("{}", serde_json::json!(pids));
        return Ok(());
    }
    let pids: BTreeSet<String> = pids.iter().map(i32::to_string).collect();
    let mut options = parsed.operands.get(1..).unwrap_or(&[]).to_vec();
    if options.is_empty() {
        options.push("-ef".into());
    }
    let output = Command::new("ps").args(&options).output().map_err(|e| CliError::file("run", "ps", e))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let Some(header) = lines.next() else { return Ok(()) };
    let column = header
        .split_whitespace()
        .position(|title| title == "PID")
        .ok_or_else(|| CliError::State("ps printed no PID column".into()))?;
    println!("{header}");
    for line in lines.filter(|l| l.split_whitespace().nth(column).is_some_and(|pid| pids.contains(pid))) {
        println!("{line}");
    }
    Ok(())
}
