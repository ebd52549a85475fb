//! The validation programs of OCI runtime-tools.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::Runtime;
use super::bats::without_hybrid;
use super::fetch::Place;
use super::tap::{self, Outcome, Results, Test};

/// Seconds for one program. The slowest waits three times ten seconds for a container.
const TIME: &str = "120";

/// Runs the programs named by `parts`, such as `hooks`, or all.
pub(super) fn run(place: &Place, runtime: Runtime, program: &Path, parts: &[String]) -> Result<Results> {
    let out = place.results("runtime-tools", runtime)?;
    let mut results = Results::default();
    for name in place.validations()?.into_iter().filter(|n| parts.is_empty() || parts.contains(n)) {
        println!("runtime-tools: {name}");
        let test = format!("validation/{name}/{name}.t");
        let mut command = match runtime {
            Runtime::Seacow | Runtime::Runc => Command::new("timeout"),
            Runtime::Crun => without_hybrid("timeout"),
        };
        command.args([TIME, &test]).current_dir(place.tools_tree());
        command.env("RUNTIME", program).env("TMPDIR", place.dir.join("tmp"));
        std::fs::create_dir_all(place.dir.join("tmp"))?;
        let output = command.stdin(std::process::Stdio::null()).output().context("run timeout")?;
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        std::fs::write(out.join(format!("{name}.tap")), format!("{text}\n{errors}"))?;
        let mut tests = tap::read(&text);
        if !output.status.success() {
            // It gave up without a result of its own; why is in its output.
            tests.push(Test { name: output.status.to_string(), outcome: Outcome::Failed });
        }
        results.parts.insert(name, tests);
    }
    Ok(results)
}
