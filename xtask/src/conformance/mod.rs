//! Public suites that judge OCI runtimes, run against ours or a peer's.
//!
//! - *runc-bats*: the integration tests in Debian's source package of runc.
//! - *runtime-tools*: the validation programs of OCI runtime-tools, likewise.
//!
//! Everything is fetched from Debian, unpacked and built below `target/conformance`; the suites
//! themselves are not changed. What is known to fail, and why, is the table in
//! `docs/conformance.md`: a failure of ours that is not in it fails the command.

mod bats;
mod fetch;
mod tap;
mod validation;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use self::tap::{Outcome, Results};
use crate::{build, shell};

/// Who is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runtime {
    Seacow,
    Runc,
    Crun,
}

impl Runtime {
    fn named(name: &str) -> Result<Self> {
        Ok(match name {
            "seacow" => Self::Seacow,
            "runc" => Self::Runc,
            "crun" => Self::Crun,
            other => bail!("unknown runtime {other:?}: seacow, runc or crun"),
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Seacow => "seacow",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }
}

/// A suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suite {
    RuncBats,
    RuntimeTools,
}

impl Suite {
    fn named(name: &str) -> Option<Self> {
        match name {
            "runc-bats" => Some(Self::RuncBats),
            "runtime-tools" => Some(Self::RuntimeTools),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::RuncBats => "runc-bats",
            Self::RuntimeTools => "runtime-tools",
        }
    }
}

/// `[runc-bats|runtime-tools] [--runtime NAME] [PART…]`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    shell::become_root()?;
    let mut suites = vec![Suite::RuncBats, Suite::RuntimeTools];
    let mut runtime = Runtime::Seacow;
    let mut parts = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--runtime" {
            runtime = Runtime::named(args.next().context("--runtime needs a name")?)?;
        } else if let Some(suite) = Suite::named(arg) {
            suites = vec![suite];
        } else {
            parts.push(arg.clone());
        }
    }
    let place = fetch::prepare()?;
    let program = program(runtime, &place)?;
    let mut unexpected = Vec::new();
    for suite in suites {
        let results = match suite {
            Suite::RuncBats => bats::run(&place, runtime, &program, &parts)?,
            Suite::RuntimeTools => validation::run(&place, runtime, &program, &parts)?,
        };
        print(suite, runtime, &results);
        if runtime == Runtime::Seacow {
            unexpected.extend(compare(suite, &results)?);
        }
    }
    if unexpected.is_empty() {
        return Ok(());
    }
    bail!("not in docs/conformance.md: {}", unexpected.join("; "))
}

/// The runtime as the suites call it. They believe it is called runc.
fn program(runtime: Runtime, place: &fetch::Place) -> Result<PathBuf> {
    let dir = place.dir.join("runtimes").join(runtime.name());
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let link = dir.join("runc");
    let _ = std::fs::remove_file(&link);
    match runtime {
        Runtime::Seacow => {
            // Built before, as the end-to-end tests take it, or now.
            let dist = std::env::var_os("SEACOW_DIST").map_or_else(build::dist, |dir| Ok(dir.into()))?;
            link_to(&dist.join("seacow-runtime"), &link)?;
        }
        Runtime::Runc => link_to(&place.runc_tree().join("runc"), &link)?,
        Runtime::Crun => link_to(&place.crun()?, &link)?,
    }
    Ok(link)
}

fn link_to(target: &Path, link: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, link).with_context(|| format!("link {}", link.display()))
}

fn print(suite: Suite, runtime: Runtime, results: &Results) {
    println!("\n{} with {}", suite.name(), runtime.name());
    println!("{:<32} {:>6} {:>8} {:>8}", "part", "ok", "skipped", "failed");
    for (part, tests) in &results.parts {
        let count = |outcome: Outcome| tests.iter().filter(|t| t.outcome == outcome).count();
        let (ok, skipped, failed) = (count(Outcome::Passed), count(Outcome::Skipped), count(Outcome::Failed));
        println!("{part:<32} {ok:>6} {skipped:>8} {failed:>8}");
    }
    let total = |outcome: Outcome| results.count(outcome);
    println!(
        "{:<32} {:>6} {:>8} {:>8}",
        "all",
        total(Outcome::Passed),
        total(Outcome::Skipped),
        total(Outcome::Failed)
    );
    for (part, test) in results.failed() {
        println!("failed: {part}: {test}");
    }
}

/// Failures that nobody has explained, and explained ones that now pass (said, but no error).
fn compare(suite: Suite, results: &Results) -> Result<Vec<String>> {
    let known = known(suite)?;
    let mut unexpected = Vec::new();
    let mut failed = BTreeMap::new();
    for (part, test) in results.failed() {
        failed.insert(format!("{part}: {test}"), ());
        let name = format!("{part}: {test}");
        if !known.contains(&name) {
            unexpected.push(name);
        }
    }
    for name in known {
        let part = name.split(':').next().unwrap_or_default();
        if results.parts.contains_key(part) && !failed.contains_key(&name) {
            println!("passes, though docs/conformance.md has it as failing: {name}");
        }
    }
    Ok(unexpected)
}

/// Tests in the documentation's table that fail with ours: `| suite | part: test | fails | … |`.
fn known(suite: Suite) -> Result<Vec<String>> {
    let path = shell::root().join("docs/conformance.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (named, test, ours) = (cells.next()?, cells.next()?, cells.next()?);
        (named == suite.name() && ours == "fails").then(|| test.trim_matches('`').to_owned())
    };
    Ok(text.lines().filter_map(row).collect())
}
