//! `GET /containers/{id}/top`: the host's `ps`, cut down to the container's processes.

use std::collections::HashSet;
use std::process::Stdio;

use regex_lite::Regex;
use seacow_spec::docker::container::TopResponse;
use tokio::process::Command;

use super::ContainerError;
use crate::Engine;
use crate::error::EngineError;

const DEFAULT_ARGUMENTS: &str = "-ef";

impl Engine {
    /// Lists a container's processes as `ps` with these arguments shows them.
    ///
    /// # Errors
    /// It does not run, or `ps` fails or hides the pids.
    pub async fn top(&self, reference: &str, arguments: &str) -> Result<TopResponse, EngineError> {
        let arguments = if arguments.is_empty() { DEFAULT_ARGUMENTS } else { arguments };
        check(arguments)?;
        let container = self.0.containers.find(reference)?;
        let pids: HashSet<i32> = container.live_shim()?.pids().await?.into_iter().collect();
        // Some formats cannot be combined with a list of pids; then all processes are asked for.
        let listed = pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let output = match ps(arguments, Some(&listed)).await {
            Ok(output) => output,
            Err(_) => ps(arguments, None).await?,
        };
        let top = cut(&output, &pids)?;
        self.emit(container.event("top", &[]));
        Ok(top)
    }
}

async fn ps(arguments: &str, pids: Option<&str>) -> Result<String, ContainerError> {
    let mut command = Command::new("ps");
    command.args(arguments.split_ascii_whitespace()).stdin(Stdio::null());
    if let Some(pids) = pids {
        command.arg(format!("-q{pids}"));
    }
    let output = command.output().await.map_err(|error| ContainerError::Ps(error.to_string()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().next().unwrap_or_default();
        return Err(ContainerError::Ps(format!("{}: {line}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Refuses formats that rename another column to PID (CVE-2018-style confusion Docker guards
/// against as well).
fn check(arguments: &str) -> Result<(), ContainerError> {
    let Ok(renamed) = Regex::new(r"\s+(\S*)=\s*(PID\S*)") else { return Ok(()) };
    for found in renamed.captures_iter(arguments) {
        let (column, title) =
            (found.get(1).map_or("", |m| m.as_str()), found.get(2).map_or("", |m| m.as_str()));
        if column != "pid" {
            return Err(ContainerError::PsArguments(format!(
                "specifying \"{column}={title}\" is not allowed"
            )));
        }
    }
    Ok(())
}

/// Keeps the rows of these pids. The last column takes the rest of its line.
fn cut(output: &str, pids: &HashSet<i32>) -> Result<TopResponse, ContainerError> {
    let mut lines = output.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
    let column = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| ContainerError::Ps("Couldn't find PID field in ps output".into()))?;
    let rows = lines.filter_map(|line| {
        let fields = fields(line, titles.len());
        let pid = fields.get(column)?.parse().ok()?;
        pids.contains(&pid).then_some(fields)
    });
    Ok(TopResponse { processes: rows.collect(), titles })
}

fn fields(line: &str, count: usize) -> Vec<String> {
    let mut fields = Vec::with_capacity(count);
    let mut rest = line.trim_start();
    while fields.len() + 1 < count {
        let Some(end) = rest.find(|c: char| c.is_ascii_whitespace()) else { break };
        let (field, tail) = rest.split_at(end);
        fields.push(field.to_owned());
        rest = tail.trim_start();
    }
    fields.push(rest.trim_end().to_owned());
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_container_only() {
        let output = "UID PID PPID CMD\nroot  7 1 sh -c a  b\nroot 70 1 other\n";
        let top = cut(output, &HashSet::from([7])).unwrap();
        assert_eq!(top.titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(top.processes, [["root", "7", "1", "sh -c a  b"]]);
        assert!(cut("CMD\nsh\n", &HashSet::new()).is_err());
    }

    #[test]
    fn columns_do_not_pose_as_pid() {
        assert!(check("-o ppid=PID").is_err());
        assert!(check("-o pid=PID,cmd").is_ok() && check("-ef").is_ok());
    }
}
