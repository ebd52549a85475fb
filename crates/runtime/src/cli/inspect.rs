//! `state`, `list`.

use super::args::{Globals, Parsed};
use super::error::CliError;
use super::state::{self, OciState, Record, StateDir, Status};

/// The OCI state.
pub(crate) fn state(globals: &Globals, parsed: &Parsed) -> Result<String, CliError> {
    let dir = StateDir::of(globals, parsed.id()?)?;
    let record = dir.read()?;
    let state = OciState::of(&record, dir.status(&record));
    serde_json::to_string_pretty(&state)
        .map(|text| text + "\n")
        .map_err(|source| CliError::Json { path: "state".into(), source })
}

/// All containers.
pub(crate) fn list(globals: &Globals, parsed: &Parsed) -> Result<String, CliError> {
    let json = parsed.wants_json()?;
    let found = all(globals)?;
    if parsed.has("quiet") {
        return Ok(found.iter().map(|(record, _)| format!("{}\n", record.id)).collect());
    }
    let states: Vec<_> = found.iter().map(|(record, status)| OciState::of(record, *status)).collect();
    if json {
        return serde_json::to_string(&states)
            .map(|text| text + "\n")
            .map_err(|source| CliError::Json { path: "states".into(), source });
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(states.iter().map(OciState::row));
    Ok(aligned(&rows))
}

/// Columns of the width of their longest cell, at least nine wide, three spaces apart.
fn aligned(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().filter_map(|r| r.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(|column| width(column).max(9)).collect();
    let line = |row: &[String; 6]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, w)| format!("{cell:<w$}")).collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
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
        // One that is just being removed has no record.
        match dir.read() {
            Ok(record) => {
                let status = dir.status(&record);
                found.push((record, status));
            }
            Err(CliError::NoContainer(_)) => {}
            Err(error) => globals.log.warn(&error.line()),
        }
    }
    found.sort_by(|a, b| a.0.id.cmp(&b.0.id));
    Ok(found)
}
